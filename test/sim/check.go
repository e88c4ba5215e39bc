package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func (w *world) checkSome() error {
	b := w.boxes[w.rng.IntN(len(w.boxes))]
	if b.st == nil {
		return nil
	}
	return w.check(b)
}

// sampleOf is how rarely a large run looks again at what it saw before.
const sampleOf = 16

// seen is how far the checks of a box have come since it was opened, in runs
// that do not look at everything each time.
type seen struct {
	entries  uint64
	saves    int
	verified uint64 // size that the store verified, and how it goes on from there
	state    []byte
}

// check holds one box to every invariant that can be seen on it alone.
func (w *world) check(b *box) error {
	for _, f := range []func(*box) error{w.checkLedger, w.checkFeeds, w.finalSeen, w.checkLeft, w.checkSaves, w.checkConfirmed, w.checkBlame, w.checkTwice, w.checkCharts, w.checkClock, w.checkOrderedClocks, w.checkMembers, w.checkErased, w.checkBytes} {
		if err := f(b); err != nil {
			return b.failed("checking", err)
		}
		if b.st == nil {
			return nil
		}
	}
	return nil
}

// checkLedger compares every entry with the agreed one.
func (w *world) checkLedger(b *box) error {
	if w.parts != nil {
		return w.checkPart(b)
	}
	head, m := b.st.Head(), w.modelOf(b)
	if head.Size > m.size() || m.roots[head.Size] != head.Root {
		return w.violated(PrefixOfHubs, "%s has size %d root %x", b, head.Size, head.Root[:4])
	}
	at := uint64(0)
	if w.plan.Sampled && !w.full {
		at = min(b.seen.entries, head.Size)
	}
	for at < head.Size {
		entries, err := b.st.Entries(at, head.Size, 1<<20)
		if err != nil {
			return err
		}
		for i := range entries {
			e := &entries[i]
			want := &m.entries[at]
			if e.Seq != at || !bytes.Equal(e.EncodeLeaf(), m.leaves[at]) || !w.bodyFits(b, &e.Record, want.Record.Body, true) {
				return w.violated(PrefixOfHubs, "%s has another entry %d", b, at)
			}
			at++
		}
		if len(entries) == 0 {
			return w.violated(ReplicaVerifies, "%s has no entry %d of %d", b, at, head.Size)
		}
	}
	b.seen.entries = head.Size
	return nil
}

// modelOf is the lawful ledger that a box's own continues to be a prefix of: the
// agreed one, or the second one that hubs who lie keep.
func (w *world) modelOf(b *box) *model {
	if w.gang == nil || w.gang.other == nil {
		return w.model
	}
	head, m := b.st.Head(), w.gang.other.rules
	if head.Size <= w.model.size() && w.model.roots[head.Size] == head.Root || head.Size > m.size() || m.roots[head.Size] != head.Root {
		return w.model
	}
	return m
}

// checkFeeds walks what is pending from the ordered head of its feed on.
func (w *world) checkFeeds(b *box) error {
	feeds, err := b.st.PendingFeeds()
	if err != nil {
		return err
	}
	for _, f := range feeds {
		if w.ofTwice(f.Epoch) {
			continue // what stays behind a contradiction continues nothing
		}
		head, ordered, err := b.st.Holder().Head(f.Feed)
		if err != nil {
			return err
		}
		if !ordered { // nothing of the epoch is
			if head.RID, _, err = b.st.HeldRID(record.Position{Epoch: f.Epoch}); err != nil {
				return err
			}
		}
		if head.N != f.OrderedN {
			return w.violated(FeedsContiguous, "%s: %s lane %d ordered to %d and to %d", b, f.Epoch, f.Lane, head.N, f.OrderedN)
		}
		if err := w.checkFeed(b, f.Feed, head, f.HeldN); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) checkFeed(b *box, f record.Feed, head record.Head, to uint64) error {
	clock := uint64(0)
	for head.N < to {
		recs, err := b.st.Pending(f, head.N+1, 256<<10)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			return w.violated(FeedsContiguous, "%s: %s lane %d ends at n %d, want %d", b, f.Epoch, f.Lane, head.N, to)
		}
		for i := range recs {
			r := &recs[i]
			if r.Position().N != head.N+1 || r.Core.Prev != head.RID || r.Core.HLC <= clock {
				return w.violated(FeedsContiguous, "%s: %s lane %d n %d does not continue n %d", b, f.Epoch, f.Lane, r.Position().N, head.N)
			}
			a := w.authored[r.RID()]
			if a == nil || !bytes.Equal(a.r.Body, r.Body) || a.r.Sig != r.Sig {
				return w.violated(GarbageInert, "%s holds record %s of nobody", b, r.RID().Short())
			}
			head, clock = record.Head{N: head.N + 1, RID: r.RID()}, r.Core.HLC
		}
	}
	return nil
}

// checkSaves looks for what a box told its staff is kept.
func (w *world) checkSaves(b *box) error {
	from := 0
	if w.plan.Sampled && !w.full {
		from = b.seen.saves
	}
	for i, s := range w.saves {
		if s.by != b || s.lost || b.behind || i < from && !w.chance(sampleOf) {
			continue
		}
		r, ok, err := b.st.ByRID(s.r.RID())
		if err != nil {
			return err
		}
		if !ok || !bytes.Equal(r.Body, s.r.Body) && (r.Body != nil || w.erasedAt(&r) == 0) {
			return w.violated(SavesSurvive, "%s lost save %d, record %s", b, s.number, s.r.RID().Short())
		}
	}
	b.seen.saves = len(w.saves)
	return nil
}

// checkConfirmed proves the place of some of what staff see as confirmed.
func (w *world) checkConfirmed(b *box) error {
	_, final, ok := b.st.Final()
	if !ok || final.Size == 0 {
		return nil
	}
	for range 3 {
		seq := w.rng.Uint64N(final.Size)
		e, err := b.st.Entry(seq)
		if errors.Is(err, record.ErrHole) {
			continue
		}
		if err != nil {
			return err
		}
		proof, err := b.st.InclusionProof(seq, final.Size)
		if err != nil {
			return err
		}
		if err := record.VerifyInclusion(final, seq, record.LeafHash(e.EncodeLeaf()), proof); err != nil {
			return w.violated(ConfirmedHasPlace, "%s: entry %d: %v", b, seq, err)
		}
		rid := e.Record.RID()
		loc, ok, err := b.st.Locate(rid)
		if err != nil {
			return err
		}
		if !ok || loc.Pending || loc.Seq != seq {
			return w.violated(ConfirmedHasPlace, "%s: record of entry %d is at %+v", b, seq, loc)
		}
	}
	return nil
}

// checkCharts folds every patient.
func (w *world) checkCharts(b *box) error {
	for i, p := range w.patients {
		if w.plan.Sampled && !w.full && !w.chance(sampleOf) || w.plan.Sampled && (i+b.n)%3 != 0 {
			continue // in large runs every third box folds a patient
		}
		opened, err := w.open(b, p)
		if err != nil {
			return err
		}
		if len(opened) == 0 {
			continue
		}
		c := chart.Fold(opened)
		if w.o.Hooks.HideHead {
			for i := range c.Lines {
				if n := len(c.Lines[i].Heads); n > 1 {
					c.Lines[i].Heads = c.Lines[i].Heads[:n-1]
				}
			}
		}
		if err := w.checkHeads(b, opened, &c); err != nil {
			return err
		}
		key, digest := chartKey(p.id, opened), c.Digest()
		if have, ok := w.digests[key]; ok && have != digest {
			return w.violated(SameChart, "%s folds patient %s another way", b, p.id)
		}
		w.digests[key] = digest
	}
	return nil
}

// chartKey names a set of records with their places.
func chartKey(id record.CompartmentID, opened []chart.Opened) [32]byte {
	rows := make([]string, 0, len(opened))
	for i := range opened {
		seq := uint64(0)
		if opened[i].Ordered {
			seq = opened[i].Seq + 1
		}
		rows = append(rows, string(binary.BigEndian.AppendUint64(nil, seq))+string(opened[i].RID[:]))
	}
	slices.Sort(rows)
	h := sha256.New()
	h.Write(id[:])
	for _, r := range rows {
		h.Write([]byte(r))
	}
	return [32]byte(h.Sum(nil))
}

// checkHeads works out again which versions nobody has replaced.
func (w *world) checkHeads(b *box, opened []chart.Opened, c *chart.Chart) error {
	replaced, versions := map[chart.Ref]bool{}, map[string][]chart.Ref{}
	for i := range opened {
		for n, it := range opened[i].Body.Items {
			for _, base := range it.Base {
				replaced[base] = true
			}
			versions[it.Key()] = append(versions[it.Key()], chart.RefOf(opened[i].RID, n))
		}
	}
	shown := map[string]map[chart.Ref]bool{}
	for _, l := range c.Lines {
		shown[l.Key] = map[chart.Ref]bool{}
		w.res.Heads = max(w.res.Heads, len(l.Heads))
		for _, r := range l.Refs() {
			shown[l.Key][r] = true
		}
	}
	for key, refs := range versions {
		heads := 0
		for _, r := range refs {
			if replaced[r] {
				continue
			}
			heads++
			if !shown[key][r] {
				return w.violated(HeadsKept, "%s: version %s is not shown as a head", b, r)
			}
		}
		if heads != len(shown[key]) {
			return w.violated(HeadsKept, "%s: a line shows %d heads, want %d", b, len(shown[key]), heads)
		}
	}
	return nil
}

// checkBytes has the store read everything it holds.
func (w *world) checkBytes(b *box) error {
	if w.safety && !w.chance(4) || w.plan.Sampled && !w.chance(len(w.boxes)) {
		return nil // it reads and judges everything again
	}
	o := store.VerifyOptions{From: b.seen.verified, State: b.seen.state}
	if !w.plan.Sampled || w.full {
		o = store.VerifyOptions{}
	}
	rep, err := b.st.Verify(w.context(), o, nil)
	if err != nil {
		return err
	}
	b.seen.verified, b.seen.state = rep.Head.Size, rep.State
	if len(rep.Damage) > 0 {
		return w.violated(ReplicaVerifies, "%s: %s %s", b, rep.Damage[0].Key, rep.Damage[0].What)
	}
	return nil
}
