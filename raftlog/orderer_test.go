package raftlog_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
)

// alone founds a region of one hub with some clinics, admitted but with their
// opening records not ordered.
func alone(t *testing.T, clinics int) (*cluster, *hub) {
	c := newCluster(t, 1, clinics)
	c.hubs[0].ledger.slow = time.Millisecond
	c.found()
	return c, c.hubs[0]
}

// positions are the positions of the entries from a seq on.
func positions(l *memLedger, from int) []record.Position {
	var out []record.Position
	for i := from; i < l.size(); i++ {
		e := must(l.Entry(uint64(i)))
		out = append(out, e.Record.Position())
	}
	return out
}

// TestUrgentFirst: of what is pending together, opening records come first, then
// lane after lane.
func TestUrgentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 3)
		from := h.ledger.size()
		var recs []record.Record
		for _, b := range c.clinics {
			opening := b.open("second")
			for _, lane := range []record.Lane{record.LaneBulk, record.LaneAudit, record.LaneClinical, record.LaneControl} {
				for range 2 {
					recs = append(recs, b.write(lane, record.KindClinical, record.CompartmentID{1}, []byte("body")))
				}
			}
			recs = append(recs, opening)
		}
		h.ledger.put(recs...)
		c.agree(from + len(recs))
		last := -1
		for i, p := range positions(h.ledger, from) {
			rank := int(p.Lane) + 1
			if p.N == 0 {
				rank = 0
			}
			if rank < last {
				t.Fatalf("entry %d is of lane %d, n %d after rank %d", i, p.Lane, p.N, last)
			}
			last = rank
		}
		c.end()
	})
}

// TestFairTurns: a feed with much to order does not hold up one with little.
func TestFairTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 2)
		from := h.ledger.size()
		var recs []record.Record
		for range 600 {
			recs = append(recs, c.clinics[0].visit(1000))
		}
		for range 3 {
			recs = append(recs, c.clinics[1].visit(1000))
		}
		h.ledger.put(recs...)
		c.agree(from + len(recs))
		place := 0
		for i, p := range positions(h.ledger, from) {
			if p.Epoch == c.clinics[1].epoch {
				place = i
			}
		}
		if place > 40 {
			t.Errorf("the small feed was done at place %d of %d", place, len(recs))
		}
		if calls := h.ledger.items(); calls > 20 {
			t.Errorf("%d items for %d records", calls, len(recs))
		}
		c.end()
	})
}

// TestBurstIsBatched: what arrives while an item is under way shares the next.
func TestBurstIsBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 1)
		before := h.ledger.items()
		for range 500 {
			h.ledger.put(c.clinics[0].visit(100))
		}
		c.agree(504)
		if calls := h.ledger.items() - before; calls > 30 {
			t.Errorf("%d items for 500 records", calls)
		}
		c.end()
	})
}

// TestRefusedIsToldOnce: a record that can never be ordered is told once, what
// follows it waits, others go on, and nothing is proposed over and over.
func TestRefusedIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 2)
		bad, good := c.clinics[0], c.clinics[1]
		c.order(h.box.revokes(bad))
		first := bad.visit(100)
		h.ledger.put(first, bad.visit(100), bad.visit(100))
		time.Sleep(time.Hour)
		h.ledger.put(good.visit(100))
		c.agree(7)
		time.Sleep(time.Hour)
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.refused) != 1 || h.refused[0].RID != first.RID() || h.refused[0].Verdict != record.Quarantined {
			t.Errorf("refused: %v", h.refused)
		}
		if calls := h.ledger.items(); calls > 10 {
			t.Errorf("%d items", calls)
		}
		c.end()
	})
}

// TestStrangerWaits: a stranger's records are not refused for good, because it
// may become a member; until then they are tried ever more rarely.
func TestStrangerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 0)
		stranger := newBox("stranger")
		before := h.ledger.items()
		h.ledger.put(stranger.opened, stranger.visit(10), stranger.visit(10), stranger.write(record.LaneControl, record.KindClinical, record.CompartmentID{1}, []byte("x")))
		time.Sleep(4 * time.Hour)
		h.mu.Lock()
		if len(h.refused) != 0 {
			t.Errorf("refused: %v", h.refused)
		}
		h.mu.Unlock()
		if calls := h.ledger.items() - before; calls > 100 {
			t.Errorf("%d items", calls)
		}
		c.order(h.box.admits(stranger, record.RoleClinic))
		admitted := time.Now()
		c.agree(7)
		if took := time.Since(admitted); took > 25*time.Minute {
			t.Errorf("took %v", took)
		}
		c.end()
	})
}

// TestGapWaits: a feed with a hole is looked at again, ever more rarely, and
// goes on when the hole is filled.
func TestGapWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 1)
		missing := c.clinics[0].visit(100)
		h.ledger.put(c.clinics[0].visit(100), c.clinics[0].visit(100))
		before := h.ledger.items()
		time.Sleep(time.Hour)
		if calls := h.ledger.items() - before; calls != 0 {
			t.Errorf("%d items were proposed", calls)
		}
		h.ledger.put(missing)
		filled := time.Now()
		c.agree(7)
		if took := time.Since(filled); took > 11*time.Minute {
			t.Errorf("took %v", took)
		}
		c.end()
	})
}

// TestBodyMissing: a record whose body is not here is not proposed, because it
// would be refused for good.
func TestBodyMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 1)
		r := c.clinics[0].visit(100)
		h.ledger.put(r.WithBody(nil))
		time.Sleep(time.Minute)
		if len(h.refused) != 0 || h.ledger.size() != 4 {
			t.Fatalf("refused %v, size %d", h.refused, h.ledger.size())
		}
		h.ledger.put(r)
		c.agree(5)
		c.end()
	})
}

// TestPendingUnreadable: reading pending records fails for a while.
func TestPendingUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 1)
		h.ledger.mu.Lock()
		h.ledger.readErr = errDiskFull
		h.ledger.mu.Unlock()
		h.ledger.put(c.clinics[0].visit(100))
		time.Sleep(time.Minute)
		c.order(c.clinics[0].open("second"))
		h.ledger.mu.Lock()
		h.ledger.readErr = nil
		h.ledger.mu.Unlock()
		c.agree(6)
		c.end()
	})
}

func TestSubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := alone(t, 1)
		ctx := context.Background()
		if out, err := h.node.Submit(ctx, nil); out != nil || err != nil {
			t.Errorf("nothing: %v %v", out, err)
		}
		var many []record.Record
		for range 10 {
			many = append(many, c.clinics[0].visit(60<<10))
		}
		if _, err := h.node.Submit(ctx, many); !errors.Is(err, raftlog.ErrTooLarge) {
			t.Errorf("too much: %v", err)
		}
		out, err := h.node.Submit(ctx, many[1:3])
		if err != nil || len(out) != 2 || out[0].Verdict != record.Gap || out[0].Want != 1 {
			t.Errorf("gap: %v %v", out, err)
		}
		out, err = h.node.Submit(ctx, many[:3])
		if err != nil || out[0].Verdict != record.Ordered || out[2].Seq != out[0].Seq+2 {
			t.Errorf("in order: %v %v", out, err)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := h.node.Submit(gone, many[3:4]); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		node := h.node
		c.end()
		if _, err := node.Submit(ctx, many[3:4]); !errors.Is(err, raftlog.ErrNotLeader) {
			t.Errorf("after the end: %v", err)
		}
		if s := node.Status(); s.State != "stopped" {
			t.Errorf("state %q", s.State)
		}
	})
}

// TestLeaderChanged tells who waits for it.
func TestLeaderChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 0)
		h := c.hubs[0]
		h.open()
		changed := h.node.LeaderChanged()
		h.run()
		synctest.Wait()
		if h.node.IsLeader() {
			t.Error("leads without a region")
		}
		check(t, "bootstrapping while running", h.node.Bootstrap())
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Error("nobody was told")
		}
		c.until("it leads", h.node.IsLeader)
		c.end()
	})
}
