package node

import (
	"context"
	"time"

	"github.com/healthpost/healthpost/record"
)

// A hub that is alone orders as soon as it starts, and nobody could tell it that
// its disk is an older copy of itself: it would order other records where the
// region already has some, under its own signature. So it first looks around. What
// members hold of its ledger, and it does not, it takes back before it orders
// anything; if nobody answers it goes on.

const (
	elderLook  = 100 * time.Millisecond
	elderQuiet = time.Second // nothing more came
	elderMax   = 15 * time.Second
)

// lookAround returns when every member was met and has nothing more, or after
// atMost.
func (o *ordering) lookAround(ctx context.Context, atMost time.Duration) {
	n := o.n
	members, err := n.store.Members()
	if hubs := n.store.Hubs(); err != nil || len(hubs) != 1 || hubs[0] != n.author.Device {
		return
	}
	want := map[record.DeviceID]bool{}
	for _, m := range members {
		if m.Active() && m.Device != n.author.Device {
			want[m.Device] = true
		}
	}
	if len(want) == 0 {
		return
	}
	o.looking.Store(true)
	defer o.looking.Store(false)
	before := n.store.Head().Size
	defer func() {
		if size := n.store.Head().Size; size > before {
			n.log.Warn().Uint64("entries", size-before).Msg("other boxes held more of the ledger than this disk")
		}
	}()
	tick := time.NewTicker(elderLook)
	defer tick.Stop()
	began, quiet, size := time.Now(), time.Now(), before
	for time.Since(began) < min(atMost, elderMax) || n.store.Head().Size != size {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := n.store.Head().Size; now != size {
			quiet, size = time.Now(), now
		}
		if o.met(want) && time.Since(quiet) >= elderQuiet {
			return
		}
	}
}

// met reports whether every one of these boxes is here and holds no more of the
// ledger than this one.
func (o *ordering) met(want map[record.DeviceID]bool) bool {
	live := o.links.live.Load()
	if live == nil {
		return false
	}
	met, size := 0, o.n.store.Head().Size
	for _, p := range live.Peers() {
		if want[p.Device] && p.Connected && p.Size <= size {
			met++
		}
	}
	return met == len(want)
}
