package node

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// An emergency is a record of KindBreakGlass in the patient's compartment, in the
// urgent lane: who opened the summary, with whom, and why, signed with the keys of
// both. That somebody looked into it is another one, which names the first. They are
// no part of the chart. What is laid out of them:
//
//	glass/ compartment (16) ^hlc (8) rid (32)   sealed glassRow
//	glo/   hlc (8) rid (32)                     sealed compartment, while nobody looked into it
const (
	glassDomain = "hp:break-glass:1\x00"
	glassMax    = 200 // emergencies that one list reads
)

// glassBody is the plain text of the record.
type glassBody struct {
	_     struct{} `cbor:",toarray"`
	V     uint8
	Claim []byte   // glassClaim, as it was signed
	Sigs  [][]byte // Ed25519 over glassDomain and Claim, by the keys in the claim, in their order
}

// glassClaim is what the persons in it sign.
type glassClaim struct {
	_           struct{} `cbor:",toarray"`
	Compartment []byte
	HLC         uint64
	Of          []byte   // rid of the emergency that was looked into; empty for an emergency itself
	Staff       [][]byte // keys: of who opened it and of the second person, or of who looked into it
	Words       string   // reason or note
}

// signGlass makes the plain text of a record.
func signGlass(claim glassClaim, keys ...ed25519.PrivateKey) ([]byte, error) {
	for _, k := range keys {
		claim.Staff = append(claim.Staff, k.Public().(ed25519.PublicKey))
	}
	plain, err := record.Marshal(claim)
	if err != nil {
		return nil, err
	}
	b := glassBody{V: 1, Claim: plain}
	for _, k := range keys {
		b.Sigs = append(b.Sigs, ed25519.Sign(k, append([]byte(glassDomain), plain...)))
	}
	return record.Marshal(b)
}

// decodeGlass reads what a record in compartment c says, if those whom it names signed it.
func decodeGlass(plain []byte, c record.CompartmentID) (glassClaim, error) {
	var b glassBody
	var claim glassClaim
	err := record.Unmarshal(plain, &b)
	if err == nil && b.V == 1 {
		err = record.Unmarshal(b.Claim, &claim)
	}
	want := 2
	if len(claim.Of) > 0 {
		want = 1
	}
	if err != nil || b.V != 1 || !bytes.Equal(claim.Compartment, c[:]) || len(claim.Of) != 0 && len(claim.Of) != len(record.RID{}) ||
		len(claim.Staff) != want || len(b.Sigs) != want || !utf8.ValidString(claim.Words) || utf8.RuneCountInString(claim.Words) > web.ReasonMax {
		return claim, fmt.Errorf("reading an emergency: %w", record.ErrMalformed)
	}
	for i, key := range claim.Staff {
		if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(glassDomain), b.Claim...), b.Sigs[i]) {
			return claim, fmt.Errorf("reading an emergency: %w", record.ErrMalformed)
		}
	}
	if want == 2 && bytes.Equal(claim.Staff[0], claim.Staff[1]) {
		return claim, fmt.Errorf("reading an emergency: one person twice: %w", record.ErrMalformed)
	}
	return claim, nil
}

// glassRow is one emergency as lists read it.
type glassRow struct {
	_           struct{} `cbor:",toarray"`
	Compartment []byte
	RID         []byte
	Device      []byte // 32
	HLC         uint64
	Staff       [][]byte // two keys
	Words       string
	By          []byte // key of who looked into it; empty while nobody did
	At          uint64 // hlc of that
	Note        string
}

func glassKey(c []byte, hlc uint64, rid []byte) []byte {
	return append(binary.BigEndian.AppendUint64(append([]byte("glass/"), c...), math.MaxUint64-hlc), rid...)
}

func waitingGlassKey(hlc uint64, rid []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("glo/"), hlc), rid...)
}

// glass lays out the emergencies of a compartment. dim becomes true when a record waits for a dictionary.
func (p *projection) glass(c record.CompartmentID, recs []store.Placed, dim bool) (bool, error) {
	events := map[record.RID]*glassRow{}
	type seen struct {
		claim glassClaim
		rid   record.RID
	}
	var reviews []seen
	for i := range recs {
		x := &recs[i].Record
		plain, err := p.n.vault.open(x)
		var unknown *seal.UnknownDictionary
		dim = dim || errors.As(err, &unknown)
		if x.Body == nil || errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrNewer) || errors.Is(err, seal.ErrDamaged) {
			continue // it may come, or is verify's to tell
		}
		if err != nil {
			return dim, err
		}
		claim, err := decodeGlass(plain, c)
		if err != nil {
			continue // a member's nonsense is nobody's emergency
		}
		_, rid := asFirst(*x)
		if len(claim.Of) > 0 {
			reviews = append(reviews, seen{claim, rid})
			continue
		}
		d, ok, err := p.n.store.EpochAuthor(x.Core.Epoch)
		if err != nil {
			return dim, err
		}
		if ok {
			events[rid] = &glassRow{Compartment: c[:], RID: rid[:], Device: d[:], HLC: claim.HLC, Staff: claim.Staff, Words: claim.Words}
		}
	}
	slices.SortFunc(reviews, func(a, b seen) int { // of several the first counts, on every box the same
		if a.claim.HLC != b.claim.HLC {
			return cmp.Compare(a.claim.HLC, b.claim.HLC)
		}
		return bytes.Compare(a.rid[:], b.rid[:])
	})
	for _, r := range reviews {
		e := events[record.RID(r.claim.Of)]
		if e != nil && len(e.By) == 0 && !slices.ContainsFunc(e.Staff, func(k []byte) bool { return bytes.Equal(k, r.claim.Staff[0]) }) {
			e.By, e.At, e.Note = r.claim.Staff[0], r.claim.HLC, r.claim.Words
		}
	}
	for _, e := range events {
		if err := p.glassRows(e); err != nil {
			return dim, err
		}
	}
	return dim, nil
}

func (p *projection) glassRows(e *glassRow) error {
	plain, err := record.Marshal(e)
	if err != nil {
		return err
	}
	if err := p.putChanged(glassKey(e.Compartment, e.HLC, e.RID), plain); err != nil {
		return err
	}
	key := waitingGlassKey(e.HLC, e.RID)
	if len(e.By) == 0 {
		return p.putChanged(key, e.Compartment)
	}
	if _, err := p.n.store.GetRow(key); err == nil {
		p.put(store.Row{Key: key})
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}
