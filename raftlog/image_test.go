package raftlog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/raftlog"
)

// Every pause in this file lies in a synctest bubble: it is exact, it costs nothing, and
// what it stands for is time that passes between hubs, not a wait for an event.

// image is a copy of a hub's disk.
type image struct {
	kv     *memKV
	ledger *memLedger
}

// image copies the disk of a running hub, as a machine's snapshot does.
func (h *hub) image() image {
	ledger := h.ledger.crash(1 << 20)
	return image{h.kv.image(), ledger}
}

// restore puts an image in place of the disk of a hub that was killed.
func (h *hub) restore(i image) { h.kv, h.ledger = i.kv.image(), i.ledger.crash(1<<20) }

// writers are clients under way.
type writers struct {
	stop context.CancelFunc
	work sync.WaitGroup
	mu   sync.Mutex // guards all
	all  []acked
}

func (c *cluster) write() *writers {
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{stop: stop}
	for _, b := range c.clinics {
		w.work.Go(func() {
			c.client(ctx, b, 300*time.Millisecond, func(a acked) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.all = append(w.all, a)
			})
		})
	}
	return w
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// stands fails unless every ledger has what clients were told is ordered.
func (c *cluster) stands(all []acked) {
	c.t.Helper()
	c.agree(len(all))
	for _, h := range c.hubs {
		for _, a := range all {
			if seq, ok := h.ledger.seq(a.rid, a.pos); !ok || seq != a.seq {
				c.t.Fatalf("%s: acknowledged record %s at %d, has %d %v", h.box.name, a.rid.Short(), a.seq, seq, ok)
			}
		}
	}
	if twice := c.net.Twice(); len(twice) > 0 {
		c.t.Fatalf("votes given twice: %v", twice)
	}
}

func (c *cluster) followers() (out []*hub) {
	for _, h := range c.hubs {
		if h != c.leader() {
			out = append(out, h)
		}
	}
	return out
}

// allVote reports whether every hub votes, under the name that it has now.
func (c *cluster) allVote() bool {
	l := c.leader()
	if l == nil {
		return false
	}
	votes := map[string]bool{}
	for _, s := range l.node.Status().Hubs {
		votes[s.Server] = s.Voter
	}
	for _, h := range c.hubs {
		if h.node == nil || !votes[h.node.Status().Server] {
			return false
		}
	}
	return true
}

// TestImageOfAHub starts a follower and then a leader from an image of its disk:
// it gives up its name and is taken in again, and what was ordered stands.
func TestImageOfAHub(t *testing.T) {
	for _, which := range []string{"follower", "leader"} {
		t.Run(which, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 2)
				c.found()
				w := c.write()
				time.Sleep(3 * time.Second)
				h := c.leader()
				if which == "follower" {
					h = c.followers()[0]
				}
				old, i := h.node.Status().Server, h.image()
				time.Sleep(2 * time.Second)
				h.kill(rand.New(rand.NewPCG(1, 1)))
				h.restore(i)
				h.start()
				c.until("it is told", func() bool { return h.forgets() == 1 })
				c.until("all vote again", c.allVote)
				if name := h.node.Status().Server; name == old {
					t.Error("it kept its name")
				}
				if r := h.lost[0]; r.Server != old || r.Replaced || r.Term < r.HadTerm || r.Index <= r.HadIndex && r.Voted <= r.HadTerm {
					t.Errorf("it was told %+v", r)
				}
				w.stop()
				w.work.Wait()
				c.stands(w.all)
				c.end()
			})
		})
	}
}

// TestOldName starts a hub from an image that is older than its present name.
func TestOldName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 2)
		c.found()
		h := c.followers()[0]
		w := c.write()
		i := h.image()
		for n := range 2 {
			time.Sleep(2 * time.Second)
			h.kill(rand.New(rand.NewPCG(1, 1)))
			h.restore(i)
			h.start()
			c.until("it is told", func() bool { return h.forgets() == n+1 })
			c.until("all vote again", c.allVote)
		}
		if h.forgets() != 2 {
			t.Errorf("told %d times, want 2", h.forgets())
		}
		w.stop()
		w.work.Wait()
		c.stands(w.all)
		c.end()
	})
}

// TestReplacedName starts a hub from an image under a name that was given up,
// when nobody remembers what the name pledged: the configuration says enough.
func TestReplacedName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		h := c.followers()[0]
		last, i := h.node.Status().Last, h.image()
		for range 5 {
			c.order(c.clinics[0].visit(100))
		}
		// The order may have gone on without it: it is to have something to forget, which another hub knows of.
		name := h.node.Status().Server
		c.until("it pledged what it will forget", func() bool {
			l := c.leader()
			return l != nil && l.node.Witnessed(name).Index > last
		})
		h.kill(rand.New(rand.NewPCG(1, 1)))
		h.restore(i)
		h.start()
		c.until("it is told", func() bool { return h.forgets() == 1 })
		c.until("all vote", c.allVote)
		for _, x := range c.hubs {
			check(t, "ending", x.shut())
			check(t, "forgetting", x.kv.Update([]raftlog.Row{{Key: []byte("mp")}}))
		}
		h.restore(i)
		for _, x := range c.hubs {
			x.start()
		}
		c.until("it is told again", func() bool { return h.forgets() == 2 })
		if r := h.lost[1]; !r.Replaced {
			t.Errorf("told %+v", r)
		}
		c.until("all vote", c.allVote)
		c.agree(10)
		c.end()
	})
}

// TestRestartBesideADeadHub restarts a hub in order while another one is dead:
// it waits for the dead one as long as the profile says and not longer.
func TestRestartBesideADeadHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		c.order(c.clinics[0].visit(100))
		dead := c.leader()
		check(t, "ending", dead.shut())
		c.until("another leads", func() bool { return c.leader() != nil })
		for _, h := range []*hub{c.leader(), c.followers()[0]} {
			if h == dead {
				h = c.followers()[1]
			}
			name := h.node.Status().Server
			check(t, "ending", h.shut())
			began := time.Now()
			h.start()
			c.order(c.clinics[0].visit(100))
			took := time.Since(began)
			t.Logf("ordering again after %v", took)
			if took > c.profile.RestoreWait+30*time.Second {
				t.Errorf("took %v", took)
			}
			if h.forgets() != 0 || h.node.Status().Server != name {
				t.Error("an ordinary restart made a new server")
			}
		}
		dead.start()
		c.until("all vote", c.allVote)
		c.agree(7)
		c.end()
	})
}

// TestColdStart ends all hubs and starts them again, one of them later than any
// waits, and all from their own disks.
func TestColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		c.found()
		for _, late := range []time.Duration{0, 10 * time.Second, time.Hour} {
			c.order(c.clinics[0].visit(100))
			for _, h := range c.hubs {
				h.kill(rand.New(rand.NewPCG(2, 2)))
			}
			began := time.Now()
			c.hubs[0].start()
			if late == time.Hour {
				time.Sleep(late)
				if s := c.hubs[0].node.Status().State; s != "asking" {
					t.Errorf("one of three is %s, want it to wait for an answer", s)
				}
				began = time.Now()
			}
			c.hubs[1].start()
			time.Sleep(min(late, 10*time.Second))
			c.hubs[2].start()
			c.order(c.clinics[0].visit(100))
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("ordering again took %v", took)
			}
			c.until("all vote", c.allVote)
		}
		for _, h := range c.hubs {
			if h.forgets() != 0 {
				t.Errorf("%s was told that it forgot", h.box.name)
			}
		}
		c.agree(6)
		c.end()
	})
}

// TestAloneNeedsNobody restarts a region of one hub.
func TestAloneNeedsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1)
		c.found()
		check(t, "ending", c.hubs[0].shut())
		began := time.Now()
		c.hubs[0].start()
		c.order(c.clinics[0].visit(100))
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v", took)
		}
		c.end()
	})
}

// TestImageInARegionOfTwo puts one of two hubs back in time: the other holds
// everything that the two ordered, goes on alone and takes it in again.
func TestImageInARegionOfTwo(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarts=%v", restarts), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 2, 2)
				c.found()
				w := c.write()
				for range 3 {
					time.Sleep(3 * time.Second)
					h, other := c.leader(), c.followers()[0]
					i := h.image()
					time.Sleep(3 * time.Second)
					if restarts {
						other.kill(rand.New(rand.NewPCG(1, 1)))
					}
					h.kill(rand.New(rand.NewPCG(1, 1)))
					time.Sleep(20 * time.Second)
					h.restore(i)
					n := h.forgets()
					h.start()
					if restarts {
						other.start()
					}
					c.until("it is told", func() bool { return h.forgets() == n+1 })
					began := time.Now()
					c.until("both vote", c.allVote)
					if took := time.Since(began); took > time.Minute {
						t.Errorf("took %v", took)
					}
				}
				w.stop()
				w.work.Wait()
				c.stands(w.all)
				c.end()
			})
		})
	}
}

// TestImageOfALoneHub puts the only hub back in time. What was ordered since
// comes back from a clinic before raft runs, and ordering goes on after it.
func TestImageOfALoneHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1)
		c.found()
		h := c.hubs[0]
		for range 5 {
			c.order(c.clinics[0].visit(100))
		}
		i := h.image()
		for range 5 {
			c.order(c.clinics[0].visit(100))
		}
		whole := h.ledger
		check(t, "ending", h.shut())
		h.restore(i)
		check(t, "extending", h.ledger.extend(whole, uint64(whole.size())))
		h.start()
		for range 5 {
			c.order(c.clinics[0].visit(100))
		}
		if n := h.ledger.size(); n != whole.size()+5 {
			t.Errorf("size %d, want %d", n, whole.size()+5)
		}
		check(t, "ending", h.shut())
		h.start()
		c.order(c.clinics[0].visit(100))
		c.agree(whole.size() + 6)
		c.end()
	})
}

// TestWitnessIsDead restores a follower while the leader it acknowledged to is
// dead: the third hub was told, so the two do not order what contradicts.
func TestWitnessIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 2)
		c.found()
		w := c.write()
		time.Sleep(3 * time.Second)
		l, h := c.leader(), c.followers()[0]
		i := h.image()
		time.Sleep(20 * time.Second)
		l.kill(rand.New(rand.NewPCG(1, 1)))
		h.kill(rand.New(rand.NewPCG(1, 1)))
		h.restore(i)
		h.start()
		c.until("it is told", func() bool { return h.forgets() == 1 })
		n := w.count()
		time.Sleep(time.Minute)
		if w.count() != n {
			t.Error("one hub of three ordered with one that forgot")
		}
		l.start()
		c.until("all vote again", c.allVote)
		w.stop()
		w.work.Wait()
		c.stands(w.all)
		c.end()
	})
}

// TestImages runs many short lives of three hubs, in which hubs are killed,
// restarted and put back to old images of their disks while clients write. No
// server votes twice in a term, and what clients were told stands everywhere.
// HEALTHPOST_TEST_SEED runs one seed, HEALTHPOST_TEST_SEEDS so many.
func TestImages(t *testing.T) {
	first, count := uint64(1), 200
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		first, count = must(strconv.ParseUint(s, 10, 64)), 1
	} else if s := os.Getenv("HEALTHPOST_TEST_SEEDS"); s != "" {
		count = must(strconv.Atoi(s))
	}
	told, began := 0, time.Now()
	for seed := first; seed < first+uint64(count); seed++ {
		synctest.Test(t, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
				}
			})
			l := newLife(t, seed)
			l.run()
			l.c.stands(l.w.all)
			for _, h := range l.c.hubs {
				told += h.forgets()
			}
			l.c.end()
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d seeds, %d hubs gave up their names, %v", count, told, time.Since(began))
	if count > 10 && told == 0 {
		t.Error("no image was noticed")
	}
}

// life is one seed of TestImages.
type life struct {
	c       *cluster
	rng     *rand.Rand
	w       *writers
	images  map[*hub][]image
	forgets map[*hub]int // of hubs that last started on their own disk
}

func newLife(t *testing.T, seed uint64) *life {
	c := newCluster(t, 3, 2)
	c.limits.SnapshotThreshold, c.limits.SnapshotInterval, c.limits.TrailingItems = 30, 5*time.Second, 20
	c.net.Pipelined = seed%2 == 0
	return &life{c: c, rng: rand.New(rand.NewPCG(seed, 9)), images: map[*hub][]image{}, forgets: map[*hub]int{}}
}

func (l *life) run() {
	l.c.found()
	l.w = l.c.write()
	for range 4 {
		l.wait(4000)
		for _, h := range l.c.hubs {
			if l.rng.IntN(3) > 0 {
				l.images[h] = append(l.images[h], h.image())
			}
		}
		l.wait(4000)
		l.event()
		l.c.until("all vote again", l.c.allVote)
		for h, n := range l.forgets {
			if h.forgets() != n {
				l.c.t.Fatalf("%s gave up its name on its own disk", h.box.name)
			}
		}
		n := l.w.count()
		l.c.until("more is ordered", func() bool { return l.w.count() > n+2 })
	}
	l.w.stop()
	l.w.work.Wait()
}

// wait lets the bubble's time pass.
func (l *life) wait(millis int) { <-time.After(time.Duration(l.rng.IntN(millis)) * time.Millisecond) }

// start starts a hub that was killed, on an image of its disk if there is one.
func (l *life) start(h *hub, old bool) {
	l.forgets[h] = h.forgets()
	if images := l.images[h]; old && len(images) > 0 {
		h.restore(images[l.rng.IntN(len(images))])
		delete(l.forgets, h)
	}
	h.start()
}

func (l *life) event() {
	hubs := l.c.hubs
	order := l.rng.Perm(len(hubs))
	one, two := hubs[order[0]], hubs[order[1]]
	switch l.rng.IntN(5) {
	case 0: // one goes back in time
		one.kill(l.rng)
		l.wait(8000)
		l.start(one, true)
	case 1: // another one is dead meanwhile
		l.pause()
		two.kill(l.rng)
		l.wait(5000)
		one.kill(l.rng)
		l.start(one, true)
		l.wait(40000)
		l.start(two, false)
	case 2: // all start again, one of them back in time
		l.pause()
		for _, h := range hubs {
			h.kill(l.rng)
		}
		for i, at := range order {
			l.start(hubs[at], i == 0)
			l.wait(8000)
		}
	case 3: // cut off, back in time, and joined again
		l.c.net.Isolate(one.box.id, true)
		l.wait(8000)
		one.kill(l.rng)
		l.start(one, true)
		l.wait(8000)
	case 4: // no image at all
		one.kill(l.rng)
		l.wait(10000)
		l.start(one, false)
	}
}

// pause gives the hubs time to tell each other what was pledged, which is what
// they need when the next one that dies is who it was pledged to.
func (l *life) pause() {
	<-time.After(2*l.c.profile.Share + time.Second)
}

// TestImageAgainstMajority puts one of the two hubs that hold a record back in
// time and then lets it meet the third, which never had it. A hub that trusts
// its disk elects the third and loses the record, and that is what asking prevents.
func TestImageAgainstMajority(t *testing.T) {
	for _, believes := range []bool{false, true} {
		t.Run(fmt.Sprintf("believes=%v", believes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, 2)
				c.found()
				leader, back, third := c.leader(), c.followers()[0], c.followers()[1]
				i := back.image()
				c.net.Isolate(third.box.id, true)
				var all []acked
				for range 5 {
					r := c.clinics[0].visit(100)
					all = append(all, acked{r.RID(), r.Position(), c.order(r)[0].Seq})
				}
				back.kill(rand.New(rand.NewPCG(1, 1)))
				back.restore(i)
				if believes {
					c.net.Isolate(leader.box.id, true)
					back.open()
					back.node.Believe()
					back.run()
				} else {
					back.start()
					c.until("it is told", func() bool { return back.forgets() == 1 })
					c.net.Isolate(leader.box.id, true)
				}
				c.net.Isolate(third.box.id, false)
				time.Sleep(2 * time.Minute)
				if leads := third.node.IsLeader() || back.node.IsLeader(); leads != believes {
					t.Fatalf("two hubs without the record order: %v, want %v", leads, believes)
				}
				if believes {
					for _, h := range c.hubs {
						check(t, "ending", h.shut())
					}
					return
				}
				c.net.Isolate(leader.box.id, false)
				c.until("all vote again", c.allVote)
				c.stands(all)
				c.end()
			})
		})
	}
}
