package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
)

// TestKillLeaderUnderLoad kills whoever leads, three times, while clients write.
// What a client was told is ordered has the same place in every ledger at the
// end; order resumes each time.
func TestKillLeaderUnderLoad(t *testing.T) {
	rng := testSeed(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 4)
		c.limits.SnapshotThreshold, c.limits.SnapshotInterval, c.limits.TrailingItems = 100, 5*time.Second, 50
		c.found()
		ctx, stop := context.WithCancel(context.Background())
		var work sync.WaitGroup
		var mu sync.Mutex
		var all []acked
		for _, b := range c.clinics {
			work.Go(func() {
				c.client(ctx, b, 30*time.Millisecond, func(a acked) {
					mu.Lock()
					defer mu.Unlock()
					all = append(all, a)
				})
			})
		}
		for round := range 3 {
			time.Sleep(5 * time.Second)
			c.until("somebody leads", func() bool { return c.leader() != nil })
			l := c.leader()
			mu.Lock()
			before := len(all)
			mu.Unlock()
			l.kill(rng)
			c.until("order resumes", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(all) > before+len(c.clinics)
			})
			time.Sleep(time.Duration(rng.IntN(20000)) * time.Millisecond)
			t.Logf("round %d: hub %s killed", round, l.box.name)
			l.start()
		}
		time.Sleep(5 * time.Second)
		stop()
		work.Wait()
		c.agree(len(all))
		for _, h := range c.hubs {
			for _, a := range all {
				if seq, ok := h.ledger.seq(a.rid, a.pos); !ok || seq != a.seq {
					t.Fatalf("%s: acknowledged record %s at %d, has %d %v", h.box.name, a.rid.Short(), a.seq, seq, ok)
				}
			}
		}
		t.Logf("%d acknowledged", len(all))
		c.end()
	})
}

// TestRestartReplaysOnce stops all hubs at once, with ledgers that lost their
// last items, and starts them again.
func TestRestartReplaysOnce(t *testing.T) {
	rng := testSeed(t)
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.limits.SnapshotThreshold, c.limits.TrailingItems, c.limits.SnapshotInterval = 50, 10, time.Hour
		c.found()
		for round := range 5 {
			for range 30 {
				c.order(c.clinics[0].visit(100))
			}
			if rng.IntN(2) == 0 {
				if _, err := c.leader().node.TakeSnapshot(); err != nil {
					t.Fatal(err)
				}
			}
			head := c.leader().ledger.Head()
			for _, h := range c.hubs {
				h.kill(rng)
			}
			for _, h := range c.hubs {
				h.start()
			}
			c.until("somebody leads", func() bool { return c.leader() != nil })
			c.agree(int(head.Size))
			for _, h := range c.hubs {
				if root, err := h.ledger.RootAt(head.Size); err != nil || root != head.Root {
					t.Fatalf("round %d: %s has another root at %d: %v", round, h.box.name, head.Size, err)
				}
			}
		}
		c.end()
	})
}

// TestNewHubBySnapshot admits a hub when the others have dropped the log that it
// would need: it gets a reference and fetches the range.
func TestNewHubBySnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, 1)
		late := c.hubs[1]
		c.hubs = c.hubs[:1]
		c.limits.TrailingItems = 5
		c.found()
		for range 200 {
			c.order(c.clinics[0].visit(100))
		}
		if _, err := c.hubs[0].node.TakeSnapshot(); err != nil {
			t.Fatal(err)
		}
		c.hubs = append(c.hubs, late)
		c.order(c.hubs[0].box.admits(late.box, record.RoleHub), late.box.opened)
		late.start()
		c.until("the new hub votes", func() bool { return c.voters() == 2 })
		c.order(c.clinics[0].visit(100))
		c.agree(200)
		if late.fetches.Load() == 0 {
			t.Error("the new hub fetched nothing")
		}
		if late.ledger.items() > 20 {
			t.Errorf("the new hub ordered %d items itself", late.ledger.items())
		}
		c.end()
	})
}

// TestReplicaBecomesHub admits a box that already has a part of the ledger: it
// follows the log without ordering what it has.
func TestReplicaBecomesHub(t *testing.T) {
	for _, has := range []int{3, 57, 104} {
		t.Run(fmt.Sprint(has), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2, 1)
				late := c.hubs[1]
				c.hubs = c.hubs[:1]
				c.found()
				for range 100 {
					c.order(c.clinics[0].visit(100))
				}
				c.hubs = append(c.hubs, late)
				check(t, "extending", late.ledger.extend(c.hubs[0].ledger, uint64(has)))
				c.order(c.hubs[0].box.admits(late.box, record.RoleHub), late.box.opened)
				late.start()
				c.until("the new hub votes", func() bool { return c.voters() == 2 })
				c.order(c.clinics[0].visit(100))
				c.agree(100)
				check(t, "taking a snapshot", errOf(late.node.TakeSnapshot()))
				c.end()
			})
		})
	}
}

func errOf[T any](_ T, err error) error { return err }

// TestNewDisk starts a hub on an empty disk: it gets another name, and its old
// vote is taken out before the new one counts.
func TestNewDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		for range 50 {
			c.order(c.clinics[0].visit(100))
		}
		h := c.hubs[2]
		if h == c.leader() {
			h = c.hubs[1]
		}
		old := h.node.Status().Server
		check(t, "ending", h.shut())
		h.kv, h.ledger = newMemKV(), newMemLedger()
		h.start()
		if h.node.Status().Server == old {
			t.Fatal("a new disk kept the old name")
		}
		named := func(name string) (known, votes bool) {
			if l := c.leader(); l != nil {
				for _, s := range l.node.Status().Hubs {
					if s.Server == name {
						return true, s.Voter
					}
				}
			}
			return false, false
		}
		c.until("the new name votes", func() bool { _, votes := named(h.node.Status().Server); return votes })
		if known, _ := named(old); known {
			t.Error("the old name is still there")
		}
		c.order(c.clinics[0].visit(100))
		c.agree(50)
		c.end()
	})
}

// TestRevokedHub takes a hub out, the leader too.
func TestRevokedHub(t *testing.T) {
	for _, which := range []string{"follower", "leader"} {
		t.Run(which, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 1)
				c.found()
				gone := c.hubs[2]
				if which == "leader" {
					gone = c.leader()
				}
				for _, by := range c.hubs {
					if by != gone {
						c.order(by.box.revokes(gone.box))
					}
				}
				c.until("two voters are left", func() bool { l := c.leader(); return l != nil && l != gone && c.voters() == 2 })
				c.order(c.clinics[0].visit(100))
				if gone.node.IsLeader() {
					t.Error("the revoked hub leads")
				}
				check(t, "ending", gone.shut())
				c.agree(6)
				c.end()
			})
		})
	}
}

// TestSnapshotAheadOfLedger starts a hub whose newest snapshot names more than
// its ledger has: raft stores a snapshot before the ledger has what it names.
func TestSnapshotAheadOfLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.limits.TrailingItems = 5
		c.found()
		var h *hub
		for _, x := range c.hubs {
			if x != c.leader() {
				h = x
			}
		}
		before := h.ledger.crash(1000)
		for range 100 {
			c.order(c.clinics[0].visit(100))
		}
		c.agree(100)
		check(t, "taking a snapshot", errOf(h.node.TakeSnapshot()))
		check(t, "ending", h.shut())
		h.ledger = before
		h.start()
		c.order(c.clinics[0].visit(100))
		c.agree(100)
		if h.fetches.Load() != 1 {
			t.Errorf("%d fetches, want 1", h.fetches.Load())
		}
		c.end()
	})
}

// TestOtherRoot ends the node of a hub whose ledger is not the region's.
func TestOtherRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1)
		c.found()
		c.order(c.clinics[0].visit(100))
		check(t, "taking a snapshot", errOf(c.hubs[0].node.TakeSnapshot()))
		check(t, "ending", c.hubs[0].shut())
		other := newCluster(t, 1, 1)
		other.found()
		for range 3 {
			other.order(other.clinics[0].visit(200))
		}
		other.end()
		l := other.hubs[0].ledger
		l.at = position{}
		c.hubs[0].ledger = l
		c.hubs[0].open()
		if err := c.hubs[0].node.Run(context.Background()); !errors.Is(err, raftlog.ErrDiverged) {
			t.Errorf("got %v, want ErrDiverged", err)
		}
	})
}

// TestLedgerFails ends the node when an item cannot be applied, and applies
// nothing after it.
func TestLedgerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1)
		c.found()
		h := c.hubs[0]
		index, _, size := h.ledger.Applied()
		h.ledger.mu.Lock()
		h.ledger.failAt = index + 1
		h.ledger.mu.Unlock()
		_, err := h.node.Submit(context.Background(), []record.Record{c.clinics[0].visit(100)})
		if !errors.Is(err, raftlog.ErrOutcomeUnknown) {
			t.Errorf("submitting: %v, want ErrOutcomeUnknown", err)
		}
		if err := <-h.ended; !errors.Is(err, errDiskFull) {
			t.Errorf("running: %v, want the ledger's error", err)
		}
		if after, _, n := h.ledger.Applied(); after != index || n != size {
			t.Errorf("applied %d, size %d after the failure, want %d, %d", after, n, index, size)
		}
		h.ledger.failAt = 0
		h.start()
		c.until("the item is applied after a restart", func() bool { return h.ledger.size() == int(size)+1 })
		c.end()
	})
}

// TestLogDiskFull ends the node of a hub that cannot store its term, without a
// panic, and lets the others go on.
func TestLogDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		old := c.leader()
		var full *hub
		for _, h := range c.hubs {
			if h != old {
				full = h
			}
		}
		full.kv.setBroken(true)
		check(t, "ending the leader", old.shut())
		if err := <-full.ended; !errors.Is(err, errDiskFull) {
			t.Fatalf("running on a full disk: %v", err)
		}
		full.node = nil
		full.kv.setBroken(false)
		full.start()
		old.start()
		c.order(c.clinics[0].visit(100))
		c.agree(6)
		c.end()
	})
}

// TestLostLeaderItems is the livelock of raft's issue 697: a leader that was cut
// off holds items that nobody else has, and gets a snapshot of an index among
// them. Without the repair it refuses everything that follows and gets the same
// snapshot again, for ever.
func TestLostLeaderItems(t *testing.T) {
	for _, c := range []struct {
		name     string
		trailing uint64
		exact    bool // its last item is the one at the snapshot
		careless bool
	}{
		{name: "items past the snapshot", trailing: 20},
		{name: "items past the snapshot, short log", trailing: 1},
		{name: "last item at the snapshot", trailing: 1, exact: true},
		{name: "without repair, items past the snapshot", trailing: 20, careless: true},
		{name: "without repair, short log", trailing: 1, careless: true},
		{name: "without repair, last item at the snapshot", trailing: 1, exact: true, careless: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				snapshots := lostLeaderReturns(t, c.trailing, c.exact, c.careless)
				if livelock := snapshots >= livelockSnapshots; livelock != c.careless {
					t.Errorf("%d snapshots, livelock is %v, want %v", snapshots, livelock, c.careless)
				}
			})
		})
	}
}

// livelockSnapshots of one index are no coincidence.
const livelockSnapshots = 50

func lostLeaderReturns(t *testing.T, trailing uint64, exact, careless bool) (snapshots int64) {
	c := newCluster(t, 3, 60)
	c.limits.TrailingItems, c.limits.FlushBytes, c.limits.InFlightMax = trailing, 1, 64
	c.found()
	lost := c.leader()
	var sent atomic.Int64
	if careless {
		lost.node.SetCareless(func() {
			if sent.Add(1) == livelockSnapshots { // nothing else would end it
				c.net.Isolate(lost.box.id, true)
			}
		})
	}
	c.net.Isolate(lost.box.id, true)
	var work sync.WaitGroup
	for _, b := range c.clinics[:40] {
		r := b.visit(100)
		work.Go(func() { lost.node.Submit(context.Background(), []record.Record{r}) })
	}
	work.Wait() // it steps down, the items stay in its log
	last := lost.node.Status().Last
	c.until("another hub leads", func() bool { l := c.leader(); return l != nil && l != lost })
	l := c.leader()
	to := last - 10
	if exact {
		to = last
	}
	for i := 0; l.node.Status().Last < to; i++ {
		c.order(c.clinics[40+i%20].visit(100))
	}
	at, err := l.node.TakeSnapshot()
	check(t, "taking a snapshot", err)
	if at != to {
		t.Fatalf("snapshot at %d, want %d, last item of the lost leader %d", at, to, last)
	}
	c.net.Isolate(lost.box.id, false)
	c.order(c.clinics[59].visit(100))
	c.until("the lost leader is back, or never", func() bool {
		return sent.Load() >= livelockSnapshots || lost.ledger.Head() == c.leader().ledger.Head()
	})
	c.end()
	return sent.Load()
}

// TestHangingDisk ends the node of a leader whose log write does not return, so
// that another one can lead.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		l := c.leader()
		hang := make(chan struct{})
		l.kv.mu.Lock()
		l.kv.hang = hang
		l.kv.mu.Unlock()
		began := time.Now()
		r := c.clinics[0].visit(100)
		go l.node.Submit(context.Background(), []record.Record{r})
		if err := <-l.ended; !errors.Is(err, raftlog.ErrStalled) {
			t.Errorf("running on a hanging disk: %v", err)
		}
		if took := time.Since(began); took > c.limits.StallMax+5*time.Second {
			t.Errorf("took %v", took)
		}
		l.node = nil
		l.alive.Store(nil)
		c.order(r)
		c.agree(6)
		close(hang) // or the process would have to end
		c.end()
	})
}

// TestItemThatIsNoBatch orders nothing on any hub and stops none.
func TestItemThatIsNoBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		size := c.leader().ledger.size()
		for _, item := range [][]byte{nil, []byte("nonsense"), {0x83, 1, 0, 0x81, 0x80}} {
			check(t, "proposing", c.leader().node.Propose(item))
		}
		c.order(c.clinics[0].visit(100))
		c.agree(size + 1)
		c.end()
	})
}

// TestForeignDisk refuses raft state that another device made.
func TestForeignDisk(t *testing.T) {
	c := newCluster(t, 2, 0)
	c.hubs[0].open()
	_, err := raftlog.Open(raftlog.Options{Device: c.hubs[1].box.id, Ledger: c.hubs[1].ledger, Pending: c.hubs[1].ledger, KV: c.hubs[0].kv})
	if !errors.Is(err, raftlog.ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
	check(t, "closing what never ran", c.hubs[0].node.Close())
	if err := c.hubs[0].node.Run(context.Background()); !errors.Is(err, raftlog.ErrClosed) {
		t.Errorf("running after close: %v", err)
	}
}
