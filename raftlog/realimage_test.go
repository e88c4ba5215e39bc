package raftlog_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
)

// copyTree copies a folder as it is on the disk.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	check(t, "clearing", os.RemoveAll(to))
	check(t, "copying a disk", os.CopyFS(to, os.DirFS(from)))
}

// TestImageOnRealStore puts hubs on real stores back to older copies of their
// folders: a follower, the leader, and one while another hub is down. Every
// record that a client was told is ordered stands at its place in the end.
func TestImageOnRealStore(t *testing.T) {
	clinics := boxes("clinic", 1)
	profile := quick()
	profile.RestoreWait, profile.Share = 500*time.Millisecond, time.Second
	patient := profile // where the hub that knows is there, and may be slow to say so
	patient.RestoreWait = time.Minute
	net, hubs := storeRegion(t, 3, clinics, profile, raftlog.DefaultLimits())
	var all []acked
	order := func(n int) {
		for range n {
			r := clinics[0].visit(500)
			eventually(t, "a record is ordered", func() bool {
				l := storeLeader(hubs)
				if l == nil {
					return false
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				out, err := l.node.Submit(ctx, []record.Record{r})
				if err == nil && (out[0].Verdict == record.Ordered || out[0].Verdict == record.Duplicate) {
					all = append(all, acked{r.RID(), r.Position(), out[0].Seq})
					return true
				}
				return false
			})
		}
	}
	// image copies a folder while nothing writes to it, as a backup of a hub that
	// was shut down does.
	image := func(h *storeHub) string {
		h.shut(t)
		to := filepath.Join(t.TempDir(), "image")
		copyTree(t, h.dir, to)
		h.start(t, net, profile, raftlog.DefaultLimits(), false)
		order(1)
		eventually(t, "it has caught up", func() bool { return sameHeads(hubs, uint64(len(all))) })
		return to
	}
	back := func(h *storeHub, i string, profile raftlog.Profile) {
		t.Helper()
		h.forgot.Store(0)
		h.shut(t)
		copyTree(t, i, h.dir)
		h.start(t, net, profile, raftlog.DefaultLimits(), false)
	}
	votes := func() bool {
		l := storeLeader(hubs)
		if l == nil {
			return false
		}
		now := map[string]bool{}
		for _, s := range l.node.Status().Hubs {
			now[s.Server] = s.Voter
		}
		for _, h := range hubs {
			if !now[h.node.Status().Server] {
				return false
			}
		}
		return true
	}
	follower := func() *storeHub {
		for _, h := range hubs {
			if !h.node.IsLeader() {
				return h
			}
		}
		return nil
	}

	order(5)
	f := follower()
	i := image(f)
	order(20)
	back(f, i, patient)
	eventually(t, "the follower is told", func() bool { return f.forgot.Load() == 1 })
	eventually(t, "all vote", votes)
	order(5)

	l := awaitLeader(t, hubs)
	i = image(l)
	eventually(t, "all vote", votes)
	order(20)
	back(l, i, patient)
	eventually(t, "the leader is told", func() bool { return l.forgot.Load() == 1 })
	eventually(t, "all vote", votes)
	order(5)

	f = follower()
	i = image(f)
	eventually(t, "all vote", votes)
	order(20)
	var asked time.Time
	eventually(t, "the third hub knows what the follower pledged to who leads", func() bool {
		if l = storeLeader(hubs); l == nil || l == f { // on a slow machine it can be f by now
			l = hubs[(slices.Index(hubs, f)+1)%len(hubs)]
		}
		third := hubs[3-slices.Index(hubs, f)-slices.Index(hubs, l)]
		name := f.node.Status().Server
		if told := third.node.PledgedBy(name); sameHeads(hubs, uint64(len(all))) && told == l.node.PledgedBy(name) && told.Index > 0 {
			return true
		}
		if time.Since(asked) > 15*time.Second { // they tell each other every 5, while something is new
			asked = time.Now()
			order(1)
		}
		return false
	})
	l.shut(t)
	back(f, i, profile)
	eventually(t, "the follower is told by the third hub", func() bool { return f.forgot.Load() == 1 })
	l.start(t, net, profile, raftlog.DefaultLimits(), false)
	eventually(t, "all vote", votes)
	order(5)

	eventually(t, "ledgers are equal", func() bool { return sameHeads(hubs, uint64(len(all))) })
	for _, a := range all {
		e, err := hubs[0].store.Entry(a.seq)
		if err != nil || e.Record.RID() != a.rid {
			t.Fatalf("acknowledged record %s is not at %d: %v", a.rid.Short(), a.seq, err)
		}
	}
	if twice := net.Twice(); len(twice) > 0 {
		t.Errorf("votes given twice: %v", twice)
	}
	for _, h := range hubs {
		h.shut(t)
	}
}
