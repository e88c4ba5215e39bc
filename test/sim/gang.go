package sim

import (
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// gang are the hubs that lie, with one mind: whatever one of them has taken they
// all have. They make the ledger; hubs that do not lie apply and cosign what they
// are given of it.
type gang struct {
	w      *world
	what   lie
	liars  []*box
	honest []*box
	true_  *book          // what the honest hubs apply
	other  *book          // the second view; nil before there is one
	shown  map[*box]*book // by box, the first view where nothing is said
	pool   *pool
	victim *box // whose records are never ordered
	// ordered is when the gang last made entries.
	ordered int64
	made    [][]byte // false evidence
}

// lie is what the gang is up to for all of a run.
type lie uint8

const (
	lieNothing lie = iota // only tricks at single contacts
	lieViews              // two ledgers for two halves of the region
	lieOmit               // one clinic's records are taken and never ordered
	lieStale              // some clinics are shown an old checkpoint for ever
	lieCount
)

func (l lie) String() string { return [...]string{"nothing", "two views", "omission", "old view"}[l] }

// majority reports whether the gang alone makes a checkpoint final.
func (g *gang) majority() bool { return len(g.liars) > len(g.w.hubs)/2 }

func (w *world) newGang(n int, what lie) (*gang, error) {
	g := &gang{w: w, what: what, shown: map[*box]*book{}, pool: newPool(), true_: newBook("first view")}
	for i, at := range w.rng.Perm(len(w.hubs)) {
		h := w.hubs[at]
		if i < n {
			g.liars = append(g.liars, h)
			w.guilty[h.author.Device] = true
			st := h.st
			if h.st = nil; st.Close() != nil {
				return nil, fmt.Errorf("closing the replica of a liar")
			}
		} else {
			g.honest = append(g.honest, h)
		}
	}
	g.true_.rules = w.model
	w.gang, w.leader = g, nil
	if n > 0 {
		w.leader = g.liars[0]
	}
	return g, g.catchUp()
}

// lies reports whether a box is one of the gang.
func (w *world) lies(b *box) bool { return w.gang != nil && slices.Contains(w.gang.liars, b) }

// catchUp copies into the first view what was agreed.
func (g *gang) catchUp() error {
	k := g.true_
	for _, e := range k.rules.entries[len(k.list):] {
		if err := k.force(e, e.EncodeLeaf()); err != nil {
			return err
		}
	}
	return nil
}

func (g *gang) seconds() int64 { return (startMillis + g.w.now) / 1000 }

// claimed is the time that a liar puts into a cosignature.
func (g *gang) claimed() int64 {
	if w := g.w; w.plan.WrongTimes {
		return g.seconds() + w.between(-3, 3)*400*24*3600
	}
	return g.seconds()
}

// batch is what the pool has that a book lacks, of the authors that a filter
// lets through, epochs and lanes in the order in which they came.
func (g *gang) batch(k *book, pick func(record.DeviceID) bool) record.Batch {
	b := record.Batch{LeaderMillis: startMillis + g.w.now}
	authors := map[record.EpochID]record.DeviceID{}
	for _, f := range g.pool.feeds {
		opening, ok := g.pool.opening[f.Epoch]
		if e, known := k.rules.epochs[f.Epoch]; known {
			authors[f.Epoch] = e.Device
		} else if ok {
			body, err := record.DecodeEpochOpen(opening.Body)
			if err != nil {
				continue
			}
			authors[f.Epoch] = record.DeviceID(body.Device)
			if pick(authors[f.Epoch]) && !slices.ContainsFunc(b.Records, func(r record.Record) bool { return r.RID() == opening.RID() }) {
				b.Records = append(b.Records, opening)
			}
		}
		if !pick(authors[f.Epoch]) {
			continue
		}
		for _, r := range g.pool.runs[f] {
			if _, ok := k.rules.rids[r.RID()]; !ok && len(b.Records) < 64 {
				b.Records = append(b.Records, r)
			}
		}
	}
	return b
}

// order lets the gang add to its books what it wants in them, and sign them.
func (g *gang) order() error {
	w := g.w
	g.ordered = w.now
	if len(g.liars) == 0 {
		return g.honestOrder()
	}
	mine := func(d record.DeviceID) bool { return g.victim == nil || g.victim.author.Device != d }
	if b := g.batch(g.true_, mine); len(b.Records) > 0 {
		if err := w.agree(b.Encode()); err != nil {
			return err
		}
		if err := g.catchUp(); err != nil {
			return err
		}
	}
	if g.what == lieViews && g.other != nil {
		theirs := func(d record.DeviceID) bool { return w.chance(3) || g.sees(d) == g.other }
		if b := g.batch(g.other, theirs); len(b.Records) > 0 {
			b.LeaderMillis += 1000
			if _, err := g.other.order(b); err != nil {
				return err
			}
		}
		if err := g.other.show(w, g.claimed(), g.liars); err != nil {
			return err
		}
	}
	if err := w.run(w.now+2*w.plan.ApplyMillis+1000, nil); err != nil { // honest hubs apply
		return err
	}
	return g.sign()
}

// honestOrder has the hubs order what they hold, when nobody lies.
func (g *gang) honestOrder() error {
	w := g.w
	clear(w.marks)
	for _, h := range w.hubs {
		recs, err := w.collect(h)
		if err != nil {
			return err
		}
		clear(w.marks)
		if len(recs) == 0 {
			continue
		}
		b := record.Batch{LeaderMillis: startMillis + w.now, Records: recs}
		if err := w.agree(b.Encode()); err != nil {
			return err
		}
		if err := w.run(w.now+5_000, nil); err != nil {
			return err
		}
	}
	return w.proposeAll()
}

// sees is the book that a device's box is shown.
func (g *gang) sees(d record.DeviceID) *book {
	for b, k := range g.shown {
		if b.author.Device == d {
			return k
		}
	}
	return g.true_
}

// sign has the first view cosigned by the gang, and by the honest hubs through
// their own sessions.
func (g *gang) sign() error {
	w := g.w
	if err := g.true_.show(w, g.claimed(), g.liars); err != nil {
		return err
	}
	if len(g.liars) == 0 {
		return w.proposeAll()
	}
	for range 2 {
		for _, h := range g.honest {
			if g.what == lieViews && g.other != nil && !g.majority() && w.chance(3) {
				if err := g.offerOther(h); err != nil {
					return err
				}
			}
			if _, _, err := w.talk([2]party{g.party(g.liars[0], h, g.true_), w.honest(h, g.liars[0])}); err != nil {
				return err
			}
		}
	}
	return nil
}

// bookFor is what the gang shows a box: the second view while the box has seen
// nothing that is not in it.
func (g *gang) bookFor(c *box) *book {
	k, ok := g.shown[c]
	if !ok {
		return g.true_
	}
	if head := c.st.Head(); head.Size > uint64(len(k.list)) || k.roots[head.Size] != head.Root {
		return g.true_
	}
	return k
}

// offerOther has the only liar ask an honest hub to cosign the second view too.
// Where the hub's own ledger reaches as far, and the liar signed that one as well,
// it can prove it afterwards.
func (g *gang) offerOther(h *box) error {
	w := g.w
	_, final, ok := h.st.Final()
	note, _, _ := h.st.Final()
	if !ok || g.other.final.Size == 0 || g.other.final.Size > final.Size || g.other.roots[g.other.final.Size] == w.model.roots[g.other.final.Size] {
		return nil
	}
	cp, err := record.OpenCheckpoint(w.region.Ledger(1), note, w.hubIDs())
	if err != nil {
		return err
	}
	if _, _, err := w.talk([2]party{g.party(g.liars[0], h, g.other), w.honest(h, g.liars[0])}); err != nil {
		return err
	}
	if slices.Contains(cp.Signers, g.liars[0].author.Device) && !h.has(record.EvidenceSplitView, false) {
		return w.violated(ViewsExposed, "%s was shown two ledgers by %s and cannot prove it", h, g.liars[0])
	}
	w.res.Exposed++
	return nil
}

// party is a liar's side of an exchange with a box.
func (g *gang) party(h, peer *box, k *book) party {
	w := g.w
	m := &mask{book: k, pool: g.pool, peer: peer}
	o := peersync.Options{Region: w.region, Device: h.author.Device, Role: record.RoleHub, Software: "sim", Window: 64 << 10, Hub: w.isHub, Hubs: w.hubIDs,
		PushPending: func(record.DeviceID) bool { return false }, LocalFault: func(error) bool { return false }}
	o.Contradiction = func(record.DeviceID, []byte) []byte { return nil }
	o.Evidence = func() [][]byte { return g.falsehoods() }
	o.Receipt = func(heads []record.ReceiptHead) (record.Receipt, bool) { return w.receipt(h, heads), true }
	if peer.hub() {
		o.Note = func() []byte { return k.note }
		o.Checkpoint = func(_ record.DeviceID, note []byte) error {
			if merged, err := record.MergeCosignatures(w.region.Ledger(1), k.note, note, w.hubIDs()); err == nil {
				k.note = merged
			}
			return nil
		}
	}
	return party{name: h.name + " (lies)", id: h.author.Device, r: m, o: o}
}

// split gives some clinics another ledger from here on.
func (g *gang) split() error {
	w := g.w
	var err error
	back := uint64(w.rng.IntN(4)) // below what some boxes hold as final, where it is not theirs to see
	size := g.true_.final.Size
	switch g.what {
	case lieViews:
		for _, c := range w.clinics {
			if _, final, _ := c.st.Final(); w.chance(2) && (g.other == nil || final.Size <= uint64(len(g.other.list))) {
				if g.other == nil {
					if size < back+3 {
						back = 0
					}
					if g.other, err = g.true_.fork("second view", max(size-back, final.Size)); err != nil {
						return err
					}
				}
				g.shown[c] = g.other
			}
		}
	case lieStale:
		old := *g.true_
		old.name = "old view"
		g.other = &old
		for _, c := range w.clinics {
			if w.chance(2) {
				g.shown[c] = g.other
			}
		}
	case lieOmit:
		g.victim = w.clinics[w.rng.IntN(w.plan.Clinics)]
	}
	w.tracef("from here on: %s, %d boxes see another book", g.what, len(g.shown))
	return nil
}

// falsehoods is what a liar offers as evidence: now and then pieces that it made
// from its own two signatures, so many that they could crowd out others, and some
// of them with bits changed.
func (g *gang) falsehoods() [][]byte {
	w := g.w
	if w.plan.Flood && (g.made == nil || w.chance(8)) {
		if err := g.flood(); err != nil {
			w.late = err
		}
	}
	if !w.plan.Flood {
		return nil
	}
	return g.made
}

// floodPieces fit into one offer.
const floodPieces = 8

func (g *gang) flood() error {
	w := g.w
	g.made = nil
	l, k := w.region.Ledger(1), g.liars[0].author.Key
	for i := range floodPieces {
		a, b := record.TreeHead{Size: 3, Root: record.Hash(w.bytes(32))}, record.TreeHead{Size: 3, Root: record.Hash(w.bytes(32))}
		na, err := record.Cosign(l, a, k, g.seconds())
		if err != nil {
			return err
		}
		nb, err := record.Cosign(l, b, k, g.seconds())
		if err != nil {
			return err
		}
		e, err := record.NewSplitView(l, na, nb, b.Root, nil, w.hubIDs())
		if err != nil {
			return err
		}
		piece := e.Encode()
		if i%2 == 1 {
			piece[len(piece)-1-w.rng.IntN(len(piece)/2)] ^= 1 << w.rng.IntN(8)
		}
		g.made = append(g.made, piece)
	}
	return nil
}
