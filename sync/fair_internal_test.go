package peersync

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/record"
)

// TestFairShares: a peer that always has something does not keep others waiting,
// and bytes count, not frames.
func TestFairShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFair(1)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		took := [3]int{}
		for i, size := range []int{16 << 10, 8 << 10, 12 << 10} {
			go func() {
				for f.enter(ctx, record.DeviceID{byte(i)}, size) == nil {
					took[i] += size
					time.Sleep(time.Millisecond) // the others stand in the queue by then
					if took[0]+took[1]+took[2] > 4<<20 {
						stop()
					}
					f.leave()
				}
			}()
		}
		<-ctx.Done()
		synctest.Wait()
		for i, n := range took {
			if n < 1300<<10 || n > 1430<<10 {
				t.Errorf("peer %d had %d bytes of 4 MiB, want a third", i, n)
			}
		}
	})
}

// TestFairForgets: who stops waiting leaves no turn behind that nobody uses, and
// who comes back after a pause has no more and no less than the others.
func TestFairForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFair(1)
		a, b := record.DeviceID{1}, record.DeviceID{2}
		if err := f.enter(t.Context(), a, 1<<20); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- f.enter(ctx, b, 1) }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("a wait that was ended: %v", err)
		}
		f.leave()
		if f.free != 1 || len(f.queues) != 0 {
			t.Fatalf("%d turns free, %d wait", f.free, len(f.queues))
		}
		for range 3 {
			if err := f.enter(t.Context(), b, 1<<21); err != nil {
				t.Fatal(err)
			}
			f.leave()
		}
		if _, ok := f.given[a]; ok {
			t.Error("a peer that is behind the others is still noted")
		}
		f.charge(a, 100)
		if f.given[a] != f.at-fairSlack+100 {
			t.Error("what goes to a peer does not count")
		}
	})
}
