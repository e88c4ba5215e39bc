package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/rs/zerolog"
)

// cluster is a region's hubs in one process. Its methods run in the test's
// goroutine.
type cluster struct {
	t       testing.TB
	net     *raftlog.MemNet
	hubs    []*hub
	clinics []*box
	profile raftlog.Profile
	limits  raftlog.Limits
	log     zerolog.Logger
	adjust  func(*hub, *raftlog.Options)
	polls   int // how often until looks, ten times a second
}

// hub is one of them: what is on its disk, and its node while it runs.
type hub struct {
	c       *cluster
	box     *box
	kv      *memKV
	ledger  *memLedger
	node    *raftlog.Node
	stop    context.CancelFunc
	ended   chan error
	fetches atomic.Int64
	alive   atomic.Pointer[raftlog.Node] // node, for the clients

	mu      sync.Mutex // guards what follows
	refused []record.Outcome
	lost    []raftlog.RolledBack
	kept    []record.Record
}

// forgets counts how often this hub was told that its disk forgot something.
func (h *hub) forgets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.lost)
}

func testSeed(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		seed = must(strconv.ParseUint(s, 10, 64))
	}
	t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 4))
}

func newCluster(t testing.TB, hubs, clinics int) *cluster {
	c := &cluster{t: t, net: raftlog.NewMemNet(), clinics: boxes("clinic", clinics), profile: raftlog.LAN(), limits: raftlog.DefaultLimits(), log: zerolog.Nop(),
		polls: 18000}
	if os.Getenv("HEALTHPOST_LOG") != "" {
		c.log = zerolog.New(zerolog.NewTestWriter(t))
	}
	for _, b := range boxes("hub", hubs) {
		c.hubs = append(c.hubs, &hub{c: c, box: b, kv: newMemKV(), ledger: newMemLedger()})
	}
	t.Cleanup(func() { // after a failure
		for _, h := range c.hubs {
			if node := h.alive.Load(); node != nil {
				node.Close()
			}
		}
	})
	return c
}

func (c *cluster) boxes() []*box {
	var out []*box
	for _, h := range c.hubs {
		out = append(out, h.box)
	}
	return out
}

// found starts the first hub, founds the region and starts the other hubs,
// until all vote.
func (c *cluster) found() {
	c.t.Helper()
	first := c.hubs[0]
	first.open()
	check(c.t, "bootstrapping", first.node.Bootstrap())
	check(c.t, "bootstrapping twice", first.node.Bootstrap())
	first.run()
	c.until("the founder leads", first.node.IsLeader)
	c.order(founding(c.boxes(), c.clinics)...)
	for _, h := range c.hubs[1:] {
		h.start()
	}
	c.until("all hubs vote", func() bool { return c.voters() == len(c.hubs) })
}

func (h *hub) open() {
	h.c.t.Helper()
	o := raftlog.Options{Device: h.box.id, Ledger: h.ledger, Pending: h.ledger, KV: h.kv, Fetcher: h, Hubs: h.ledger.hubs, Profile: h.c.profile, Limits: h.c.limits,
		Log: h.c.log.With().Str("hub", h.box.name).Logger(), AllowHub: func(record.DeviceID) bool { return true },
		Refused: func(out record.Outcome, _ record.Record) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.refused = append(h.refused, out)
		},
		RolledBack: func(r raftlog.RolledBack) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.lost = append(h.lost, r)
		},
		Keep: func(_ context.Context, recs []record.Record) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.kept = append(h.kept, recs...)
			return nil
		},
		Generation: h.ledger.generation}
	if h.c.net != nil {
		h.c.net.Attach(&o)
	}
	if h.c.adjust != nil {
		h.c.adjust(h, &o)
	}
	node, err := raftlog.Open(o)
	check(h.c.t, "opening "+h.box.name, err)
	h.node = node
}

func (h *hub) run() {
	ctx, stop := context.WithCancel(context.Background())
	h.stop, h.ended = stop, make(chan error, 1)
	node := h.node
	h.alive.Store(node)
	go func() { h.ended <- node.Run(ctx) }()
}

func (h *hub) start() {
	h.c.t.Helper()
	h.open()
	h.run()
}

// shut ends a hub in order.
func (h *hub) shut() error {
	h.alive.Store(nil)
	h.stop()
	err := <-h.ended
	h.node = nil
	return err
}

// kill ends a hub as a power cut does: nothing it says or writes counts any
// more, and its ledger loses items that were not flushed.
func (h *hub) kill(rng *rand.Rand) {
	h.c.net.Isolate(h.box.id, true)
	h.kv.setBroken(true)
	h.shut()
	h.kv.setBroken(false)
	h.c.net.Isolate(h.box.id, false)
	h.ledger = h.ledger.crash(rng.IntN(40))
}

// Fetch copies entries from a hub that has them.
func (h *hub) Fetch(ctx context.Context, head record.TreeHead) error {
	h.fetches.Add(1)
	for _, peer := range h.c.hubs {
		if peer == h || uint64(peer.ledger.size()) < head.Size {
			continue
		}
		if root, err := peer.ledger.RootAt(head.Size); err != nil || root != head.Root {
			continue
		}
		return h.ledger.extend(peer.ledger, head.Size)
	}
	return errors.New("no peer has it")
}

func (c *cluster) end() {
	for _, h := range c.hubs {
		if h.node != nil {
			check(c.t, "ending "+h.box.name, h.shut())
		}
	}
}

// until polls in the bubble's time.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for range c.polls {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, h := range c.hubs {
		if h.node != nil {
			c.t.Logf("%s: %+v", h.box.name, h.node.Status())
		}
	}
	c.t.Fatalf("not in time: %s", what)
}

func (c *cluster) leader() *hub {
	for _, h := range c.hubs {
		if h.node != nil && h.node.IsLeader() {
			return h
		}
	}
	return nil
}

func (c *cluster) voters() int {
	l := c.leader()
	if l == nil {
		return 0
	}
	n := 0
	for _, h := range l.node.Status().Hubs {
		if h.Voter {
			n++
		}
	}
	return n
}

// order submits records to whoever leads until they are ordered.
func (c *cluster) order(recs ...record.Record) []record.Outcome {
	c.t.Helper()
	var out []record.Outcome
	c.until("records are ordered", func() bool {
		l := c.leader()
		if l == nil {
			return false
		}
		var err error
		out, err = l.node.Submit(context.Background(), recs)
		return err == nil
	})
	for i, o := range out {
		if o.Verdict != record.Ordered && o.Verdict != record.Duplicate {
			c.t.Fatalf("record %d: %v", i, o.Verdict)
		}
	}
	return out
}

// agree waits until every running hub has the same ledger, at least of a size.
func (c *cluster) agree(size int) {
	c.t.Helper()
	c.until("ledgers are equal", func() bool {
		var head record.TreeHead
		for _, h := range c.hubs {
			if h.node == nil {
				continue
			}
			if head.Size == 0 {
				head = h.ledger.Head()
			}
			if h.ledger.Head() != head || h.ledger.size() < size {
				return false
			}
		}
		return true
	})
	seen := map[record.RID]bool{}
	l := c.leader().ledger
	for i := range l.size() {
		e := must(l.Entry(uint64(i)))
		if seen[e.Record.RID()] {
			c.t.Fatalf("record %s is ordered twice", e.Record.RID().Short())
		}
		seen[e.Record.RID()] = true
	}
}

// acked is a record that a client was told is ordered.
type acked struct {
	rid record.RID
	pos record.Position
	seq uint64
}

// client writes visits until ctx ends, one after the other, and asks for each
// until it is ordered.
func (c *cluster) client(ctx context.Context, b *box, every time.Duration, report func(acked)) {
	for ctx.Err() == nil {
		r := b.visit(300)
		for {
			var out []record.Outcome
			err := raftlog.ErrNotLeader
			for _, h := range c.hubs {
				if node := h.alive.Load(); node != nil && err != nil {
					out, err = node.Submit(context.Background(), []record.Record{r})
				}
			}
			if err == nil && out[0].Verdict != record.Gap {
				if out[0].Verdict != record.Ordered && out[0].Verdict != record.Duplicate {
					panic(fmt.Sprintf("visit: %v", out[0].Verdict))
				}
				report(acked{r.RID(), r.Position(), out[0].Seq})
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(every)
	}
}

func TestFoundingAndGrowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1)
		began := time.Now()
		c.found()
		t.Logf("three voters after %v", time.Since(began))
		c.order(c.clinics[0].visit(1000))
		c.agree(7)
		s := c.leader().node.Status()
		if d, ok := c.hubs[1].node.Leader(); !ok || d != c.leader().box.id || !s.HasLeader || s.State != "leader" {
			t.Errorf("hub 1 sees leader %v %v, status %+v", d.Short(), ok, s)
		}
		c.end()
	})
}
