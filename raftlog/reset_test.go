package raftlog_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
)

// recoveryKey is the one key that may reset the regions of these tests.
var recoveryKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// recovery orders the recovery key, by the votes that it takes.
func (c *cluster) recovery() {
	c.t.Helper()
	c.order(recovery(c.boxes())...)
}

func recovery(hubs []*box) (votes []record.Record) {
	body := must(record.Marshal(record.Recovery{Needed: 1, Keys: [][]byte{recoveryKey.Public().(ed25519.PublicKey)}}))
	for _, b := range hubs[:record.Needed(len(hubs))] {
		votes = append(votes, b.write(record.LaneControl, record.KindRecovery, record.CompartmentID{}, body))
	}
	return votes
}

// statement is the record of a hub that begins the next generation where its
// ledger ends, with some hubs.
func (h *hub) statement(hubs ...*hub) record.Record {
	var members []*box
	for _, x := range hubs {
		members = append(members, x.box)
	}
	return h.box.statement(h.ledger, members...)
}

func (b *box) statement(l raftlog.Ledger, hubs ...*box) record.Record {
	founded := must(l.Entry(1)).Record
	region, head := record.RegionID(founded.RID()), l.Head()
	var members []record.MemberAdd
	for _, x := range hubs {
		members = append(members, x.memberAdd(record.RoleHub))
	}
	sig := ed25519.Sign(recoveryKey, record.ResetClaim(region, 2, head.Size, head.Root, members))
	return b.write(record.LaneControl, record.KindReset, record.CompartmentID{}, must(record.Marshal(record.Reset{Generation: 2, Size: head.Size,
		Root: head.Root[:], Members: members, Signatures: []record.ResetSignature{{Sig: sig}}})))
}

// TestResetOfALostMajority goes on with one hub of three, and takes another one
// in again that returns with its old disk.
func TestResetOfALostMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := newCluster(t, 3, 2)
		c.found()
		c.recovery()
		for range 5 {
			c.order(c.clinics[0].visit(100))
		}
		c.agree(10)
		last, back, gone := c.followers()[0], c.followers()[1], c.leader()
		if err := last.node.Reset(ctx, raftlog.ResetOptions{Generation: 2}); !errors.Is(err, raftlog.ErrMajorityAnswers) {
			t.Fatalf("resetting beside two hubs that answer: %v", err)
		}
		c.until("it is back", func() bool { return last.node.Status().State == "follower" })
		gone.kill(testSeed(t))
		back.kill(testSeed(t))
		size, old := last.ledger.size(), last.node.Status().Server
		last.ledger.put(c.clinics[1].visit(100))
		check(t, "resetting", last.node.Reset(ctx, raftlog.ResetOptions{Generation: 2}))
		c.until("it leads", last.node.IsLeader)
		name := last.node.Status().Server
		if name == old {
			t.Error("it kept its name")
		}
		check(t, "resetting again", last.node.Reset(ctx, raftlog.ResetOptions{Generation: 2}))
		c.until("it leads", last.node.IsLeader)
		time.Sleep(10 * time.Second)
		if n := last.ledger.size(); n != size || last.node.Status().Server != name {
			t.Fatalf("size %d, want %d until the reset is stated", n, size)
		}
		c.order(last.statement(last, back))
		c.until("what waited is ordered", func() bool { return last.ledger.size() == size+2 })

		back.start()
		time.Sleep(time.Minute)
		if s := back.node.Status(); s.State != "asking" || c.voters() != 1 {
			t.Errorf("a hub of the old generation is %s, %d vote", s.State, c.voters())
		}
		check(t, "extending", back.ledger.extend(last.ledger, uint64(last.ledger.size())))
		c.until("it votes", func() bool { return c.voters() == 2 })
		c.order(c.clinics[0].visit(100))
		c.agree(size + 3)
		gone.start()
		time.Sleep(time.Minute)
		if c.voters() != 2 || gone.node.IsLeader() || gone.ledger.size() > size {
			t.Errorf("a hub that is not named takes part: %+v", gone.node.Status())
		}
		check(t, "ending", gone.shut())
		c.end()
	})
}

// TestResetOfABoxThatNeverOrdered makes the only voter of a box that followed
// the region as a clinic does.
func TestResetOfABoxThatNeverOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 2)
		c.found()
		c.recovery()
		c.order(c.clinics[0].visit(100))
		c.agree(9)
		clinic := &hub{c: c, box: c.clinics[1], kv: newMemKV(), ledger: newMemLedger()}
		check(t, "extending", clinic.ledger.extend(c.hubs[0].ledger, uint64(c.hubs[0].ledger.size())))
		clinic.open()
		if err := clinic.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2}); !errors.Is(err, raftlog.ErrMajorityAnswers) {
			t.Fatalf("resetting beside hubs that answer: %v", err)
		}
		for _, h := range c.hubs {
			check(t, "ending", h.shut())
		}
		check(t, "resetting", clinic.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2}))
		clinic.run()
		c.hubs = []*hub{clinic}
		c.until("it leads", clinic.node.IsLeader)
		c.order(clinic.statement(clinic))
		c.order(c.clinics[0].visit(100))
		check(t, "ending", clinic.shut())
		clinic.start()
		c.order(c.clinics[0].visit(100))
		c.end()
	})
}

// TestResetKeepsTheTail hands on what stood in the raft log alone.
func TestResetKeepsTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 2)
		c.found()
		last := c.leader()
		c.net.Isolate(last.box.id, true)
		r := c.clinics[0].visit(100)
		if _, err := last.node.Submit(context.Background(), []record.Record{r}); !errors.Is(err, raftlog.ErrOutcomeUnknown) {
			t.Fatalf("submitting to a leader that is cut off: %v", err)
		}
		check(t, "resetting", last.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2}))
		found := false
		for _, k := range last.kept {
			found = found || k.RID() == r.RID()
		}
		if !found {
			t.Errorf("%d records kept, not the one under way", len(last.kept))
		}
		for _, h := range c.hubs {
			check(t, "ending", h.shut())
		}
	})
}

// TestResetIsWholeOrNothing lets the disk fail at each write of a reset: opened
// again, the hub is the old server with its old log or the new one alone.
func TestResetIsWholeOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		c.agree(5)
		for _, h := range c.hubs {
			check(t, "ending", h.shut())
		}
		h := c.hubs[0]
		whole := h.kv.image()
		for n := 1; ; n++ {
			h.kv = whole.image()
			h.open()
			old := h.node.Status().Server
			h.kv.leftover = n
			err := h.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2, Force: true})
			h.kv.mu.Lock()
			h.kv.leftover, h.kv.broken = 0, false
			h.kv.mu.Unlock()
			h.open()
			renamed := h.node.Status().Server != old
			if err == nil && !renamed || n == 1 && renamed {
				t.Fatalf("write %d: %v, renamed %v", n, err, renamed)
			}
			check(t, "resetting", h.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2, Force: true}))
			h.run()
			c.until("it leads", h.node.IsLeader)
			if s := h.node.Status(); len(s.Hubs) != 1 {
				t.Fatalf("write %d: %+v", n, s)
			}
			check(t, "ending", h.shut())
			if err == nil {
				t.Logf("%d writes", n-1)
				return
			}
		}
	})
}

// TestResetOnRealStore resets, orders, and starts again from what is on the disk.
func TestResetOnRealStore(t *testing.T) {
	clinics := boxes("clinic", 1)
	profile := quick()
	profile.RestoreWait = 300 * time.Millisecond
	net, hubs := storeRegion(t, 3, clinics, profile, raftlog.DefaultLimits())
	order := func(l *storeHub, recs ...record.Record) { // nil for whoever leads: on a busy machine that changes
		t.Helper()
		eventually(t, "records are ordered", func() bool {
			at := l
			if at == nil {
				at = storeLeader(hubs)
			}
			if at == nil {
				return false
			}
			out, err := at.node.Submit(context.Background(), recs)
			return err == nil && (out[len(out)-1].Verdict == record.Ordered || out[len(out)-1].Verdict == record.Duplicate)
		})
	}
	order(nil, recovery([]*box{hubs[0].box, hubs[1].box, hubs[2].box})...)
	order(nil, clinics[0].visit(100))
	eventually(t, "ledgers are equal", func() bool { return sameHeads(hubs, 0) })
	last := hubs[2]
	hubs[0].shut(t)
	hubs[1].shut(t)
	size := last.store.Head().Size
	check(t, "resetting", last.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2}))
	eventually(t, "it leads", last.node.IsLeader)
	order(last, last.box.statement(last.store, last.box, hubs[0].box))
	order(last, clinics[0].visit(100))
	last.shut(t)
	last.start(t, net, profile, raftlog.DefaultLimits(), false)
	order(last, clinics[0].visit(100))
	if got, g := last.store.Head().Size, must(last.store.Generation()); got != size+3 || g != 2 {
		t.Errorf("size %d of generation %d, want %d of 2", got, g, size+3)
	}
	// The other one learned of it by the exchange; its raft state is of no use.
	old := hubs[0]
	old.start(t, net, profile, raftlog.DefaultLimits(), false)
	check(t, "fetching", old.Fetch(context.Background(), last.store.Head()))
	eventually(t, "it is taken in", func() bool { return len(last.node.Status().Hubs) == 2 && last.node.Status().Hubs[1].Voter })
	order(last, clinics[0].visit(100))
	two := []*storeHub{last, old}
	eventually(t, "ledgers are equal", func() bool { return sameHeads(two, size+4) })
	last.shut(t)
	old.shut(t)
}

// TestResetWhileAway starts a hub that learned of a reset from its ledger while
// raft did not run: its old raft state is of no use, and nobody is blamed.
func TestResetWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		c.recovery()
		c.agree(7)
		last, away, gone := c.hubs[0], c.hubs[1], c.hubs[2]
		check(t, "ending", away.shut())
		check(t, "ending", gone.shut())
		check(t, "resetting", last.node.Reset(context.Background(), raftlog.ResetOptions{Generation: 2}))
		c.until("it leads", last.node.IsLeader)
		c.order(last.statement(last, away))
		check(t, "extending", away.ledger.extend(last.ledger, uint64(last.ledger.size())))
		away.start()
		c.until("it votes", func() bool { return c.voters() == 2 })
		if away.forgets() != 0 {
			t.Error("it was told that its disk forgot")
		}
		c.order(c.clinics[0].visit(100))
		c.agree(9)
		c.end()
	})
}
