package raftlog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
)

// memLedger is a ledger with pending records in memory. What was ordered after
// the last Barrier may be lost by crash.
type memLedger struct {
	mu       sync.Mutex // guards what follows
	epochs   map[record.EpochID]record.Epoch
	members  map[record.DeviceID]record.Member
	registry record.RegistryMap
	heads    map[record.Feed]record.Head
	ordered  map[record.Position]uint64
	last     map[record.CompartmentID]uint64
	entries  []record.Entry
	edges    []record.Range // edge at each size
	at       position
	history  []position // after each item
	durable  int        // of history

	pending map[record.Position]record.Record
	subs    map[chan struct{}]struct{}

	orderCalls int
	slow       time.Duration // what each Order takes; set before it runs
	failAt     uint64        // raft index at which Order fails
	readErr    error         // what PendingFeeds returns
}

type position struct{ index, term, size uint64 }

func newMemLedger() *memLedger {
	return &memLedger{epochs: map[record.EpochID]record.Epoch{}, members: map[record.DeviceID]record.Member{}, registry: record.RegistryMap{}, heads: map[record.Feed]record.Head{},
		ordered: map[record.Position]uint64{}, last: map[record.CompartmentID]uint64{}, edges: []record.Range{{}}, history: []position{{}},
		pending: map[record.Position]record.Record{}, subs: map[chan struct{}]struct{}{}}
}

// memState reads a memLedger whose lock is held.
type memState struct{ l *memLedger }

func (s memState) Size() uint64 { return uint64(len(s.l.entries)) }

func (s memState) LastTime() int64 {
	if n := len(s.l.entries); n > 0 {
		return s.l.entries[n-1].Time
	}
	return 0
}

func (s memState) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok := s.l.epochs[id]
	return e, ok, nil
}

func (s memState) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := s.l.members[d]
	return m, ok, nil
}

func (s memState) Head(f record.Feed) (record.Head, bool, error) {
	if h, ok := s.l.heads[f]; ok {
		return h, true, nil
	}
	e, ok := s.l.epochs[f.Epoch]
	return record.Head{RID: e.Opening}, ok, nil
}

func (s memState) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	seq, ok := s.l.ordered[p]
	if !ok {
		return 0, record.RID{}, false, nil
	}
	return seq, s.l.entries[seq].Record.RID(), true, nil
}

func (s memState) CompartmentLast(c record.CompartmentID) (uint64, error) { return s.l.last[c], nil }

func (s memState) Registry(key []byte) ([]byte, bool, error) { return s.l.registry.Registry(key) }

// signatures are those of records that some ledger of this process ordered: one
// check of each is enough for a test.
var signatures sync.Map

func checked(rid record.RID, sig [64]byte) bool {
	have, ok := signatures.Load(rid)
	return ok && have == sig
}

func (l *memLedger) keepLocked(c record.Changes) {
	for _, e := range c.Epochs {
		l.epochs[e.ID] = e
	}
	for _, m := range c.Members {
		l.members[m.Device] = m
	}
	l.registry.Take(c.Registry)
	for _, e := range c.Entries {
		signatures.Store(e.Record.RID(), e.Record.Sig)
		pos := e.Record.Position()
		l.ordered[pos] = e.Seq
		if pos.N > 0 {
			l.heads[pos.Feed()] = record.Head{N: pos.N, RID: e.Record.RID()}
		}
		if !e.Record.Core.Compartment.IsZero() {
			l.last[e.Record.Core.Compartment] = e.Seq + 1
		}
		delete(l.pending, pos)
		edge := l.edges[len(l.edges)-1].Clone()
		edge.Append(record.LeafHash(e.EncodeLeaf()))
		l.entries, l.edges = append(l.entries, e), append(l.edges, edge)
	}
}

func (l *memLedger) signalLocked() {
	for c := range l.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (l *memLedger) Order(index, term uint64, item []byte) ([]record.Outcome, error) {
	<-time.After(l.slow) // the disk
	l.mu.Lock()
	defer l.mu.Unlock()
	if index <= l.at.index {
		return nil, fmt.Errorf("order %d called at %d", index, l.at.index)
	}
	if l.failAt != 0 && index >= l.failAt {
		return nil, errDiskFull
	}
	b, err := record.DecodeBatch(item)
	if err != nil {
		return nil, err
	}
	l.orderCalls++
	o := record.NewOrderer(memState{l}, checked)
	t := o.BatchTime(b.LeaderMillis)
	outcomes := make([]record.Outcome, 0, len(b.Records))
	for _, r := range b.Records {
		out, err := o.Add(t, r)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, out)
	}
	l.keepLocked(o.Changes)
	l.moveLocked(index, term)
	l.signalLocked()
	return outcomes, nil
}

func (l *memLedger) moveLocked(index, term uint64) {
	l.at = position{index, term, uint64(len(l.entries))}
	l.history = append(l.history, l.at)
}

func (l *memLedger) Applied() (index, term, size uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at.index, l.at.term, l.at.size
}

func (l *memLedger) SetApplied(index, term uint64, head record.TreeHead) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if head != l.edges[len(l.edges)-1].Head() {
		return errors.New("set applied at another head")
	}
	l.moveLocked(index, term)
	l.durable = len(l.history) - 1
	return nil
}

func (l *memLedger) Head() record.TreeHead {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.edges[len(l.edges)-1].Head()
}

func (l *memLedger) RootAt(size uint64) (record.Hash, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if size >= uint64(len(l.edges)) {
		return record.Hash{}, fmt.Errorf("no root at %d", size)
	}
	return l.edges[size].Root(), nil
}

func (l *memLedger) Entry(seq uint64) (record.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq >= uint64(len(l.entries)) {
		return record.Entry{}, fmt.Errorf("no entry %d", seq)
	}
	return l.entries[seq], nil
}

func (l *memLedger) Barrier(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable = len(l.history) - 1
	return nil
}

// extend adds entries of another ledger up to a size.
func (l *memLedger) extend(from *memLedger, size uint64) error {
	from.mu.Lock()
	entries := slices.Clone(from.entries)
	from.mu.Unlock()
	if uint64(len(entries)) < size {
		return fmt.Errorf("peer has %d of %d entries", len(entries), size)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := record.NewOrderer(memState{l}, checked)
	for _, e := range entries[len(l.entries):size] {
		out, err := o.Add(e.Time, e.Record)
		if err != nil || out.Verdict != record.Ordered {
			return fmt.Errorf("entry %d: %v %v", e.Seq, out.Verdict, err)
		}
	}
	l.keepLocked(o.Changes)
	return nil
}

// crash forgets what happened after an item that is durable, the one keep says
// or a later one: keep counts the items since the last barrier that survive.
func (l *memLedger) crash(keep int) *memLedger {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := min(l.durable+keep, len(l.history)-1)
	fresh := newMemLedger()
	o := record.NewOrderer(memState{fresh}, checked)
	for _, e := range l.entries[:l.history[i].size] {
		if out, err := o.Add(e.Time, e.Record); err != nil || out.Verdict != record.Ordered {
			panic(fmt.Sprintf("replaying entry %d: %v %v", e.Seq, out.Verdict, err))
		}
	}
	fresh.keepLocked(o.Changes)
	fresh.at, fresh.history, fresh.durable = l.history[i], []position{l.history[i]}, 0
	for p, r := range l.pending {
		fresh.pending[p] = r
	}
	for _, e := range l.entries[l.history[i].size:] { // pending records are durable before they are ordered
		fresh.pending[e.Record.Position()] = e.Record
	}
	return fresh
}

// put makes records pending.
func (l *memLedger) put(recs ...record.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range recs {
		if _, ok := l.ordered[r.Position()]; !ok {
			l.pending[r.Position()] = r
		}
	}
	l.signalLocked()
}

func (l *memLedger) PendingFeeds() ([]raftlog.PendingFeed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readErr != nil {
		return nil, l.readErr
	}
	feeds := map[record.Feed]*raftlog.PendingFeed{}
	for p := range l.pending {
		f := feeds[p.Feed()]
		if f == nil {
			f = &raftlog.PendingFeed{Feed: p.Feed(), OrderedN: l.heads[p.Feed()].N, HeldN: l.heads[p.Feed()].N}
			feeds[p.Feed()] = f
		}
		f.HeldN = max(f.HeldN, p.N)
		f.Opening = f.Opening || p.N == 0
	}
	var out []raftlog.PendingFeed
	for _, f := range feeds {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b raftlog.PendingFeed) int {
		if c := slices.Compare(a.Feed.Epoch[:], b.Feed.Epoch[:]); c != 0 {
			return c
		}
		return int(a.Feed.Lane) - int(b.Feed.Lane)
	})
	return out, nil
}

func (l *memLedger) Pending(feed record.Feed, fromN uint64, maxBytes int) ([]record.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []record.Record
	for n := fromN; maxBytes > 0; n++ {
		r, ok := l.pending[record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: n}]
		if !ok {
			break
		}
		out = append(out, r)
		maxBytes -= len(r.Body) + 200
	}
	return out, nil
}

func (l *memLedger) Subscribe(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, c)
	})
	return c
}

func (l *memLedger) hubs() []record.DeviceID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []record.DeviceID
	for d, m := range l.members {
		if m.Role.Orders() && m.Active() {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b record.DeviceID) int { return slices.Compare(a[:], b[:]) })
	return out
}

// items is how many items were ordered.
func (l *memLedger) items() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.orderCalls
}

func (l *memLedger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// seqs gives the seq of each record, or fails for one without.
func (l *memLedger) seq(rid record.RID, p record.Position) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq, ok := l.ordered[p]
	return seq, ok && l.entries[seq].Record.RID() == rid
}

func (l *memLedger) generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return must(record.GenerationOf(memState{l}))
}
