package sim

import (
	"io"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store/journal/faultfs"
)

var errCut = io.ErrUnexpectedEOF

// visit is a clinic's session with a hub or a neighbour. Sessions of one clinic
// begin in any order and go on side by side.
func (w *world) visit(c *box) error {
	peer := w.hubs[w.rng.IntN(len(w.hubs))]
	if w.chance(w.plan.NeighboursIn) || c.role == record.RoleField && w.chance(2) {
		peer = w.clinics[w.rng.IntN(len(w.clinics))]
	}
	var liar *box
	if w.safety && w.chance(w.plan.LieIn) {
		liar = []*box{c, peer}[w.rng.IntN(2)]
	}
	a, b := c, peer
	if w.chance(2) {
		a, b = b, a
	}
	l := w.connect(a, b, liar)
	if l == nil {
		return nil
	}
	cut := w.chance(w.plan.CutIn)
	w.after(w.between(50, 30_000), func() error { return w.finish(l, cut) })
	return nil
}

// hubTalk keeps a session between every two hubs, ending one now and then.
func (w *world) hubTalk() error {
	for i, a := range w.hubs {
		for _, b := range w.hubs[i+1:] {
			l := w.links[pair(a, b)]
			if l == nil {
				var liar *box
				if w.safety && w.chance(w.plan.LieIn) && w.chance(8) {
					liar = b
				}
				if l = w.connect(a, b, liar); l != nil && liar != nil {
					lying := l
					w.after(10_000, func() error { return w.finish(lying, true) })
				}
				continue
			}
			if w.cutOff[pair(a, b)] || w.safety && w.chance(20) {
				if err := w.finish(l, w.chance(2)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// crashSome takes the power of a box, now or within one of its next writes.
func (w *world) crashSome() error {
	b := w.clinics[w.rng.IntN(len(w.clinics))]
	if w.chance(w.plan.HubCrashIn) {
		b = w.hubs[w.rng.IntN(len(w.hubs))]
	}
	if b.st == nil {
		return nil
	}
	if !w.chance(w.plan.WriteCrashIn) {
		return w.crash(b, "at rest")
	}
	f := faultfs.Fault{Op: 1 + w.rng.IntN(6), Mode: faultfs.Modes[w.rng.IntN(len(faultfs.Modes))]}
	w.tracef("%s: operation %d of its disk will go wrong: %s", b, f.Op, f.Mode)
	b.armed = true
	b.disk.Inject(f)
	return nil
}

// split cuts one hub off from the others, or heals all.
func (w *world) split() error {
	if len(w.cutOff) > 0 {
		w.tracef("hubs reach one another again")
		clear(w.cutOff)
		return w.catchUp()
	}
	lone := w.hubs[w.rng.IntN(len(w.hubs))]
	w.tracef("%s is cut off from the other hubs", lone)
	for _, h := range w.hubs {
		if h != lone {
			w.cutOff[pair(h, lone)] = true
			if l := w.links[pair(h, lone)]; l != nil {
				if err := w.finish(l, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *world) catchUp() error {
	for _, h := range w.hubs {
		w.applySoon(h)
	}
	return nil
}

// jump sets the clock of a box: by minutes, years, or to 1970.
func (w *world) jump() error {
	b := w.boxes[w.rng.IntN(len(w.boxes))]
	const year = int64(365 * 24 * 3600 * 1000)
	b.clockMax = max(b.clockMax, b.millis())
	b.skew = []int64{0, w.between(-600_000, 600_000), w.between(-2*year, 2*year), 50 * year, -startMillis}[w.rng.IntN(5)]
	w.tracef("%s: clock says %d", b, b.millis())
	return nil
}
