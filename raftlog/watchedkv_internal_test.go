package raftlog

import (
	"testing"
	"testing/synctest"
	"time"
)

// hangingKV answers no write until it is let go.
type hangingKV struct {
	KV
	let chan struct{}
}

func (k *hangingKV) Update([]Row) error {
	<-k.let
	return nil
}

// TestStandingStillIsNoHangingDisk: an hour in which the process stood still, in the
// middle of a write, is no hour that the disk took; seconds in which it ran are. Time
// is synctest's: nothing here waits.
func TestStandingStillIsNoHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := &hangingKV{let: make(chan struct{})}
		k := &watchedKV{KV: hanging}
		k.stalled(time.Second)
		go k.Update(nil)
		synctest.Wait()
		time.Sleep(time.Hour) // nobody looks
		if got := k.stalled(time.Second); got > 2*time.Second {
			t.Errorf("after standing still: %v", got)
		}
		for range 40 {
			time.Sleep(time.Second)
			k.stalled(time.Second)
		}
		if got := k.stalled(time.Second); got < 40*time.Second || got > 43*time.Second {
			t.Errorf("after 40 s of looking: %v", got)
		}
		close(hanging.let)
		synctest.Wait()
		if got := k.stalled(time.Second); got != 0 {
			t.Errorf("after its end: %v", got)
		}
	})
}
