package sim

import (
	"fmt"
	"io"
	"path/filepath"

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

// oldCard copies a clinic's card, or puts the copy back in place of the card.
func (w *world) oldCard() error {
	b := w.clinics[w.rng.IntN(len(w.clinics))]
	for _, c := range w.clinics {
		if c.card != nil && w.chance(2) {
			b = c
		}
	}
	if b.st == nil || b.armed {
		return nil
	}
	var err error
	if b.card == nil {
		w.tracef("%s: card copied", b)
		b.cardAt = len(w.saves)
		b.card, err = b.disk.image(filepath.Join(w.o.Dir, fmt.Sprintf("%s.card%d", b.name, len(w.saves))))
		return err
	}
	if err := w.noteLost(b); err != nil {
		return err
	}
	w.res.Restores++
	if err := w.crash(b, "old card"); err != nil {
		return err
	}
	b.disk, err = b.disk.restore(b.card)
	b.card, b.behind, b.final = nil, true, record.TreeHead{}
	return err
}

// noteLost marks the saves that may have been on the card only which is taken out
// now. What anybody else holds must come back.
func (w *world) noteLost(b *box) error {
	for _, s := range w.saves {
		if _, ordered := w.model.rids[s.r.RID()]; ordered || s.lost || s.by == b && s.number < b.cardAt {
			continue
		}
		held := s.by != b && !s.by.behind
		for _, o := range w.boxes {
			if o == b || o.st == nil || held {
				continue
			}
			var err error
			if _, held, err = o.st.ByRID(s.r.RID()); err != nil {
				return o.failed("reading", err)
			}
		}
		s.lost = !held
	}
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
	b.skew = []int64{0, w.between(-600_000, 600_000), w.between(-2*year, 2*year), 50 * year, -startMillis}[w.rng.IntN(5)]
	w.tracef("%s: clock says %d", b, b.millis())
	return nil
}
