package soak_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// faults happen to a region, one at a time, each undone before the next.
type faults struct {
	t      *testing.T
	region *rig.Region
	rnd    *rand.Rand
	killed []*rig.Box // these may be
	count  map[string]int
}

// run makes a fault a tick, each lasting at most half of that.
func (f *faults) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		hold := every/8 + time.Duration(f.rnd.Int64N(int64(every*3/8)))
		switch n := f.rnd.IntN(10); {
		case n < 4:
			f.cut(ctx, hold)
		case n < 7:
			f.freeze(ctx, hold)
		default:
			f.kill(ctx, hold)
		}
	}
}

const startMax = 5 * time.Minute

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (f *faults) cut(ctx context.Context, hold time.Duration) {
	l := f.region.Links[f.rnd.IntN(len(f.region.Links))]
	f.count["links cut"]++
	l.Set(false)
	pause(ctx, hold)
	l.Set(true)
}

func (f *faults) freeze(ctx context.Context, hold time.Duration) {
	boxes := f.region.Boxes()
	b := boxes[f.rnd.IntN(len(boxes))]
	f.count["stopped and continued"]++
	b.Signal(syscall.SIGSTOP)
	pause(ctx, min(hold, 8*time.Second))
	b.Signal(syscall.SIGCONT)
}

func (f *faults) kill(ctx context.Context, hold time.Duration) {
	b := f.killed[f.rnd.IntN(len(f.killed))]
	f.count["killed"]++
	b.Kill()
	pause(ctx, hold)
	why := rig.Poll(startMax, func() string { // while it was down a command of its staff may have opened the folder
		if err := b.TryStart(); err != nil {
			return err.Error()
		}
		return ""
	})
	if why != "" {
		f.t.Errorf("%s does not start after it was killed: %s\n%s", b.Name, why, b.LogTail())
	}
}

func (f *faults) mayKill(b *rig.Box) bool { return slices.Contains(f.killed, b) }
