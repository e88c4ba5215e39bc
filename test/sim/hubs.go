package sim

import (
	"errors"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// In the scenario Hubs some hubs lie, alone or as a majority, and everything goes
// in turns: boxes save, one box meets a hub or another box, the gang orders what
// it likes. Time passes in hours, so that promises end.

// hubsPlan makes a plan without the faults of the other scenarios.
func (w *world) hubsPlan() {
	p := &w.plan
	*p = plan{Hubs: 3, Clinics: 3 + w.rng.IntN(3), Fields: w.rng.IntN(2), Patients: 2 + w.rng.IntN(3), ApplyMillis: 50, BatchMax: 64, BatchBytes: 32 << 10, Window: 64 << 10, Latency: 1, BytesPerSec: 1_000_000,
		ForgetIndexIn: 1, Rounds: 40 + w.rng.IntN(60), TrickIn: []int{0, 3, 6}[w.rng.IntN(3)], ShakeIn: []int{0, 6}[w.rng.IntN(2)], WrongTimes: w.rng.IntN(3) == 0, Flood: w.rng.IntN(3) == 0}
	p.Liars = []int{0, 1, 1, 2, 2, 2, 2, 3}[w.rng.IntN(8)]
	p.Lie = []lie{lieNothing, lieViews, lieViews, lieViews, lieOmit, lieOmit, lieStale, lieStale}[w.rng.IntN(8)]
	if p.Liars == 0 {
		p.Lie, p.TrickIn, p.ShakeIn = lieNothing, 0, 0
	}
}

func (w *world) playHubs() error {
	w.tracef("plan %+v", w.plan)
	if err := w.found(); err != nil {
		return err
	}
	if err := w.run(w.now+10_000, nil); err != nil { // all hubs apply the founding
		return err
	}
	g, err := w.newGang(w.plan.Liars, w.plan.Lie)
	if err != nil {
		return err
	}
	if err := g.sign(); err != nil {
		return err
	}
	start := 8 + w.rng.IntN(8)
	for round := range w.plan.Rounds {
		w.now += w.between(60_000, 4*3_600_000)
		w.res.Events++
		if round == start {
			if err := g.split(); err != nil {
				return err
			}
		}
		if err := w.turn(); err != nil {
			return err
		}
	}
	return w.settle()
}

// turn lets something happen, and holds some box to the invariants.
func (w *world) turn() error {
	g := w.gang
	var err error
	switch c := w.clinics[w.rng.IntN(len(w.clinics))]; w.rng.IntN(6) {
	case 0, 1:
		if c.n >= 3+w.plan.Clinics { // field devices carry
			c = w.clinics[0]
		}
		for range 1 + w.rng.IntN(3) {
			if err = w.saveSome(c); err != nil {
				return err
			}
		}
	case 2, 3:
		err = w.contact(c)
	case 4, 5:
		err = w.encounter(c, w.other(c))
	}
	if err == nil && (w.chance(2) || w.now-g.ordered > 6*3_600_000) {
		err = g.order()
	}
	if err != nil {
		return err
	}
	for _, b := range w.boxes {
		if b.st == nil {
			continue
		}
		if err := w.checkWitness(b); err != nil {
			return err
		}
	}
	return w.checkSome()
}

// checkWitness has a box look at its promises, and holds it to what it knows.
func (w *world) checkWitness(b *box) error {
	for _, f := range []func(*box) error{w.checkPromises, w.checkShelf, w.checkOverdue, w.checkTime} {
		if err := f(b); err != nil {
			return err
		}
	}
	return nil
}

// checkTime: the time of a checkpoint is one that an honest hub saw, or an earlier
// one, unless a majority lies.
func (w *world) checkTime(b *box) error {
	note, _, ok := b.st.Final()
	if !ok || w.gang.majority() {
		return nil
	}
	cp, err := w.verifyFinal(note)
	for _, h := range w.hubIDs() {
		if one, bad := record.OpenCheckpoint(w.region.Ledger(1), note, []record.DeviceID{h}); w.o.Hooks.NewestTime && bad == nil {
			cp.Time = max(cp.Time, one.Time)
		}
	}
	if now := (startMillis + w.now) / 1000; err == nil && cp.Time > now {
		return w.violated(MajorityTime, "%s believes that it is %d, %d s ahead", b, cp.Time, cp.Time-now)
	}
	return err
}

// other is some other honest box.
func (w *world) other(c *box) *box {
	for {
		if b := w.boxes[w.rng.IntN(len(w.boxes))]; b != c && b.st != nil && !(b.hub() && c.hub()) {
			return b
		}
	}
}

// contact has a clinic exchange with some hub.
func (w *world) contact(c *box) error {
	h := w.hubs[w.rng.IntN(len(w.hubs))]
	if !w.lies(h) {
		return w.encounter(c, h)
	}
	g := w.gang
	k := g.bookFor(c)
	if w.chance(w.plan.TrickIn) {
		return w.tricked(c, h, k)
	}
	p := g.party(h, c, k)
	if w.chance(w.plan.ShakeIn) {
		p.twist = w.shaken
	}
	_, _, err := w.talk([2]party{w.honest(c, h), p})
	return err
}

// tricked tells a lie at one contact. Nothing of it may stay.
func (w *world) tricked(c, h *box, k *book) error {
	g := w.gang
	t := tricks[w.rng.IntN(len(tricks))]
	f, err := t.make(g, k, c)
	if err != nil || f == nil {
		return err
	}
	w.res.Lies++
	before := c.st.Head()
	_, final, _ := c.st.Final()
	w.tracef("%s tells %s: %s, size %d", h, c, t.name, f.final.Size)
	if _, _, err := w.talk([2]party{w.honest(c, h), g.party(h, c, f)}); err != nil {
		return err
	}
	head := c.st.Head() // what is lawful in it may have come from nobody else
	_, now, _ := c.st.Final()
	if head != before || now != final {
		return w.violated(GarbageInert, "%s took %s: size %d to %d, final %d to %d", c, t.name, before.Size, head.Size, final.Size, now.Size)
	}
	return nil
}

// contradicting reports whether the final checkpoints of two boxes exclude each
// other.
func (w *world) contradicting(x, y *box) (bool, error) {
	_, fx, okx := x.st.Final()
	_, fy, oky := y.st.Final()
	if !okx || !oky {
		return false, nil
	}
	size := min(fx.Size, fy.Size)
	rx, err := x.st.RootAt(size)
	if err != nil {
		return false, err
	}
	ry, err := y.st.RootAt(size)
	return rx != ry, err
}

// encounter has two honest boxes exchange. If their ledgers contradict each other
// both must be able to prove it afterwards; what one could prove before, both can.
func (w *world) encounter(x, y *box) error {
	bad, err := w.contradicting(x, y)
	if err != nil {
		return err
	}
	if bad && !w.gang.majority() {
		return w.violated(FinalOrdered, "%s and %s hold checkpoints that exclude each other, and only %d of %d hubs lie", x, y, len(w.gang.liars), len(w.hubs))
	}
	knew := x.has(record.EvidenceSplitView, true) || y.has(record.EvidenceSplitView, true)
	errs, _, err := w.talk([2]party{w.honest(x, y), w.honest(y, x)})
	if err != nil {
		return err
	}
	for i, e := range errs {
		if errors.Is(e, peersync.ErrMisbehaved) || e != nil && !errors.Is(e, peersync.ErrBye) {
			return w.violated(HonestUnblamed, "%s of %s: %v", []*box{x, y}[i], []*box{y, x}[i], e)
		}
	}
	for _, b := range []*box{x, y} {
		if (bad || knew) && !b.has(record.EvidenceSplitView, true) {
			return w.violated(ViewsExposed, "%s cannot prove that the hubs showed two ledgers after %s and %s met", b, x, y)
		}
	}
	if bad {
		w.res.Exposed++
	}
	if x.hub() || y.hub() {
		return nil
	}
	if err := w.checkHolds(x, y); err != nil {
		return err
	}
	return w.checkHolds(y, x)
}

// settle has every two honest boxes meet, and looks at what they know then.
func (w *world) settle() error {
	w.tracef("all boxes meet")
	g := w.gang
	if err := g.order(); err != nil {
		return err
	}
	for range 2 {
		for i, x := range w.boxes {
			for _, y := range w.boxes[i+1:] {
				if x.st == nil || y.st == nil || x.hub() && y.hub() {
					continue
				}
				if err := w.encounter(x, y); err != nil {
					return err
				}
			}
		}
	}
	two := false
	for i, x := range w.boxes {
		for _, y := range w.boxes[i+1:] {
			if x.st != nil && y.st != nil {
				bad, err := w.contradicting(x, y)
				if err != nil {
					return err
				}
				two = two || bad
			}
		}
	}
	for _, b := range w.boxes {
		if b.st == nil {
			continue
		}
		if err := w.check(b); err != nil {
			return err
		}
		if err := w.checkWitness(b); err != nil {
			return err
		}
		if two && !b.has(record.EvidenceSplitView, true) {
			return w.violated(ViewsExposed, "%s cannot prove in the end that the hubs showed two ledgers", b)
		}
	}
	return nil
}
