package peersync_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// memory is a replica in memory. Everything it accepts is judged by
// record.Orderer, as on disk.
type memory struct {
	self record.DeviceID

	mu       sync.Mutex
	entries  []record.Entry
	hashes   []tlog.Hash // stored hashes, as package tlog numbers them
	roots    []record.Hash
	edge     record.Range
	nodes    record.Nodes
	holes    []record.Hole                    // ascending
	openings map[record.EpochID]record.Record // of epochs whose entries are held
	wrote    map[place]bool
	had      map[record.CompartmentID]bool // assigned ones that a hub gave all of
	assigned []record.CompartmentID        // to this box
	time     int64

	epochs   map[record.EpochID]record.Epoch
	members  map[record.DeviceID]record.Member
	registry record.RegistryMap
	heads    map[record.Feed]record.Head
	ordered  map[record.Position]uint64
	last     map[record.CompartmentID]uint64

	opening map[record.EpochID]record.Record // pending
	pending map[record.Feed][]record.Record  // contiguous from the ordered head

	note    []byte
	final   record.TreeHead
	acked   map[record.DeviceID]map[record.Feed]uint64
	refused map[record.RID]peersync.Refusal
	subs    map[int]chan struct{}
	nextSub int
	renews  bool  // a later note of the same head counts
	fault   error // of every write, when set
	writes  int   // accepted Ingests and Extends
}

func newMemory(self record.DeviceID) *memory {
	return &memory{self: self, nodes: record.Nodes{}, had: map[record.CompartmentID]bool{}, wrote: map[place]bool{}, openings: map[record.EpochID]record.Record{}, roots: []record.Hash{record.EmptyRoot}, epochs: map[record.EpochID]record.Epoch{}, members: map[record.DeviceID]record.Member{}, registry: record.RegistryMap{},
		heads: map[record.Feed]record.Head{}, ordered: map[record.Position]uint64{}, last: map[record.CompartmentID]uint64{},
		opening: map[record.EpochID]record.Record{}, pending: map[record.Feed][]record.Record{}, acked: map[record.DeviceID]map[record.Feed]uint64{},
		refused: map[record.RID]peersync.Refusal{}, subs: map[int]chan struct{}{}}
}

// state gives the ordering rules their view; the lock is held.
type state struct{ m *memory }

func (s state) Size() uint64    { return uint64(len(s.m.entries)) }
func (s state) LastTime() int64 { return s.m.time }
func (s state) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok := s.m.epochs[id]
	return e, ok, nil
}
func (s state) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := s.m.members[d]
	return m, ok, nil
}
func (s state) Head(f record.Feed) (record.Head, bool, error) {
	if h, ok := s.m.heads[f]; ok {
		return h, true, nil
	}
	e, ok := s.m.epochs[f.Epoch]
	return record.Head{RID: e.Opening}, ok, nil
}
func (s state) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	seq, ok := s.m.ordered[p]
	if !ok {
		return 0, record.RID{}, false, nil
	}
	return seq, s.m.entries[seq].Record.RID(), true, nil
}
func (s state) CompartmentLast(c record.CompartmentID) (uint64, error) { return s.m.last[c], nil }
func (s state) Registry(key []byte) ([]byte, bool, error)              { return s.m.registry.Registry(key) }

func (m *memory) Head() record.TreeHead {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.headLocked()
}

func (m *memory) headLocked() record.TreeHead {
	return record.TreeHead{Size: uint64(len(m.entries)), Root: m.edge.Root()}
}

func (m *memory) RootAt(size uint64) (record.Hash, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rootLocked(size)
}

func (m *memory) rootLocked(size uint64) (record.Hash, error) {
	if size >= uint64(len(m.roots)) {
		return record.Hash{}, errNoRoot
	}
	if !m.full() {
		return m.sparseRoot(size)
	}
	return m.roots[size], nil
}

func (m *memory) Final() ([]byte, record.TreeHead, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.note, m.final, m.note != nil
}

func (m *memory) PutFinal(note []byte, head record.TreeHead) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if root, err := m.rootLocked(head.Size); err != nil || root != head.Root {
		return errors.New("checkpoint not in the ledger")
	}
	if head.Size > m.final.Size || head == m.final && m.renews {
		m.note, m.final = bytes.Clone(note), head
		m.changedLocked()
	}
	return nil
}

func (m *memory) changedLocked() {
	for _, c := range m.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (m *memory) Subscribe(ctx context.Context) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := m.nextSub
	m.nextSub++
	c := make(chan struct{}, 1)
	m.subs[id] = c
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subs, id)
	})
	return c
}

func (m *memory) PendingFeeds() ([]peersync.PendingFeed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.feedsLocked(), nil
}

func (m *memory) feedsLocked() []peersync.PendingFeed {
	feeds := map[record.Feed]peersync.PendingFeed{}
	for f, recs := range m.pending {
		if len(recs) == 0 {
			continue
		}
		d, _ := m.authorLocked(f.Epoch)
		_, opening := m.opening[f.Epoch]
		n := recs[0].Position().N
		feeds[f] = peersync.PendingFeed{Feed: f, Author: d, OrderedN: n - 1, HeldN: n - 1 + uint64(len(recs)), Opening: opening}
	}
	for id := range m.opening {
		f := record.Feed{Epoch: id}
		if _, ok := feeds[f]; !ok {
			d, _ := m.authorLocked(id)
			feeds[f] = peersync.PendingFeed{Feed: f, Author: d, Opening: true}
		}
	}
	list := make([]peersync.PendingFeed, 0, len(feeds))
	for _, f := range feeds {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b peersync.PendingFeed) int {
		if c := bytes.Compare(a.Epoch[:], b.Epoch[:]); c != 0 {
			return c
		}
		return int(a.Lane) - int(b.Lane)
	})
	return list
}

func (m *memory) authorLocked(id record.EpochID) (record.DeviceID, bool) {
	if e, ok := m.epochs[id]; ok {
		return e.Device, true
	}
	if r, ok := m.opening[id]; ok {
		body, err := record.DecodeEpochOpen(r.Body)
		if err == nil {
			return record.DeviceID(body.Device), true
		}
	}
	return record.DeviceID{}, false
}

func (m *memory) Pending(f record.Feed, n uint64, bytesMax int) ([]record.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n == 0 {
		r, ok := m.opening[f.Epoch]
		if !ok {
			return nil, nil
		}
		return append([]record.Record{r}, m.pending[f]...), nil // more than asked for: the session takes the first
	}
	recs := m.pending[f]
	if len(recs) == 0 || n < recs[0].Position().N || n >= recs[0].Position().N+uint64(len(recs)) {
		return nil, nil
	}
	size := 0
	recs = recs[n-recs[0].Position().N:]
	for i := range recs {
		if size += 100 + len(recs[i].Body); i > 0 && size > bytesMax {
			return slices.Clone(recs[:i]), nil
		}
	}
	return slices.Clone(recs), nil
}

func (m *memory) HeldRID(p record.Position) (record.RID, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.heldRIDLocked(p)
}

func (m *memory) heldRIDLocked(p record.Position) (record.RID, bool, error) {
	if p.N == 0 {
		if e, ok := m.epochs[p.Epoch]; ok {
			return e.Opening, true, nil
		}
		r, ok := m.opening[p.Epoch]
		return r.RID(), ok, nil
	}
	if seq, ok := m.ordered[p]; ok {
		return m.entries[seq].Record.RID(), true, nil
	}
	r, ok := m.heldLocked(p)
	return r.RID(), ok, nil
}

func (m *memory) heldLocked(p record.Position) (record.Record, bool) {
	if p.N == 0 {
		r, ok := m.opening[p.Epoch]
		return r, ok
	}
	recs := m.pending[p.Feed()]
	if len(recs) == 0 || p.N < recs[0].Position().N || p.N >= recs[0].Position().N+uint64(len(recs)) {
		return record.Record{}, false
	}
	return recs[p.N-recs[0].Position().N], true
}

type holder struct{ m *memory }

func (h holder) Head(f record.Feed) (record.Head, bool, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return state{h.m}.Head(f)
}

func (h holder) Held(p record.Position) (record.Record, bool, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	r, ok := h.m.heldLocked(p)
	return r, ok, nil
}

func (m *memory) Holder() record.Holder { return holder{m} }

func (m *memory) Ingest(_ context.Context, _ record.DeviceID, recs []record.Record) (peersync.Ingested, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return peersync.Ingested{}, m.fault
	}
	var in peersync.Ingested
	for i := range recs {
		out := m.ingestLocked(recs[i])
		switch out.Verdict {
		case record.Ordered:
			in.New++
		case record.Duplicate:
			in.Known++
		default:
			in.Refused = append(in.Refused, out)
			return in, nil
		}
		p := recs[i].Position()
		in.Heads = []record.FeedHead{{Feed: p.Feed(), N: p.N}}
	}
	if in.New > 0 {
		m.writes++
		m.changedLocked()
	}
	return in, nil
}

func (m *memory) ingestLocked(r record.Record) record.Outcome {
	p := r.Position()
	out := record.Outcome{RID: r.RID(), Verdict: record.Ordered}
	if x, ok := m.refused[r.RID()]; ok {
		return x.Outcome
	}
	if rid, ok, _ := m.heldRIDLocked(p); ok {
		out.Verdict = record.Duplicate
		if rid != r.RID() {
			out.Verdict = record.Equivocation
		}
		return out
	}
	var author record.DeviceID
	if p.N == 0 {
		body, err := record.DecodeEpochOpen(r.Body)
		if err != nil {
			out.Verdict = record.NotAllowed
			return out
		}
		author = record.DeviceID(body.Device)
	} else {
		d, ok := m.authorLocked(p.Epoch)
		if !ok {
			out.Verdict = record.UnknownEpoch
			return out
		}
		author = d
	}
	out.Verdict = m.checkLocked(r, p, author)
	if out.Verdict != record.Ordered {
		return out
	}
	if p.N == 0 {
		m.opening[p.Epoch] = r
	} else {
		m.pending[p.Feed()] = append(m.pending[p.Feed()], r)
	}
	return out
}

func (m *memory) checkLocked(r record.Record, p record.Position, author record.DeviceID) record.Verdict {
	if _, ok := m.members[author]; !ok {
		return record.UnknownDevice
	}
	if r.VerifyBody() != nil {
		return record.BadBody
	}
	if r.VerifySignature(author) != nil {
		return record.BadSignature
	}
	if p.N > 0 {
		prev := p
		prev.N--
		rid, ok, _ := m.heldRIDLocked(prev)
		if !ok {
			return record.Gap
		}
		if rid != r.Core.Prev {
			return record.BadPrev
		}
	}
	return record.Ordered
}

func (m *memory) PutAck(peer record.DeviceID, heads []record.FeedHead) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.acked[peer] == nil {
		m.acked[peer] = map[record.Feed]uint64{}
	}
	for _, h := range heads {
		m.acked[peer][h.Feed] = max(m.acked[peer][h.Feed], h.N)
	}
	return nil
}

func (m *memory) Acked(peer record.DeviceID) ([]record.FeedHead, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []record.FeedHead
	for _, f := range m.feedsLocked() {
		if n, ok := m.acked[peer][f.Feed]; ok {
			list = append(list, record.FeedHead{Feed: f.Feed, N: n})
		}
	}
	return list, nil
}

func (m *memory) Refused() ([]peersync.Refusal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]peersync.Refusal, 0, len(m.refused))
	for _, x := range m.refused {
		list = append(list, x)
	}
	return list, nil
}

func (m *memory) PutRefused(out record.Outcome, _ record.DeviceID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused[out.RID] = peersync.Refusal{Outcome: out}
	return nil
}

func (m *memory) Entries(from, to uint64, bytesMax int) ([]record.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if to > uint64(len(m.entries)) || from > to {
		return nil, errors.New("past the end")
	}
	size := 0
	for i := from; i < to; i++ {
		if m.inHole(i) {
			if i > from {
				return slices.Clone(m.entries[from:i]), nil
			}
			return nil, fmt.Errorf("entry %d: %w", i, record.ErrHole)
		}
		if size += 100 + len(m.entries[i].Record.Body); i > from && size > bytesMax {
			return slices.Clone(m.entries[from:i]), nil
		}
	}
	return slices.Clone(m.entries[from:to]), nil
}

type stored []tlog.Hash

func (s stored) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, 0, len(at))
	for _, i := range at {
		out = append(out, s[i])
	}
	return out, nil
}

func (m *memory) ConsistencyProof(old, next uint64) ([]record.Hash, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r tlog.HashReader = stored(m.hashes)
	if !m.full() {
		r = m
	}
	p, err := tlog.ProveTree(int64(next), int64(old), r)
	if err != nil {
		return nil, err
	}
	out := make([]record.Hash, 0, len(p))
	for _, h := range p {
		out = append(out, record.Hash(h))
	}
	return out, nil
}

var errUnverified = errors.New("entries do not verify")

func (m *memory) Extend(_ context.Context, entries []record.Entry, target record.TreeHead, proof []record.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return m.fault
	}
	if entries[0].Seq != uint64(len(m.entries)) {
		return fmt.Errorf("%w: not at the end", errUnverified)
	}
	o := record.NewOrderer(state{m}, nil)
	edge := m.edge.Clone()
	for _, e := range entries {
		out, err := o.Add(e.Time, e.Record)
		if err != nil {
			return err
		}
		if out.Verdict != record.Ordered || out.Seq != e.Seq {
			return fmt.Errorf("%w: entry %d: %s", errUnverified, e.Seq, out.Verdict)
		}
	}
	for i := range o.Changes.Entries {
		edge.Append(record.LeafHash(o.Changes.Entries[i].EncodeLeaf()))
	}
	if err := record.VerifyConsistency(edge.Head(), target, proof); err != nil {
		return fmt.Errorf("%w: %w", errUnverified, err)
	}
	m.applyLocked(o)
	m.writes++
	return nil
}

// order makes entries of records, as the hubs do.
func (m *memory) order(t int64, recs []record.Record) []record.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := record.NewOrderer(state{m}, nil)
	var outs []record.Outcome
	for _, r := range recs {
		out, err := o.Add(t, r)
		if err != nil {
			panic(err)
		}
		outs = append(outs, out)
	}
	m.applyLocked(o)
	return outs
}

func (m *memory) applyLocked(o *record.Orderer) {
	m.takeLocked(o)
	for _, e := range o.Changes.Entries {
		leaf := e.EncodeLeaf()
		hashes, err := tlog.StoredHashes(int64(e.Seq), leaf, stored(m.hashes))
		if err != nil {
			panic(err)
		}
		m.hashes = append(m.hashes, hashes...)
		m.edge.Append(record.LeafHash(leaf))
		m.entries = append(m.entries, e)
		m.roots = append(m.roots, m.edge.Root())
		m.keepLocked(e)
	}
	m.changedLocked()
}

// settleLocked moves a feed's ordered head and takes what is ordered out of pending.
func (m *memory) settleLocked(p record.Position, rid record.RID) {
	if p.N == 0 {
		delete(m.opening, p.Epoch)
		return
	}
	if p.N > m.heads[p.Feed()].N {
		m.heads[p.Feed()] = record.Head{N: p.N, RID: rid}
	}
	recs := m.pending[p.Feed()]
	for len(recs) > 0 && recs[0].Position().N <= p.N {
		recs = recs[1:]
	}
	m.pending[p.Feed()] = recs
}

// takeLocked takes what entries changed beside themselves.
func (m *memory) takeLocked(o *record.Orderer) {
	for _, e := range o.Changes.Epochs {
		m.epochs[e.ID] = e
	}
	for _, x := range o.Changes.Members {
		m.members[x.Device] = x
	}
	m.registry.Take(o.Changes.Registry)
}

// allPending gives everything pending in an order that the rules accept.
func (m *memory) allPending() []record.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []record.Record
	for _, f := range m.feedsLocked() {
		if r, ok := m.opening[f.Epoch]; ok && !slices.ContainsFunc(list, func(x record.Record) bool { return x.RID() == r.RID() }) {
			list = append(list, r)
		}
	}
	for _, f := range m.feedsLocked() {
		list = append(list, m.pending[f.Feed]...)
	}
	return list
}

// sum is a hash over all that the replica holds.
func (m *memory) sum() [32]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := sha256.New()
	root := m.edge.Root()
	h.Write(root[:])
	_ = binary.Write(h, binary.BigEndian, uint64(len(m.entries)))
	for _, f := range m.feedsLocked() {
		fmt.Fprintf(h, "%v", f.Feed)
		if r, ok := m.opening[f.Epoch]; ok {
			fmt.Fprintf(h, "%s", r.RID())
		}
		for i := range m.pending[f.Feed] {
			fmt.Fprintf(h, "%s", m.pending[f.Feed][i].RID())
		}
	}
	return [32]byte(h.Sum(nil))
}

// author writes records in one epoch of a device.
type author struct {
	key    ed25519.PrivateKey
	device record.DeviceID
	epoch  record.EpochID
	open   record.Record
	heads  [record.LaneCount]record.Head
	hlc    uint64
	home   byte // of its compartments
}

func deviceKey(seed byte, kind byte) ed25519.PrivateKey {
	s := sha256.Sum256([]byte{kind, seed})
	return ed25519.NewKeyFromSeed(s[:])
}

func deviceOf(k ed25519.PrivateKey) record.DeviceID {
	return record.DeviceID(k.Public().(ed25519.PublicKey))
}

func mustMarshal(v any) []byte {
	b, err := record.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func newAuthor(key ed25519.PrivateKey, nonce byte) *author {
	a := &author{key: key, device: deviceOf(key), hlc: 1_700_000_000_000 << 16}
	body := mustMarshal(record.EpochOpen{Device: a.device[:], Nonce: bytes.Repeat([]byte{nonce}, 16), Hardware: make([]byte, 32), Predecessor: []byte{}, Heads: []uint64{}, Software: "test", Root: make([]byte, 32)})
	a.open = record.Sign(record.Core{Kind: record.KindEpochOpen, HLC: a.hlc}, body, key)
	a.epoch = a.open.OpenedEpoch()
	for i := range a.heads {
		a.heads[i].RID = a.open.RID()
	}
	return a
}

func (a *author) write(lane record.Lane, kind record.Kind, body []byte) record.Record {
	a.hlc += 1 << 20
	h := &a.heads[lane]
	c := record.Core{Epoch: a.epoch, Lane: lane, N: h.N + 1, Prev: h.RID, HLC: a.hlc, Kind: kind}
	if kind.Sealed() {
		c.Compartment = record.CompartmentID{byte(h.N % 5), 1, a.home}
	}
	r := record.Sign(c, body, a.key)
	h.N, h.RID = h.N+1, r.RID()
	return r
}

// keep puts records into a replica as its own.
func keep(t *testing.T, m *memory, recs ...record.Record) {
	t.Helper()
	for _, r := range recs {
		in, err := m.Ingest(t.Context(), m.self, []record.Record{r})
		if err != nil || len(in.Refused) != 0 {
			t.Fatalf("keeping own record: %v %v", in, err)
		}
	}
}
