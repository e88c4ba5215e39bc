package record

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"fmt"
	"slices"
)

// ReceiptHead says that a hub holds this record and all before it in its feed.
type ReceiptHead struct {
	Position
	RID RID
}

// Receipt is a hub's signed promise that what it took is in the ledger by a time.
// A final checkpoint of a later time over a ledger without it is evidence against
// the hub (NewBrokenPromise).
//
//	receipt = [hub(32), taken, by, [[epoch(16), lane, n, rid(32)], ...], sig(64)]
//	sig     = Ed25519(hub, "hp:receipt:1\0" || region || [taken, by, [[epoch, lane, n, rid], ...]])
type Receipt struct {
	Hub       DeviceID
	Taken, By int64         // Unix seconds, by the hub's clock
	Heads     []ReceiptHead // by ascending epoch and lane, one a feed
	Sig       [64]byte
}

// ReceiptHeadsMax is how many feeds one receipt names.
const ReceiptHeadsMax = 64

const (
	domainReceipt   = "hp:receipt:1\x00"
	receiptBytesMax = 6 << 10
	secondsMax      = 1 << 62
)

type receiptHead struct {
	_     struct{} `cbor:",toarray"`
	Epoch []byte
	Lane  uint8
	N     uint64
	RID   []byte
}

type receiptClaim struct {
	_         struct{} `cbor:",toarray"`
	Taken, By int64
	Heads     []receiptHead
}

type receiptArray struct {
	_         struct{} `cbor:",toarray"`
	Hub       []byte
	Taken, By int64
	Heads     []receiptHead
	Sig       []byte
}

func (r *Receipt) heads() []receiptHead {
	out := make([]receiptHead, 0, len(r.Heads))
	for i := range r.Heads {
		h := &r.Heads[i]
		out = append(out, receiptHead{Epoch: h.Epoch[:], Lane: uint8(h.Lane), N: h.N, RID: h.RID[:]})
	}
	return out
}

func (r *Receipt) claim(region RegionID) []byte {
	b := append([]byte(domainReceipt), region[:]...)
	return append(b, mustMarshal(receiptClaim{Taken: r.Taken, By: r.By, Heads: r.heads()})...)
}

func compareFeeds(a, b Feed) int {
	return cmp.Or(bytes.Compare(a.Epoch[:], b.Epoch[:]), cmp.Compare(a.Lane, b.Lane))
}

// SignReceipt promises the heads, at most one a feed: the furthest. What is more
// than ReceiptHeadsMax feeds is left out of the promise.
func SignReceipt(region RegionID, taken, by int64, heads []ReceiptHead, hub ed25519.PrivateKey) Receipt {
	r := Receipt{Hub: DeviceID(hub.Public().(ed25519.PublicKey)), Taken: taken, By: by, Heads: slices.Clone(heads)}
	slices.SortStableFunc(r.Heads, func(a, b ReceiptHead) int {
		return cmp.Or(compareFeeds(a.Feed(), b.Feed()), cmp.Compare(b.N, a.N))
	})
	r.Heads = slices.CompactFunc(r.Heads, func(a, b ReceiptHead) bool { return a.Feed() == b.Feed() })
	r.Heads = r.Heads[:min(len(r.Heads), ReceiptHeadsMax)]
	copy(r.Sig[:], ed25519.Sign(hub, r.claim(region)))
	return r
}

// check holds a receipt against what its encoding can say.
func (r *Receipt) check() error {
	if n := len(r.Heads); n == 0 || n > ReceiptHeadsMax || r.Taken < 0 || r.By < r.Taken || r.By > secondsMax {
		return fmt.Errorf("reading receipt: %w: %d heads, from %d to %d", ErrMalformed, n, r.Taken, r.By)
	}
	for i := range r.Heads {
		h := &r.Heads[i]
		if h.Lane >= LaneCount || h.N == 0 && h.Lane != LaneControl || i > 0 && compareFeeds(r.Heads[i-1].Feed(), h.Feed()) >= 0 {
			return fmt.Errorf("reading receipt: %w: head %d", ErrMalformed, i)
		}
	}
	return nil
}

// Verify checks the hub's signature. ErrMalformed, or ErrSignature when it is not
// this hub's or for another region. Whether Hub is a hub is the caller's to see.
func (r *Receipt) Verify(region RegionID) error {
	if err := r.check(); err != nil {
		return err
	}
	if !ed25519.Verify(r.Hub[:], r.claim(region), r.Sig[:]) {
		return fmt.Errorf("verifying receipt: %w", ErrSignature)
	}
	return nil
}

// Encode gives the bytes that a box keeps and evidence carries.
func (r *Receipt) Encode() []byte {
	return mustMarshal(receiptArray{Hub: r.Hub[:], Taken: r.Taken, By: r.By, Heads: r.heads(), Sig: r.Sig[:]})
}

// DecodeReceipt reads what Encode gave. It verifies no signature. The error wraps
// ErrMalformed.
func DecodeReceipt(b []byte) (Receipt, error) {
	if len(b) > receiptBytesMax {
		return Receipt{}, fmt.Errorf("reading receipt: %w: %d bytes", ErrMalformed, len(b))
	}
	var a receiptArray
	if err := Unmarshal(b, &a); err != nil {
		return Receipt{}, fmt.Errorf("reading receipt: %w", err)
	}
	r := Receipt{Taken: a.Taken, By: a.By}
	err := firstError(copyFixed(r.Hub[:], a.Hub, "hub"), copyFixed(r.Sig[:], a.Sig, "signature"))
	for _, x := range a.Heads {
		h := ReceiptHead{Position: Position{Lane: Lane(x.Lane), N: x.N}}
		err = firstError(err, copyFixed(h.Epoch[:], x.Epoch, "epoch"), copyFixed(h.RID[:], x.RID, "record id"))
		r.Heads = append(r.Heads, h)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("reading receipt: %w", err)
	}
	return r, r.check()
}
