package raftlog_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/raftlog"
)

// TestIdleTraffic: what three idle hubs say to each other on a slow link stays
// under 20 MB a day for each follower, with what the layers below add.
func TestIdleTraffic(t *testing.T) {
	const (
		hours = 4
		// A write is one yamux frame in one Noise message in one TCP segment,
		// and an acknowledgement comes back.
		perWrite = 12 + 18 + 52 + 52
		dayMax   = 20_000_000
	)
	synctest.Test(t, func(t *testing.T) {
		pipes := raftlog.NewPipeNet()
		c := newCluster(t, 3, 0)
		c.profile, c.net = raftlog.WAN(), nil
		c.adjust = func(_ *hub, o *raftlog.Options) { pipes.Attach(o) }
		c.found()
		time.Sleep(10 * time.Minute)
		bytes, writes := pipes.Bytes.Load(), pipes.Writes.Load()
		term := c.leader().node.Status().Term
		time.Sleep(hours * time.Hour)
		bytes, writes = pipes.Bytes.Load()-bytes, pipes.Writes.Load()-writes
		day := (bytes + perWrite*writes) * 24 / hours / 2
		t.Logf("%d calls and answers of %d bytes; %.1f MB a day for each follower", writes, bytes/writes, float64(day)/1e6)
		if day > dayMax {
			t.Errorf("%d bytes a day, want at most %d", day, dayMax)
		}
		if now := c.leader().node.Status().Term; now != term {
			t.Errorf("term went from %d to %d", term, now)
		}
		c.end()
	})
}

// TestSlowLink orders over links of 800 ms round trip, under load, without a
// change of leadership, and starts a follower again that missed some.
func TestSlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := raftlog.NewPipeNet()
		pipes.Delay = 400 * time.Millisecond
		c := newCluster(t, 3, 20)
		c.profile, c.net = raftlog.WAN(), nil
		c.limits.TrailingItems = 20
		c.adjust = func(_ *hub, o *raftlog.Options) { pipes.Attach(o) }
		c.found()
		term := c.leader().node.Status().Term
		var worst time.Duration
		order := func() {
			at := time.Now()
			for _, b := range c.clinics {
				c.leader().ledger.put(b.visit(1000))
			}
			want := c.leader().ledger.size() + len(c.clinics)
			c.until("a round is ordered", func() bool { return c.leader().ledger.size() >= want })
			worst = max(worst, time.Since(at))
		}
		for range 50 {
			order()
		}
		var down *hub
		for _, h := range c.hubs {
			if h != c.leader() {
				down = h
			}
		}
		check(t, "ending", down.shut())
		for range 50 {
			order()
		}
		check(t, "taking a snapshot", errOf(c.leader().node.TakeSnapshot()))
		down.start()
		order()
		c.agree(20 * 101)
		if now := c.leader().node.Status().Term; now != term {
			t.Errorf("term went from %d to %d", term, now)
		}
		if worst > 2*time.Second {
			t.Errorf("a round took %v", worst)
		}
		t.Logf("worst round %v, %d fetches", worst, down.fetches.Load())
		c.end()
	})
}
