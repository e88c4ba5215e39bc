package raftlog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
	"github.com/healthpost/healthpost/test/nemesis"
)

const (
	partitionWriters = 4
	partitionDevices = 8                // that are assigned a compartment, and revoked
	resumeMax        = 15 * time.Second // from healing to an order for every writer
	linearizeMax     = 2 * time.Minute
)

// partition is hubs on real stores in virtual time, whose network a schedule cuts
// while clients write, revoke, assign and read.
type partition struct {
	t       testing.TB
	rng     *rand.Rand
	net     *raftlog.CutNet
	hubs    []*storeHub
	writers []*box
	devices []*box
	history *nemesis.History
	base    uint64 // entries before the first tracked one
	stop    chan struct{}
	work    sync.WaitGroup
	revoked atomic.Uint64 // devices that are being revoked, one bit each

	mu   sync.Mutex // guards what follows
	acks [][]time.Time
	at   map[*storeHub]*reading
}

// reading is how far a hub's ledger was read, and the chain after each entry.
type reading struct {
	next   uint64
	chains []uint64
}

// newPartition founds a region of hubs on a whole network. wrap, if any, stands
// between a hub and its ledger.
func newPartition(t testing.TB, seed uint64, hubs int, dir string, wrap func(i int, l raftlog.Ledger) raftlog.Ledger) *partition {
	p := &partition{t: t, rng: rand.New(rand.NewPCG(seed, 9)), net: raftlog.NewCutNet(hubs), writers: boxes("writer", partitionWriters), devices: boxes("device", partitionDevices),
		history: nemesis.NewHistory(), stop: make(chan struct{}), acks: make([][]time.Time, partitionWriters), at: map[*storeHub]*reading{}}
	names := boxes("hub", hubs)
	for i, b := range names {
		h := &storeHub{box: b, dir: filepath.Join(dir, fmt.Sprint(i)), peers: &p.hubs, disk: faultfs.New(seed + uint64(i))}
		h.attach = func(o *raftlog.Options) {
			p.net.Attach(o, i)
			if wrap != nil {
				o.Ledger = wrap(i, o.Ledger)
			}
		}
		p.hubs = append(p.hubs, h)
	}
	limits := raftlog.DefaultLimits()
	limits.TrailingItems, limits.SnapshotThreshold, limits.SnapshotInterval = 64, 128, 20*time.Second
	first := p.hubs[0]
	first.start(t, nil, raftlog.LAN(), limits, true)
	p.until("the founder leads", first.node.IsLeader)
	recs := founding(names, p.writers)
	for _, d := range p.devices {
		recs = append(recs, first.box.admits(d, record.RoleField), d.opened)
	}
	p.until("the region is founded", func() bool {
		_, err := first.node.Submit(context.Background(), recs)
		return err == nil
	})
	for _, h := range p.hubs[1:] {
		h.start(t, nil, raftlog.LAN(), limits, false)
	}
	p.until("all hubs vote", func() bool {
		voters := 0
		for _, s := range first.node.Status().Hubs {
			if s.Voter {
				voters++
			}
		}
		return voters == hubs
	})
	p.until("all hubs hold the founding", func() bool { return sameHeads(p.hubs, uint64(len(recs))) })
	p.base = p.hubs[0].store.Head().Size
	for _, h := range p.hubs {
		p.at[h] = &reading{next: p.base}
	}
	return p
}

// until polls in the bubble's time.
func (p *partition) until(what string, ok func() bool) {
	p.t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	for i, h := range p.hubs {
		if h.node != nil {
			p.t.Logf("hub %d: %+v", i, h.node.Status())
		}
	}
	p.t.Fatalf("not in time: %s", what)
}

func (p *partition) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// named is how histories name a record.
func named(r record.RID) uint64 { return binary.BigEndian.Uint64(r[:8]) }

// submit hands a record to one hub after the other until somebody orders or refuses
// it, and takes that down.
func (p *partition) submit(rng *rand.Rand, op nemesis.Op, r record.Record) record.Verdict {
	op.Record = named(r.RID())
	op = p.history.Begin(op)
	for {
		first := rng.IntN(len(p.hubs))
		for i := range p.hubs {
			h := p.hubs[(first+i)%len(p.hubs)]
			ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
			out, err := h.node.Submit(ctx, []record.Record{r})
			cancel()
			if err != nil || out[0].Verdict == record.Gap {
				continue
			}
			op.Box = h.box.name
			switch v := out[0].Verdict; v {
			case record.Ordered, record.Duplicate:
				op.Seq = out[0].Seq
				op.Chain = p.chainTo(h, op.Seq)
				p.history.End(op)
			case record.Revoked, record.Quarantined:
				op.Kind = nemesis.Denied
				p.history.End(op)
				return v
			default:
				p.t.Errorf("%s: a record is %v", op.Box, v)
			}
			return record.Ordered
		}
		time.Sleep(time.Duration(50+rng.IntN(200)) * time.Millisecond)
	}
}

// chainTo is the chain over what a hub's ledger holds, up to a place.
func (p *partition) chainTo(h *storeHub, seq uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.readLocked(h, seq+1)
	if seq < p.base || seq-p.base >= uint64(len(r.chains)) {
		p.t.Errorf("%s answered with place %d, its ledger ends at %d", h.box.name, seq, r.next)
		return 1
	}
	return r.chains[seq-p.base]
}

// readLocked reads a hub's ledger at least up to a size.
func (p *partition) readLocked(h *storeHub, size uint64) *reading {
	r := p.at[h]
	for r.next < size {
		entries, err := h.store.Entries(r.next, size, 1<<20)
		if err != nil || len(entries) == 0 {
			break
		}
		for _, e := range entries {
			var last uint64
			if n := len(r.chains); n > 0 {
				last = r.chains[n-1]
			}
			r.chains = append(r.chains, nemesis.Link(last, e.Seq, named(e.Record.RID())))
			r.next = e.Seq + 1
		}
	}
	return r
}

// look reads the ledger of a hub and what it grants, all at one size.
func (p *partition) look(client int, kind nemesis.Kind, h *storeHub) {
	for range 50 {
		op := p.history.Begin(nemesis.Op{Client: client, Box: h.box.name, Kind: kind})
		head := h.store.Head()
		p.mu.Lock()
		r := p.readLocked(h, head.Size)
		if n := len(r.chains); n > 0 && r.next >= head.Size && head.Size > p.base {
			op.Next, op.Chain = head.Size, r.chains[head.Size-p.base-1]
		}
		p.mu.Unlock()
		state := h.store.State()
		for i, d := range p.devices {
			m, ok, err := state.Member(d.id)
			assigned, err2 := record.IsAssigned(state, d.id, record.CompartmentID{1})
			if err := errors.Join(err, err2); err != nil || !ok {
				p.t.Errorf("%s: reading a member: %v", h.box.name, err)
				return
			}
			if !m.Active() {
				op.Revoked |= 1 << i
			}
			if assigned {
				op.Assigned |= 1 << i
			}
		}
		if h.store.Head() == head {
			op.Size, op.Root = head.Size, fmt.Sprintf("%x", head.Root)
			p.history.End(op)
			return
		}
	}
}

// write starts the clients.
func (p *partition) write(pause time.Duration) {
	for i, b := range p.writers {
		rng := rand.New(rand.NewPCG(p.rng.Uint64(), 1))
		p.work.Go(func() {
			for !p.stopped() {
				p.submit(rng, nemesis.Op{Client: i, Kind: nemesis.Append, Device: 63}, b.visit(200))
				p.mu.Lock()
				p.acks[i] = append(p.acks[i], time.Now())
				p.mu.Unlock()
				time.Sleep(pause/2 + time.Duration(rng.Int64N(int64(pause))))
			}
		})
	}
	for i, d := range p.devices {
		rng := rand.New(rand.NewPCG(p.rng.Uint64(), 2))
		p.work.Go(func() {
			for denied := 0; !p.stopped() && denied < 1; {
				if p.submit(rng, nemesis.Op{Client: 100 + i, Kind: nemesis.Append, Device: i}, d.visit(100)) != record.Ordered {
					denied++
				}
				time.Sleep(4*pause + time.Duration(rng.Int64N(int64(8*pause))))
			}
		})
	}
	p.work.Go(func() { p.govern(rand.New(rand.NewPCG(p.rng.Uint64(), 3)), pause) })
	rng := rand.New(rand.NewPCG(p.rng.Uint64(), 4))
	p.work.Go(func() {
		for !p.stopped() {
			p.look(300, nemesis.Ledger, p.hubs[rng.IntN(len(p.hubs))])
			time.Sleep(time.Duration(rng.Int64N(int64(pause))))
		}
	})
}

// govern assigns, withdraws and revokes.
func (p *partition) govern(rng *rand.Rand, pause time.Duration) {
	by := p.hubs[0].box
	c := record.CompartmentID{1}
	for !p.stopped() {
		i := rng.IntN(len(p.devices))
		d := p.devices[i]
		op := nemesis.Op{Client: 200, Device: i}
		switch n := rng.IntN(40); {
		case n == 0 && p.revoked.Load()>>i&1 == 0:
			p.revoked.Store(p.revoked.Load() | 1<<i)
			op.Kind = nemesis.Revoke
			p.submit(rng, op, by.revokes(d))
		case p.revoked.Load()>>i&1 == 1: // nothing is assigned to it any more
		case n < 20:
			op.Kind = nemesis.Assign
			p.submit(rng, op, by.assigns(d, [][]byte{c[:]}, [][]byte{}))
		default:
			op.Kind = nemesis.Withdraw
			p.submit(rng, op, by.assigns(d, [][]byte{}, [][]byte{c[:]}))
		}
		time.Sleep(pause/2 + time.Duration(rng.Int64N(int64(pause))))
	}
}

func (b *box) assigns(d *box, add, remove [][]byte) record.Record {
	return b.write(record.LaneControl, record.KindAssign, record.CompartmentID{}, must(record.Marshal(record.Assign{Device: d.id[:], Add: add, Remove: remove})))
}

func (p *partition) leader() int {
	return slices.IndexFunc(p.hubs, func(h *storeHub) bool { return h.node.IsLeader() })
}

// disturb carries out a schedule and gives the times of healing.
func (p *partition) disturb(steps []nemesis.Step) (healed []time.Time) {
	for _, s := range steps {
		time.Sleep(s.After)
		w := s.For(p.leader())
		p.net.Set(w)
		if s.Heals {
			healed = append(healed, time.Now())
		}
	}
	return healed
}

// resumed is how long after each healing every writer had an order, the longest.
func (p *partition) resumed(healed []time.Time) (worst time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range healed {
		for i, acks := range p.acks {
			n, _ := slices.BinarySearchFunc(acks, at, func(a, b time.Time) int { return a.Compare(b) })
			if n == len(acks) {
				p.t.Errorf("writer %d had no order after a healing", i)
				continue
			}
			worst = max(worst, acks[n].Sub(at))
		}
	}
	return worst
}

// rest ends the clients' work.
func (p *partition) rest() {
	close(p.stop)
	p.work.Wait()
}

// judge waits until all hubs are equal and holds the history to them.
func (p *partition) judge(verify bool) []nemesis.Finding {
	p.rest()
	want := p.hubs[0].store.Head().Size
	p.until("ledgers are equal", func() bool { return sameHeads(p.hubs, want) })
	var replicas []nemesis.Replica
	for i, h := range p.hubs {
		p.look(400+i, nemesis.Final, h)
		replicas = append(replicas, p.replica(h))
		if verify {
			rep, err := h.store.Verify(context.Background(), store.VerifyOptions{}, nil)
			if err != nil || len(rep.Damage) > 0 {
				p.t.Errorf("%s: verifying: %v, %v", h.box.name, err, rep.Damage)
			}
		}
	}
	return nemesis.Check(p.history.Ops(), replicas)
}

func (p *partition) replica(h *storeHub) nemesis.Replica {
	head := h.store.Head()
	r := nemesis.Replica{Box: h.box.name, Size: head.Size, Root: fmt.Sprintf("%x", head.Root)}
	for at := uint64(0); at < head.Size; {
		entries, err := h.store.Entries(at, head.Size, 1<<20)
		check(p.t, "reading entries", err)
		for _, e := range entries {
			pos := e.Record.Position()
			r.Entries = append(r.Entries, nemesis.Placed{Seq: e.Seq, Record: named(e.Record.RID()), Feed: fmt.Sprintf("%x/%d", pos.Epoch[:4], pos.Lane), N: pos.N})
			at = e.Seq + 1
		}
	}
	return r
}

func (p *partition) end() {
	for _, h := range p.hubs {
		h.shut(p.t)
	}
}

// keepHistory writes what happened where a person can read it.
func (p *partition) keepHistory(name string) {
	file := filepath.Join(os.TempDir(), fmt.Sprintf("healthpost-history-%s-%d.jsonl", name, os.Getpid()))
	if err := p.history.Write(file); err != nil {
		p.t.Error(err)
		return
	}
	p.t.Logf("the history is in %s", file)
}

// partitionRuns is how many runs to make, and how long each is: as many as
// HEALTHPOST_PARTITIONS says, of ten minutes each, or what a run of all tests can afford.
func partitionRuns(t testing.TB) (runs int, full bool, x nemesis.Timing) {
	t.Helper()
	x = nemesis.Timing{Whole: time.Minute, FaultMin: 10 * time.Second, FaultMax: 40 * time.Second, HealedMin: 20 * time.Second, HealedMax: 30 * time.Second}
	text := os.Getenv("HEALTHPOST_PARTITIONS")
	if text == "" {
		return 2, false, x
	}
	runs, err := strconv.Atoi(text)
	check(t, "HEALTHPOST_PARTITIONS", err)
	x.Whole, x.FaultMax = 10*time.Minute, 90*time.Second
	return runs, true, x
}

// TestPartitions cuts the network among hubs in every way there is while clients
// write. Nothing that a client was told is ordered is lost or moved, no two hubs
// differ, the history has one order, and every writer is served soon after healing.
func TestPartitions(t *testing.T) {
	rng := testSeed(t)
	runs, full, timing := partitionRuns(t)
	schedules := slices.Clone(nemesis.Schedules)
	if !full {
		rng.Shuffle(len(schedules), func(i, j int) { schedules[i], schedules[j] = schedules[j], schedules[i] })
	}
	for i := range runs {
		s, seed := schedules[i%len(schedules)], rng.Uint64()
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { playPartition(t, s, seed, timing, dir) })
		})
	}
}

func playPartition(t *testing.T, s nemesis.Schedule, seed uint64, timing nemesis.Timing, dir string) {
	p := newPartition(t, seed, s.Hubs, dir, nil)
	steps := s.Steps(p.rng, timing)
	began := time.Now()
	p.write(700 * time.Millisecond)
	healed := p.disturb(steps)
	time.Sleep(timing.HealedMin)
	worst := p.resumed(healed)
	found := p.judge(true)
	took := time.Since(began)
	ops := p.history.Ops()
	verdict := nemesis.Linearizable(ops, linearizeMax)
	p.end()
	t.Logf("%s, seed %d: %v, %d faults, %d operations, %d entries, order resumed within %v, %s", s.Name, seed, took.Round(time.Second), len(healed), len(ops),
		p.hubs[0].store.Head().Size, worst.Round(time.Millisecond), verdict)
	if worst > resumeMax {
		t.Errorf("order resumed %v after healing, want %v", worst, resumeMax)
	}
	if len(found) > 0 {
		t.Errorf("found:\n%s", nemesis.Words(found))
	}
	if verdict != porcupine.Ok {
		t.Errorf("the history is %s", verdict)
	}
	if t.Failed() {
		for _, x := range steps {
			t.Logf("after %v: %s: %v", x.After.Round(time.Millisecond), x.What, x.Ways)
		}
		p.keepHistory("partition")
	}
}

// forgetful is a ledger that leaves one record in some out of every item.
type forgetful struct {
	raftlog.Ledger
	items int
}

func (f *forgetful) Order(index, term uint64, item []byte) ([]record.Outcome, error) {
	if b, err := record.DecodeBatch(item); err == nil {
		if f.items++; f.items%20 == 0 {
			b.Records = b.Records[1:]
			item = b.Encode()
		}
	}
	return f.Ledger.Order(index, term, item)
}

// TestPartitionsControl lets one of three hubs forget records that were ordered: the
// judges see it.
func TestPartitionsControl(t *testing.T) {
	seed := testSeed(t).Uint64()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := newPartition(t, seed, 3, dir, func(i int, l raftlog.Ledger) raftlog.Ledger {
			if i == 2 {
				return &forgetful{Ledger: l}
			}
			return l
		})
		p.write(700 * time.Millisecond)
		time.Sleep(30 * time.Second)
		p.rest()
		var replicas []nemesis.Replica
		for _, h := range p.hubs {
			replicas = append(replicas, p.replica(h))
		}
		found := map[nemesis.Fault]bool{}
		for _, f := range nemesis.Check(p.history.Ops(), replicas) {
			found[f.Fault] = true
		}
		if !found[nemesis.Lost] || !found[nemesis.Diverged] {
			t.Errorf("found %v, want lost records and other roots", found)
		}
		if got := nemesis.Linearizable(p.history.Ops(), linearizeMax); got != porcupine.Illegal {
			t.Errorf("the history is %s, want %s", got, porcupine.Illegal)
		}
		p.end()
	})
}
