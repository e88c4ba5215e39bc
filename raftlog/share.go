package raftlog

import (
	"context"
	"time"

	"github.com/healthpost/healthpost/record"
)

// share keeps what this hub remembers of the others on its disk and learns what
// they remember, so that it does not die with one of them. It asks only while
// something new is pledged, and writes only when something changed.
func (n *Node) share(ctx context.Context, r *running, fail func(error)) {
	tick := time.NewTicker(pledgesEvery)
	defer tick.Stop()
	asked := time.Now()
	for {
		select {
		case <-ctx.Done():
			n.savePledges()
			return
		case <-tick.C:
		}
		if time.Since(asked) >= n.o.Profile.Share {
			n.mourn(ctx, r, fail)
			if n.pledges.stirred() {
				n.askAround(ctx, r.link)
			}
			asked = time.Now()
		}
		n.savePledges()
	}
}

func (n *Node) askAround(ctx context.Context, l link) {
	for _, d := range n.o.Hubs() {
		if d == n.o.Device {
			continue
		}
		if t, err := n.askOne(ctx, l, d); err == nil { // else the next round asks again
			n.pledges.learn(t.Pledges)
		}
	}
}

func (n *Node) askOne(ctx context.Context, l link, d record.DeviceID) (testimony, error) {
	ctx, cancel := context.WithTimeout(ctx, max(n.o.Profile.Heartbeat, time.Second))
	defer cancel()
	return l.ask(ctx, d)
}

func (n *Node) savePledges() {
	if err := n.pledges.save(); err != nil {
		n.log.Debug().Err(err).Msg("what other hubs pledged is not on disk")
	}
}
