package sim

import (
	"github.com/healthpost/healthpost/record"
)

// foreignClockMax is how far, in milliseconds, the hybrid clock may follow that of
// another device.
const foreignClockMax = 5 * 60 * 1000

// checkClock: whatever others' clocks say, a box's hybrid clock stays within the
// bound of the furthest that its own clock ever said.
func (w *world) checkClock(b *box) error {
	b.clockMax = max(b.clockMax, b.millis())
	if got := int64(b.st.Clock() >> 16); got > b.clockMax+foreignClockMax {
		return w.violated(ClockBounded, "%s has hybrid time %d, its own clock never said more than %d", b, got, b.clockMax)
	}
	return nil
}

// checkOrderedClocks: in what was agreed, the later record of a lane has the later
// clock.
func (w *world) checkOrderedClocks(*box) error {
	m := w.model
	for ; w.clocked < len(m.entries); w.clocked++ {
		r := &m.entries[w.clocked].Record
		pos := r.Position()
		if pos.N == 0 || w.ofTwice(pos.Epoch) {
			continue
		}
		f := pos.Feed()
		if before, ok := w.clocks[f]; ok && r.Core.HLC <= before {
			return w.violated(ClockForward, "entry %d, lane %d n %d, does not come after the record before it", w.clocked, pos.Lane, pos.N)
		}
		w.clocks[f] = r.Core.HLC
	}
	return nil
}

// laneClocks is the clock of the last ordered record of each lane.
type laneClocks map[record.Feed]uint64
