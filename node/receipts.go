package node

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// A hub that takes pending records signs by when they will be ordered. The box that
// gave them keeps two of these promises for each hub and feed, until the ledger has
// the records under a final checkpoint: the oldest that is open, so that no later
// promise puts off the day, and the newest. When a majority of the hubs vouches
// for a later time and the record is not there, the promise and that checkpoint
// together are evidence.
//
//	rcp/ hub epoch lane which    receipt (record.Receipt); which is 0 for the oldest, 1 for the newest
const (
	receiptOldest = 0
	receiptNewest = 1
)

// receiptsMax bounds the promises that are kept; hubs times open feeds is far less.
const receiptsMax = 4096

// promises is the receipts of this box.
type promises struct {
	mu    sync.Mutex // one change at a time
	count int        // rows, as far as this process knows; guarded by mu
	came  uint64     // receipts kept by this process, and one; guarded by mu
}

func receiptKey(hub record.DeviceID, f record.Feed, which byte) []byte {
	k := append(append([]byte("rcp/"), hub[:]...), f.Epoch[:]...)
	return append(k, byte(f.Lane), which)
}

// promise signs, on a hub, what it took and by when that will be ordered.
func (n *Node) promise(heads []record.ReceiptHead) (record.Receipt, bool) {
	region, ok := n.box.RegionID()
	if !ok || n.frozen() {
		return record.Receipt{}, false
	}
	now := n.o.Now()
	return record.SignReceipt(region, now.Unix(), now.Add(n.o.PromiseAfter).Unix(), heads, n.author.Key), true
}

// takeReceipt keeps a hub's promise about records held here.
func (n *Node) takeReceipt(hub record.DeviceID, r record.Receipt) error {
	n.promises.mu.Lock()
	defer n.promises.mu.Unlock()
	var rows []store.Row
	for _, h := range r.Heads {
		if done, err := n.confirmedAt(h.Position); err != nil {
			return err
		} else if done || n.promises.count+len(rows) >= receiptsMax {
			continue
		}
		oldest, newest := receiptKey(hub, h.Feed(), receiptOldest), receiptKey(hub, h.Feed(), receiptNewest)
		old, had, err := n.receiptRow(oldest)
		if err != nil {
			return err
		}
		switch at, ok := headOf(&old, h.Feed()); {
		case !had || !ok || at.N == h.N && r.By < old.By:
			rows = append(rows, store.Row{Key: oldest, Value: r.Encode()})
		case at.N == h.N: // the same promise again, for later
		default:
			last, had, err := n.receiptRow(newest)
			if err != nil {
				return err
			}
			if at, ok := headOf(&last, h.Feed()); !had || !ok || h.N > at.N {
				rows = append(rows, store.Row{Key: newest, Value: r.Encode()})
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	n.promises.count += len(rows)
	n.promises.came++
	return unlessFull(n.store.PutRowsSoon(context.Background(), rows)) // a hub promises again what a crash forgot
}

func (n *Node) receiptRow(key []byte) (record.Receipt, bool, error) {
	raw, err := n.store.GetRow(key)
	if errors.Is(err, store.ErrNotFound) {
		return record.Receipt{}, false, nil
	}
	var r record.Receipt
	if err == nil {
		r, err = record.DecodeReceipt(raw)
	}
	if err != nil {
		return r, false, fmt.Errorf("reading a receipt: %w", err)
	}
	return r, true, nil
}

// headOf is what a receipt says of a feed.
func headOf(r *record.Receipt, f record.Feed) (record.ReceiptHead, bool) {
	for _, h := range r.Heads {
		if h.Feed() == f {
			return h, true
		}
	}
	return record.ReceiptHead{}, false
}

// confirmedAt reports whether a position has an entry under a final checkpoint.
func (n *Node) confirmedAt(p record.Position) (bool, error) {
	seq, _, ok, err := n.store.State().Ordered(p)
	if err != nil || !ok {
		return false, err
	}
	_, final, _ := n.store.Final()
	return seq < final.Size, nil
}

// keptPromise is one row.
type keptPromise struct {
	key     []byte
	receipt record.Receipt
	head    record.ReceiptHead
}

// checkPromises drops the promises that were kept and makes evidence of those that
// were broken.
func (n *Node) checkPromises(ctx context.Context) error {
	if n.box.Role.Orders() {
		return nil
	}
	n.promises.mu.Lock()
	defer n.promises.mu.Unlock()
	kept, err := n.keptPromises()
	if err != nil {
		return err
	}
	n.promises.count = len(kept)
	if len(kept) == 0 {
		return nil
	}
	vouched := n.finalTime()
	var rows []store.Row
	for i := range kept {
		more, err := n.checkPromise(&kept[i], vouched)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
	}
	if len(rows) == 0 {
		return nil
	}
	return n.store.PutRows(ctx, rows)
}

func (n *Node) keptPromises() ([]keptPromise, error) {
	var out []keptPromise
	var bad error
	err := n.store.ScanRows([]byte("rcp/"), receiptsMax, func(k, v []byte) bool {
		const tail = 16 + 2 // epoch, lane, which
		r, err := record.DecodeReceipt(v)
		if err != nil || len(k) != len("rcp/")+32+tail {
			bad = fmt.Errorf("reading a receipt: %w", errors.Join(record.ErrMalformed, err))
			return false
		}
		at := k[len("rcp/")+32:]
		f := record.Feed{Epoch: record.EpochID(at[:16]), Lane: record.Lane(at[16])}
		if h, ok := headOf(&r, f); ok {
			out = append(out, keptPromise{append([]byte(nil), k...), r, h})
		}
		return true
	})
	return out, errors.Join(err, bad)
}

// checkPromise gives the rows that settle a promise: a kept one gives way to the
// newest of its feed, a broken one is told and goes.
func (n *Node) checkPromise(p *keptPromise, vouched int64) ([]store.Row, error) {
	done, err := n.confirmedAt(p.head.Position)
	if err != nil {
		return nil, err
	}
	if done || n.settledElsewhere(p.head) {
		return n.nextPromise(p)
	}
	if p.key[len(p.key)-1] != receiptOldest || vouched <= p.receipt.By {
		return nil, nil
	}
	_, final, ok := n.store.Final()
	if !ok {
		return nil, nil
	}
	missing, err := n.missing(p.head, final.Size)
	if err != nil {
		return nil, err
	}
	if !missing {
		return n.nextPromise(p)
	}
	return n.broken(p)
}

// settledElsewhere reports whether a promised record was written again, after
// which nobody can keep the promise about it.
func (n *Node) settledElsewhere(h record.ReceiptHead) bool {
	_, done, err := n.standsFor(h.RID)
	return err == nil && done
}

func (n *Node) nextPromise(p *keptPromise) ([]store.Row, error) {
	rows := []store.Row{{Key: p.key}}
	if p.key[len(p.key)-1] != receiptOldest {
		return rows, nil
	}
	newest := receiptKey(p.receipt.Hub, p.head.Feed(), receiptNewest)
	r, ok, err := n.receiptRow(newest)
	if err != nil || !ok {
		return rows, err
	}
	return []store.Row{{Key: p.key, Value: r.Encode()}, {Key: newest}}, nil
}

// broken makes the evidence, tells staff, and gives the records to another hub.
func (n *Node) broken(p *keptPromise) ([]store.Row, error) {
	note, _, _ := n.store.Final()
	e, err := record.NewBrokenPromise(n.ledgerID(), p.receipt, note, n.hubs())
	if err != nil {
		n.log.Warn().Err(err).Msg("a broken promise that proves nothing")
		return []store.Row{{Key: p.key}}, nil // of a hub that is none any more
	}
	err = n.keepEvidence(n.author.Device, e)
	if errors.Is(err, errNoEvidence) || errors.Is(err, record.ErrNotProven) {
		return []store.Row{{Key: p.key}}, nil
	}
	if err != nil {
		return nil, err
	}
	n.anotherThan(p.receipt.Hub)
	return []store.Row{{Key: p.key}}, nil
}

// passedOn gives the promises of hubs about records of a box that are open here,
// when one came after seen: who carried the records brings them back.
func (n *Node) passedOn(to record.DeviceID, seen uint64) ([]record.Receipt, uint64) {
	n.promises.mu.Lock()
	defer n.promises.mu.Unlock()
	now := n.promises.came + 1
	if now == seen {
		return nil, seen
	}
	list, err := n.openPromises(func(d record.DeviceID) bool { return d == to })
	if err != nil {
		n.log.Warn().Err(err).Msg("reading promises to pass on")
	}
	return list, now
}

// openPromises gives each promise about pending records of certain authors once.
// The caller holds promises.mu.
func (n *Node) openPromises(of func(author record.DeviceID) bool) ([]record.Receipt, error) {
	feeds, err := n.store.PendingFeeds()
	if err != nil {
		return nil, err
	}
	open := map[record.Feed]bool{}
	for _, f := range feeds {
		if of(f.Author) {
			open[f.Feed] = true
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	kept, err := n.keptPromises()
	if err != nil {
		return nil, err
	}
	var out []record.Receipt
	told := map[[64]byte]bool{}
	for i := range kept {
		if k := &kept[i]; open[k.head.Feed()] && !told[k.receipt.Sig] {
			told[k.receipt.Sig] = true
			out = append(out, k.receipt)
		}
	}
	return out, nil
}
