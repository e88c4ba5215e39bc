package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// book is a ledger as a liar keeps it: entries that the ordering rules made, or
// any others, under checkpoints that whoever lies has signed.
type book struct {
	name   string
	rules  *model // as far as the entries are lawful
	leaves [][]byte
	list   []record.Entry
	stored []tlog.Hash // in package tlog's order
	edge   record.Range
	roots  []record.Hash // by size

	note  []byte // the newest that the liars show
	final record.TreeHead
}

func newBook(name string) *book {
	return &book{name: name, rules: newModel(), roots: []record.Hash{record.EmptyRoot}}
}

func (k *book) head() record.TreeHead { return k.edge.Head() }

// fork is another book with the first entries of this one.
func (k *book) fork(name string, size uint64) (*book, error) {
	f := newBook(name)
	for i := range k.list[:size] {
		e := &k.list[i]
		b := record.Batch{LeaderMillis: e.Time * 1000, Records: []record.Record{e.Record}}
		if _, err := f.order(b); err != nil {
			return nil, err
		}
		if got := f.head(); got.Root != k.roots[i+1] {
			return nil, fmt.Errorf("forking a book: entry %d came out another way", i)
		}
	}
	return f, nil
}

// order adds what the ordering rules make of a batch.
func (k *book) order(b record.Batch) ([]record.Outcome, error) {
	index := uint64(len(k.rules.at) + 1)
	from := k.rules.size()
	if _, err := k.rules.apply(index, b.Encode()); err != nil {
		return nil, err
	}
	for _, e := range k.rules.entries[from:] {
		if err := k.force(e, e.EncodeLeaf()); err != nil {
			return nil, err
		}
	}
	return k.rules.outcomes[index], nil
}

// force adds an entry, or only its leaf, without asking the rules.
func (k *book) force(e record.Entry, leaf []byte) error {
	n := int64(len(k.leaves))
	more, err := tlog.StoredHashesForRecordHash(n, tlog.Hash(record.LeafHash(leaf)), k.reader())
	if err != nil {
		return fmt.Errorf("adding to a book: %w", err)
	}
	k.stored = append(k.stored, more...)
	k.edge.Append(record.LeafHash(leaf))
	k.leaves, k.list, k.roots = append(k.leaves, leaf), append(k.list, e), append(k.roots, k.edge.Root())
	return nil
}

func (k *book) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = k.stored[x]
		}
		return out, nil
	})
}

// consistency proves what the book was a prefix of what it is.
func (k *book) consistency(old, new uint64) ([]record.Hash, error) {
	if old == 0 || old == new {
		return nil, nil
	}
	p, err := tlog.ProveTree(int64(new), int64(old), k.reader())
	out := make([]record.Hash, len(p))
	for i := range p {
		out[i] = record.Hash(p[i])
	}
	return out, err
}

// show has liars sign the book as it is.
func (k *book) show(w *world, at int64, liars []*box) error {
	k.final, k.note = k.head(), nil
	for _, h := range liars {
		note, err := record.Cosign(w.region.Ledger(1), k.final, h.author.Key, at)
		if err == nil && k.note != nil {
			note, err = record.MergeCosignatures(w.region.Ledger(1), k.note, note, w.hubIDs())
		}
		if err != nil {
			return err
		}
		k.note = note
	}
	return nil
}

// pool is what liars took from others and hold, or say that they hold.
type pool struct {
	feeds   []record.Feed // in the order they came
	runs    map[record.Feed][]record.Record
	opening map[record.EpochID]record.Record
}

func newPool() *pool {
	return &pool{runs: map[record.Feed][]record.Record{}, opening: map[record.EpochID]record.Record{}}
}

func (p *pool) take(r record.Record) {
	f := r.Position().Feed()
	if r.Core.Kind == record.KindEpochOpen {
		p.opening[f.Epoch] = r
		return
	}
	if _, ok := p.runs[f]; !ok {
		p.feeds = append(p.feeds, f)
	}
	if !slices.ContainsFunc(p.runs[f], func(x record.Record) bool { return x.RID() == r.RID() }) {
		p.runs[f] = append(p.runs[f], r)
	}
}

// mask is a book as a hostile hub shows it to one peer.
type mask struct {
	*book
	pool    *pool
	peer    *box
	refused []peersync.Refusal
}

var _ peersync.Replica = (*mask)(nil)

func (m *mask) Head() record.TreeHead { return m.head() }

// RootAt agrees with whatever the peer has: a liar does not mind a contradiction.
func (m *mask) RootAt(size uint64) (record.Hash, error) {
	if m.peer.st != nil {
		if h := m.peer.st.Head(); size <= h.Size {
			return m.peer.st.RootAt(size)
		}
	}
	return m.roots[size], nil
}

func (m *mask) Final() ([]byte, record.TreeHead, bool) { return m.note, m.final, m.note != nil }

func (m *mask) PutFinal([]byte, record.TreeHead) error { return nil }

func (m *mask) PendingFeeds() ([]peersync.PendingFeed, error) { return nil, nil }

func (m *mask) Pending(record.Feed, uint64, int) ([]record.Record, error) { return nil, nil }

func (m *mask) HeldRID(p record.Position) (record.RID, bool, error) {
	if seq, ok := m.rules.ordered[p]; ok {
		return m.rules.entries[seq].Record.RID(), true, nil
	}
	r, ok, err := m.Held(p)
	return r.RID(), ok, err
}

// Held implements record.Holder.
func (m *mask) Held(p record.Position) (record.Record, bool, error) {
	if p.N == 0 {
		if r, ok := m.pool.opening[p.Epoch]; ok {
			return r, true, nil
		}
		if e, ok := m.rules.epochs[p.Epoch]; ok {
			return m.rules.entries[m.rules.rids[e.Opening]].Record, true, nil
		}
		return record.Record{}, false, nil
	}
	for _, r := range m.pool.runs[p.Feed()] {
		if r.Position().N == p.N {
			return r, true, nil
		}
	}
	return record.Record{}, false, nil
}

// holder is the mask as package record reads it.
type holder struct{ *mask }

func (h holder) Head(f record.Feed) (record.Head, bool, error) { return modelState{h.rules}.Head(f) }

func (m *mask) Holder() record.Holder { return holder{m} }

func (m *mask) Ingest(_ context.Context, _ record.DeviceID, recs []record.Record) (peersync.Ingested, error) {
	in := peersync.Ingested{New: len(recs)}
	for _, r := range recs {
		m.pool.take(r)
		in.Heads = append(in.Heads, record.FeedHead{Feed: r.Position().Feed(), N: r.Position().N})
	}
	return in, nil
}

func (m *mask) PutAck(record.DeviceID, []record.FeedHead) error { return nil }

func (m *mask) Acked(record.DeviceID) ([]record.FeedHead, error) { return nil, nil }

func (m *mask) Refused() ([]peersync.Refusal, error) { return m.refused, nil }

func (m *mask) PutRefused(record.Outcome, record.DeviceID) error { return nil }

func (m *mask) Entries(from, to uint64, _ int) ([]record.Entry, error) {
	return m.list[from:min(to, from+64)], nil
}

func (m *mask) ConsistencyProof(old, new uint64) ([]record.Hash, error) {
	return m.consistency(old, new)
}

var errMask = errors.New("a liar takes no entries")

func (m *mask) Extend(context.Context, []record.Entry, record.TreeHead, []record.Hash) error {
	return errMask
}

func (m *mask) Subscribe(context.Context) <-chan struct{} { return nil }
