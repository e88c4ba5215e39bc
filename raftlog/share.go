package raftlog

import (
	"context"
	"time"
)

// share keeps what this hub remembers of the others on its disk and learns what
// they remember, so that it does not die with one of them. It asks only while
// something new is pledged, and writes only when something changed.
func (n *Node) share(ctx context.Context, l link) {
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
		if time.Since(asked) >= n.o.Profile.Share && n.pledges.stirred() {
			n.askAround(ctx, l)
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
		ask, cancel := context.WithTimeout(ctx, max(n.o.Profile.Heartbeat, time.Second))
		t, err := l.ask(ask, d)
		cancel()
		if err != nil {
			continue // the next round asks again
		}
		n.pledges.learn(t.Pledges)
	}
}

func (n *Node) savePledges() {
	if err := n.pledges.save(); err != nil {
		n.log.Debug().Err(err).Msg("what other hubs pledged is not on disk")
	}
}
