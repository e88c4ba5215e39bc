package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/healthpost/healthpost/store"
)

// Levels of trust in the wall clock, as records carry them (record.Core.Clock).
const (
	clockWrong = 0 // it shows a time that is over already: what it says is a guess
	clockMoves = 1 // nobody vouched for it since the start; it moves forward
	clockHubs  = 3 // a majority of the hubs signed a checkpoint at the same time by it
)

// builtAfter is before any time at which this program can run. A board whose clock
// has no battery starts in 1970 or with the date of its firmware.
var builtAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	// agreeAhead is how much younger than this box's clock a checkpoint may be that
	// vouches for it, besides the hubs' own pause between two of them: what a checkpoint
	// needs on the way. agreeBehind is how far ahead of it hubs may be.
	agreeAhead  = 10 * time.Minute
	agreeBehind = 5 * time.Minute
	// ownClockMax is how far past the newest checkpoint the time of an earlier run is
	// believed, when the clock forgot it.
	ownClockMax  = 400 * 24 * time.Hour
	keepTimeEach = 10 * time.Minute
)

var lastTimeKey = []byte("clock/last")

// boxClock is the box's clock, moved forward while it shows a time that is known to
// be over: before the program was made, or before a majority of the hubs signed what
// this box holds. Nothing is refused because of it and nothing is ordered by it; it
// dates what staff write, as well as it can, and says how far that is to be believed.
type boxClock struct {
	raw func() time.Time

	mu     sync.Mutex
	floor  time.Time     // it is later than this; guarded by mu
	shift  time.Duration // added while raw is before floor; guarded by mu
	agreed bool          // hubs vouched for raw in this process; guarded by mu
}

func newBoxClock(raw func() time.Time) *boxClock { return &boxClock{raw: raw, floor: builtAfter} }

// now is the best that the box knows.
func (c *boxClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *boxClock) nowLocked() time.Time {
	raw := c.raw()
	if !raw.Before(c.floor) {
		c.shift = 0
		return raw
	}
	if at := raw.Add(c.shift); c.shift > 0 && !at.Before(c.floor) {
		return at
	}
	c.shift = c.floor.Sub(raw)
	return raw.Add(c.shift)
}

// notBefore says that t is over.
func (c *boxClock) notBefore(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.floor) {
		c.floor = t
	}
}

// resume goes on from the time of an earlier run, where the clock forgot it. signed
// is the newest checkpoint: a run that was dated far past it had a wrong clock itself.
func (c *boxClock) resume(last, signed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if signed.Before(c.floor) {
		signed = c.floor
	}
	if raw := c.raw(); raw.Before(c.floor) && last.After(c.floor) && last.Sub(signed) <= ownClockMax {
		c.shift = last.Sub(raw)
	}
}

// signed hears that a majority of the hubs signed something new at t, a moment ago
// or at most pause before.
func (c *boxClock) signed(t time.Time, pause time.Duration) {
	c.notBefore(t.Add(-agreeBehind)) // hubs that are a little ahead make no clock wrong
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.raw().Sub(t)
	c.agreed = d >= -agreeBehind && d <= pause+agreeAhead
}

// trust is one of the levels above.
func (c *boxClock) trust() uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.raw().Before(c.floor):
		return clockWrong
	case c.agreed:
		return clockHubs
	}
	return clockMoves
}

// loadClock takes what the replica knows about the time.
func (n *Node) loadClock() error {
	signed := time.Unix(n.finalTime(), 0)
	if !n.box.Role.Orders() { // its own signature says nothing that its clock did not
		n.clock.notBefore(signed.Add(-agreeBehind))
	}
	last := timeOfHLC(n.store.Clock())
	b, err := n.store.GetRow(lastTimeKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("reading the time of the last run: %w", err)
	}
	if len(b) == 8 {
		if at := time.Unix(int64(binary.BigEndian.Uint64(b)), 0); at.After(last) {
			last = at
		}
	}
	n.clock.resume(last, signed)
	return nil
}

// heardTime hears when a majority of the hubs signed a checkpoint that is news here.
func (n *Node) heardTime() {
	if at := n.finalTime(); at != 0 && !n.box.Role.Orders() {
		n.clock.signed(time.Unix(at, 0), n.o.CosignEvery)
		n.store.TrustClock(n.clock.trust())
	}
}

// timeRow keeps the time for the next run.
func (n *Node) timeRow() store.Row {
	return store.Row{Key: lastTimeKey, Value: binary.BigEndian.AppendUint64(nil, uint64(max(n.clock.now().Unix(), 0)))}
}
