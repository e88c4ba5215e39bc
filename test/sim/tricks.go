package sim

import (
	"crypto/ed25519"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// trick is a lie told at one contact, by way of a book that no honest hub could
// have. What the box at the other end holds must be the same afterwards.
type trick struct {
	name string
	make func(g *gang, k *book, c *box) (*book, error) // nil: there is nothing to make it of
}

var tricks = []trick{
	{"a record left out of its lane", func(g *gang, k *book, _ *box) (*book, error) {
		return g.spoiled(k, 2, func(r []record.Record) []record.Record { return r[1:] }, nil)
	}},
	{"a lane in another order", func(g *gang, k *book, _ *box) (*book, error) {
		return g.spoiled(k, 2, func(r []record.Record) []record.Record { return []record.Record{r[1], r[0]} }, nil)
	}},
	{"a record twice", func(g *gang, k *book, _ *box) (*book, error) {
		return g.spoiled(k, 1, func(r []record.Record) []record.Record { return []record.Record{r[0], r[0]} }, nil)
	}},
	{"a changed body", func(g *gang, k *book, c *box) (*book, error) {
		return g.spoiled(k, 1, func(r []record.Record) []record.Record {
			if _, held, err := c.st.HeldRID(r[0].Position()); err != nil || held {
				return nil // it has the body from elsewhere, and would take the entry
			}
			body := append([]byte(nil), r[0].Body...)
			if len(body) == 0 {
				return nil
			}
			body[g.w.rng.IntN(len(body))] ^= 1
			return []record.Record{r[0].WithBody(body)}
		}, nil)
	}},
	{"a time before the last entry's", func(g *gang, k *book, _ *box) (*book, error) {
		return g.spoiled(k, 1, nil, func(e *record.Entry) { e.Time = k.list[len(k.list)-1].Time - 1 - int64(g.w.rng.IntN(1000)) })
	}},
	{"another previous entry", func(g *gang, k *book, _ *box) (*book, error) {
		return g.spoiled(k, 1, nil, func(e *record.Entry) { e.PrevSeq = e.PrevSeq ^ 1 })
	}},
	{"a record that nobody wrote", forgedRecord},
	{"a root that is not the entries'", func(g *gang, k *book, _ *box) (*book, error) {
		f, err := g.spoiled(k, 1, nil, nil)
		if f == nil || err != nil {
			return f, err
		}
		f.roots[len(f.roots)-1][g.w.rng.IntN(32)] ^= 1
		f.final.Root = f.roots[len(f.roots)-1]
		return f, g.signAs(f, g.w.region.Ledger(1), f.final)
	}},
	{"another history", rewritten},
	{"the next generation", func(g *gang, k *book, _ *box) (*book, error) { return g.elsewhere(k, g.w.region.Ledger(2)) }},
	{"another region", func(g *gang, k *book, _ *box) (*book, error) {
		return g.elsewhere(k, record.RegionID(g.w.bytes(32)).Ledger(1))
	}},
}

// next are the first n records of some lane of the pool that a book lacks; nil
// where no lane has so many.
func (g *gang) next(k *book, n int) []record.Record {
	for _, f := range g.pool.feeds {
		if _, ok := k.rules.epochs[f.Epoch]; !ok {
			continue
		}
		var out []record.Record
		for _, r := range g.pool.runs[f] {
			if _, ok := k.rules.rids[r.RID()]; !ok {
				out = append(out, r)
			}
		}
		if len(out) >= n {
			return out[:n]
		}
	}
	return nil
}

// spoiled is a book with records of the pool in it, changed, under the gang's
// signatures.
func (g *gang) spoiled(k *book, n int, change func([]record.Record) []record.Record, edit func(*record.Entry)) (*book, error) {
	recs := g.next(k, n)
	if recs == nil {
		return nil, nil
	}
	if change != nil {
		if recs = change(recs); recs == nil {
			return nil, nil
		}
	}
	f, err := k.fork("spoiled view", uint64(len(k.list)))
	if err != nil {
		return nil, err
	}
	for _, r := range recs {
		e := record.Entry{Seq: uint64(len(f.list)), Time: f.list[len(f.list)-1].Time, Record: r}
		if c := r.Core.Compartment; !c.IsZero() {
			e.PrevSeq = f.rules.last[c]
		}
		if edit != nil {
			edit(&e)
		}
		if err := f.force(e, e.EncodeLeaf()); err != nil {
			return nil, err
		}
	}
	return f, f.show(g.w, g.seconds(), g.liars)
}

// forgedRecord continues some lane of a box with a record of the gang's making.
func forgedRecord(g *gang, k *book, _ *box) (*book, error) {
	w := g.w
	var last *record.Record
	for i := range k.list {
		if r := &k.list[i].Record; r.Core.Kind.Sealed() && (last == nil || w.chance(3)) {
			last = r
		}
	}
	if last == nil {
		return nil, nil
	}
	head := k.rules.heads[last.Position().Feed()]
	core := last.Core
	core.N, core.Prev, core.HLC = head.N+1, head.RID, core.HLC+1<<20
	r := record.Sign(core, w.bytes(64), ed25519.NewKeyFromSeed(w.bytes(32)))
	f, err := k.fork("forged view", uint64(len(k.list)))
	if err != nil {
		return nil, err
	}
	e := record.Entry{Seq: uint64(len(f.list)), Time: f.list[len(f.list)-1].Time, Record: r, PrevSeq: f.rules.last[core.Compartment]}
	if err := f.force(e, e.EncodeLeaf()); err != nil {
		return nil, err
	}
	return f, f.show(w, g.seconds(), g.liars)
}

// rewritten is a longer ledger that lacks an entry which the box holds.
func rewritten(g *gang, k *book, c *box) (*book, error) {
	w := g.w
	size := c.st.Head().Size
	if size < 12 || size > uint64(len(k.list)) {
		return nil, nil
	}
	f, err := k.fork("rewritten view", size-1-uint64(w.rng.IntN(3)))
	if err != nil {
		return nil, err
	}
	b := record.Batch{LeaderMillis: startMillis + w.now}
	for uint64(len(f.list)) <= size { // the liar fills the place with records of its own
		r := record.Sign(record.Core{HLC: uint64(1+w.rng.Uint32()) << 20, Clock: 1, Kind: record.KindEpochOpen}, g.openingBody(g.liars[0]), g.liars[0].author.Key)
		b.Records = append(b.Records[:0], r)
		if _, err := f.order(b); err != nil {
			return nil, err
		}
	}
	return f, f.show(w, g.seconds(), g.liars)
}

func (g *gang) openingBody(b *box) []byte {
	body, err := record.Marshal(record.EpochOpen{Device: b.author.Device[:], Nonce: g.w.bytes(16), Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{},
		Software: "sim", Root: record.EmptyRoot[:]})
	if err != nil {
		return nil
	}
	return body
}

// elsewhere is the next state of a book under the name of another ledger.
func (g *gang) elsewhere(k *book, l record.LedgerID) (*book, error) {
	f, err := g.spoiled(k, 1, nil, nil)
	if f == nil || err != nil {
		return f, err
	}
	return f, g.signAs(f, l, f.final)
}

// signAs has every liar sign a head as one of a ledger.
func (g *gang) signAs(k *book, l record.LedgerID, head record.TreeHead) error {
	k.note = nil
	for _, h := range g.liars {
		note, err := record.Cosign(l, head, h.author.Key, g.seconds())
		if err == nil && k.note != nil {
			note, err = record.MergeCosignatures(l, k.note, note, g.w.hubIDs())
		}
		if err != nil {
			return err
		}
		k.note = note
	}
	return nil
}

// shaken changes bits in some frames of a liar.
func (w *world) shaken(f peersync.Frame) []peersync.Frame {
	if !w.chance(4) || len(f.Payload) == 0 {
		return []peersync.Frame{f}
	}
	w.res.Lies++
	p := append([]byte(nil), f.Payload...)
	for range 1 + w.rng.IntN(3) {
		p[w.rng.IntN(len(p))] ^= 1 << w.rng.IntN(8)
	}
	f.Payload = p
	return []peersync.Frame{f}
}
