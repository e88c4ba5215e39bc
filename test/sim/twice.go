package sim

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// In the scenario Twice one clinic signs second records for places of its feeds,
// and runs of records behind them, and gives each branch to somebody else. All
// others are honest and have the faults of the scenario Region.

func (w *world) twicePlan() {
	p := &w.plan
	p.Equivocate, p.LieIn, p.JunkIn, p.RestoreMillis, p.ClockMillis = true, 0, 0, 0, 0
	p.BranchMillis = []int64{4_000, 10_000}[w.rng.IntN(2)]
	p.SafetyMillis = 60_000
}

// twice is a clinic that contradicts itself.
type twice struct {
	given map[*box]map[record.Position]map[record.RID]bool // what honest boxes were handed and could verify
	by    *box
}

// branch has the clinic write another run from some place of its open epoch on,
// and hand it to some box that knows the epoch.
func (w *world) branch() error {
	e := w.twice.by
	to := w.boxes[w.rng.IntN(len(w.boxes))]
	if e.st == nil || !e.opened || to == e || to.st == nil || to.armed {
		return nil
	}
	var at []*save
	for _, s := range w.saves {
		if s.by == e {
			at = append(at, s)
		}
	}
	if len(at) == 0 {
		return nil
	}
	first := at[w.rng.IntN(len(at))].r
	recs, err := w.branchFrom(e, first, 1+w.rng.IntN(3))
	if err != nil {
		return err
	}
	w.tracef("%s hands %s another run of %d from lane %d n %d on", e, to, len(recs), first.Core.Lane, first.Core.N)
	w.res.Lies++
	rep := &replica{Store: to.st, b: to, peer: e}
	if _, err := rep.Ingest(context.Background(), e.author.Device, recs); err != nil {
		return to.failed("taking a branch", err)
	}
	return w.touch(to)
}

func (w *world) branchFrom(e *box, first record.Record, count int) ([]record.Record, error) {
	prev := first.Core.Prev
	var out []record.Record
	for i := range uint64(count) {
		p := w.patients[w.rng.IntN(len(w.patients))]
		item, err := w.item(e, p)
		if err != nil {
			return nil, e.failed("reading a chart", err)
		}
		body := chart.Body{Items: []chart.Item{item}}
		plain, err := chart.EncodeBody(body)
		if err != nil {
			return nil, err
		}
		packed, err := seal.Pack(plain)
		if err != nil {
			return nil, err
		}
		core := first.Core
		core.N, core.Prev, core.HLC, core.Compartment, core.Kind = first.Core.N+i, prev, first.Core.HLC+i, p.id, record.KindClinical
		pos := record.Position{Epoch: core.Epoch, Lane: core.Lane, N: core.N}
		sealed, err := packed.Seal(randomness{w.rng}, p.key, 1, pos, core.Kind, p.id)
		if err != nil {
			return nil, err
		}
		r := record.Sign(core, sealed, e.author.Key)
		w.authored[r.RID()] = &authored{r: r, by: e, body: body, says: true}
		prev, out = r.RID(), append(out, r)
	}
	return out, nil
}

// handed notes which records of the clinic a box was given and kept in some way.
func (w *world) handed(b *box, recs []record.Record, refused []record.Outcome) {
	if w.twice == nil || b == w.twice.by {
		return
	}
	out := map[record.RID]record.Verdict{}
	for _, o := range refused {
		out[o.RID] = o.Verdict
	}
	for i := range recs {
		r := &recs[i]
		a := w.authored[r.RID()]
		v, no := out[r.RID()]
		if a == nil || a.by != w.twice.by || r.Position().N == 0 || no && v != record.Equivocation {
			continue
		}
		if w.twice.given[b] == nil {
			w.twice.given[b] = map[record.Position]map[record.RID]bool{}
		}
		m := w.twice.given[b]
		if m[r.Position()] == nil {
			m[r.Position()] = map[record.RID]bool{}
		}
		m[r.Position()][r.RID()] = true
	}
}

// expose has a box make evidence of what it holds twice.
func (w *world) expose(b *box) error {
	if b.st == nil || w.twice == nil || b == w.twice.by || w.o.Hooks.KeepQuiet {
		return nil
	}
	list, err := b.st.Refused()
	if err != nil {
		return b.failed("reading", err)
	}
	for _, x := range list {
		if x.Verdict != record.Equivocation || x.Position.N == 0 || b.wit.looked[x.RID] {
			continue
		}
		other, ok, err := b.st.Held(x.Position)
		if err != nil || !ok || other.RID() == x.RID || x.Record.RID() != x.RID {
			if err != nil {
				return b.failed("reading", err)
			}
			continue // a hub's word about the only one; the other may come yet
		}
		b.wit.looked[x.RID] = true
		opening, ok, err := b.st.Held(record.Position{Epoch: x.Position.Epoch})
		if err != nil || !ok {
			return b.failed("reading", err)
		}
		e, err := record.NewEquivocation(opening, other, x.Record)
		if err != nil {
			return w.violated(TwiceExposed, "%s holds two records for one place and can prove nothing: %v", b, err)
		}
		if err := w.takeEvidence(b, e.Encode(), true); err != nil {
			return err
		}
	}
	return nil
}

// exposeAll has every box look, and the leader put what is new into the ledger.
func (w *world) exposeAll() error {
	for _, b := range w.boxes {
		if err := w.expose(b); err != nil {
			return err
		}
	}
	h := w.leader
	if h == nil || h.st == nil || h.armed {
		return nil
	}
	for i, f := range h.wit.finds {
		if f.Kind != record.EvidenceEquivocation || w.published[f.Feed] == h.starts+1 {
			continue
		}
		frozen, err := w.isFrozen(h, f.Feed)
		if err != nil || frozen {
			continue
		}
		if _, ok, err := h.st.State().Epoch(f.Feed.Epoch); err != nil || !ok {
			continue
		}
		if err := h.ensureEpoch(); err != nil {
			return h.failed("opening an epoch", err)
		}
		piece := h.wit.shelf[i]
		_, err = h.st.Append(context.Background(), []store.Draft{{Lane: record.LaneControl, Kind: record.KindEvidence, Seal: func(record.Position) ([]byte, error) { return piece, nil }}},
			func(made []record.Record) ([]store.Row, error) {
				w.authored[made[0].RID()] = &authored{r: made[0], by: h}
				return nil, nil
			})
		if err != nil {
			return h.failed("writing evidence", err)
		}
		w.published[f.Feed] = h.starts + 1
		w.tracef("%s puts evidence into the ledger", h)
		return w.touch(h)
	}
	return nil
}

func (w *world) isFrozen(b *box, f record.Feed) (frozen bool, err error) {
	err = b.st.ScanRegistry(record.FrozenPrefix(), func(key, _ []byte) bool {
		at, bad := record.FrozenFeed(key)
		frozen = frozen || bad == nil && at == f
		return !frozen
	})
	return frozen, err
}

// ofTwice tells the feeds of the clinic that contradicts itself: others may hold
// either branch.
func (w *world) ofTwice(id record.EpochID) bool {
	if w.twice == nil {
		return false
	}
	for _, b := range w.boxes {
		if b.st == nil {
			continue
		}
		if d, ok, err := b.st.EpochAuthor(id); err == nil && ok {
			return d == w.twice.by.author.Device
		}
	}
	return false
}

// checkTwice: a box that was handed both branches can prove it, and has kept every
// body of either.
func (w *world) checkTwice(b *box) error {
	if w.twice == nil || b == w.twice.by {
		return nil
	}
	if err := w.expose(b); err != nil || b.st == nil {
		return err
	}
	kept, err := w.keptBodies(b)
	if err != nil {
		return err
	}
	for _, pos := range sortedPositions(w.twice.given[b]) {
		rids := w.twice.given[b][pos]
		if len(rids) > 1 && !b.has(record.EvidenceEquivocation, false) {
			return w.violated(TwiceExposed, "%s was handed %d records for lane %d n %d and can prove nothing", b, len(rids), pos.Lane, pos.N)
		}
		for rid := range rids {
			r, ok, err := b.st.ByRID(rid)
			if err != nil {
				return err
			}
			if _, refused := kept[rid]; refused && w.o.Hooks.ForgetBranch {
				ok, kept[rid] = false, nil
			}
			if want := w.authored[rid].r.Body; !(ok && bytes.Equal(r.Body, want)) && !bytes.Equal(kept[rid], want) {
				return w.violated(BranchesKept, "%s took lane %d n %d, record %s, and holds it no more", b, pos.Lane, pos.N, rid.Short())
			}
		}
	}
	return nil
}

func (w *world) keptBodies(b *box) (map[record.RID][]byte, error) {
	list, err := b.st.Refused()
	kept := map[record.RID][]byte{}
	for _, x := range list {
		kept[x.RID] = x.Record.Body
	}
	return kept, err
}

// checkFrozen: in the end the feed is frozen on every box, if anybody could know.
func (w *world) checkFrozen() error {
	if w.twice == nil {
		return nil
	}
	for _, b := range w.boxes {
		if b == w.twice.by {
			continue
		}
		for _, f := range b.wit.finds {
			if f.Kind != record.EvidenceEquivocation {
				continue
			}
			for _, o := range w.boxes {
				frozen, err := w.isFrozen(o, f.Feed)
				if err != nil {
					return err
				}
				if !frozen {
					return w.violated(TwiceExposed, "%s can prove that lane %d of epoch %s holds two records for n %d, and it is not frozen on %s", b, f.Feed.Lane, f.Feed.Epoch, f.N, o)
				}
			}
		}
	}
	return nil
}

func sortedPositions(m map[record.Position]map[record.RID]bool) []record.Position {
	out := make([]record.Position, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b record.Position) int {
		return cmp.Or(bytes.Compare(a.Epoch[:], b.Epoch[:]), cmp.Compare(a.Lane, b.Lane), cmp.Compare(a.N, b.N))
	})
	return out
}
