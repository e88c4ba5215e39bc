package peersync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// What follows makes memory hold a part of the ledger. Entries in a hole are zero;
// nodes has the hashes of leaves that are held and of subtrees of holes.

var _ peersync.Partial = (*memory)(nil)

// sparse reports whether something is in a hole; the lock is held.
func (m *memory) sparse() bool { return len(m.holes) > 0 }

func (m *memory) inHole(seq uint64) bool {
	return slices.ContainsFunc(m.holes, func(h record.Hole) bool { return h.From <= seq && seq < h.To })
}

// hash is that of a subtree, of the nodes known.
func (m *memory) hash(s record.Subtree) (record.Hash, error) {
	if h, ok := m.nodes.Hash(s); ok {
		return h, nil
	}
	return record.Hash{}, fmt.Errorf("subtree of entries %d to %d: %w", s.From(), s.To(), record.ErrHole)
}

func (m *memory) shape(from, to uint64) ([]record.Hash, error) {
	var out []record.Hash
	for _, s := range record.GapShape(from, to) {
		h, err := m.hash(s)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (m *memory) sparseRoot(size uint64) (record.Hash, error) {
	hashes, err := m.shape(0, size)
	if err != nil {
		return record.Hash{}, err
	}
	r, err := record.NewRange(size, hashes)
	return r.Root(), err
}

// ReadHashes implements tlog.HashReader.
func (m *memory) ReadHashes(at []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range at {
		level, n := tlog.SplitStoredHashIndex(i)
		h, err := m.hash(record.Subtree{Level: level, Index: uint64(n)})
		if err != nil {
			return nil, err
		}
		out = append(out, tlog.Hash(h))
	}
	return out, nil
}

func (m *memory) IsPartial(d record.DeviceID) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mode, err := record.ModeOf(state{m}, d)
	return mode == record.ModePartial, err
}

// wants says whether a compartment is in a device's profile.
func (m *memory) wants(d record.DeviceID, c record.CompartmentID) bool {
	if c.IsZero() {
		return false
	}
	if ok, _ := record.IsAssigned(state{m}, d, c); ok {
		return true
	}
	return m.wrote[place{d, c}]
}

// place is a compartment in which a device has written.
type place struct {
	d record.DeviceID
	c record.CompartmentID
}

func (m *memory) holdsFor(d record.DeviceID, e *record.Entry, pending []record.Feed) bool {
	p := e.Record.Position()
	return e.HeldByAll() || slices.Contains(pending, p.Feed()) || m.epochs[p.Epoch].Device == d || m.wants(d, e.Record.Core.Compartment)
}

func (m *memory) SpanFor(d record.DeviceID, from, to uint64, bytesMax int, pending ...record.Feed) (record.Span, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := record.Span{From: from, To: from}
	size := 0
	for s.To < to && size < bytesMax {
		if m.inHole(s.To) {
			return s, record.ErrHole
		}
		if e := &m.entries[s.To]; m.holdsFor(d, e, pending) {
			s.Entries = append(s.Entries, *e)
			size += 200 + len(e.Record.Body)
			s.To++
			continue
		}
		end := s.To
		for end < to && !m.inHole(end) && !m.holdsFor(d, &m.entries[end], pending) {
			end++
		}
		hashes, err := m.shape(s.To, end)
		if err != nil {
			return s, err
		}
		s.Gaps = append(s.Gaps, record.GapHashes{From: s.To, To: end, Hashes: hashes})
		size += 32 * len(hashes)
		s.To = end
	}
	s.Openings = m.openingsLocked(s.Entries)
	return s, nil
}

func (m *memory) openingsLocked(entries []record.Entry) []record.Record {
	var out []record.Record
	have := map[record.EpochID]bool{}
	for i := range entries {
		have[entries[i].Record.Position().Epoch] = have[entries[i].Record.Position().Epoch] || entries[i].Record.Core.Kind == record.KindEpochOpen
	}
	for i := range entries {
		id := entries[i].Record.Position().Epoch
		if have[id] {
			continue
		}
		have[id] = true
		if seq, ok := m.ordered[record.Position{Epoch: id}]; ok {
			out = append(out, m.entries[seq].Record)
		} else if r, ok := m.openings[id]; ok {
			out = append(out, r)
		}
	}
	return out
}

func (m *memory) OpeningsOf(entries []record.Entry) ([]record.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.openingsLocked(entries), nil
}

// openLocked makes the epochs of opening records known.
func (m *memory) openLocked(list []record.Record) error {
	for _, r := range list {
		body, err := record.DecodeEpochOpen(r.Body)
		if err != nil || r.VerifyBody() != nil || r.VerifySignature(record.DeviceID(body.Device)) != nil {
			return fmt.Errorf("%w: an opening record", errUnverified)
		}
		id := r.OpenedEpoch()
		m.epochs[id] = record.Epoch{ID: id, Device: record.DeviceID(body.Device), Opening: r.RID()}
		m.openings[id] = r
	}
	return nil
}

func (m *memory) ExtendSpan(_ context.Context, s *record.Span, target record.TreeHead, proof []record.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return m.fault
	}
	if s.From != uint64(len(m.entries)) || s.Tiles() != nil {
		return fmt.Errorf("%w: not at the end", errUnverified)
	}
	if err := m.openLocked(s.Openings); err != nil {
		return err
	}
	o := record.NewOrderer(state{m}, nil)
	if m.sparse() {
		o.Sparse()
	}
	edge, gaps := m.edge.Clone(), s.Gaps
	skip := func(to uint64) error {
		for ; len(gaps) > 0 && gaps[0].From < to; gaps = gaps[1:] {
			if err := edge.AppendGap(&gaps[0]); err != nil {
				return err
			}
			o.Skip(gaps[0].To)
		}
		return nil
	}
	for i := range s.Entries {
		e := &s.Entries[i]
		if err := skip(e.Seq); err != nil {
			return err
		}
		out, err := o.Place(e)
		if err != nil || out.Verdict != record.Ordered {
			return fmt.Errorf("%w: entry %d: %s, %w", errUnverified, e.Seq, out.Verdict, err)
		}
		edge.Append(record.LeafHash(e.EncodeLeaf()))
	}
	if err := skip(s.To); err != nil {
		return err
	}
	if err := record.VerifyConsistency(edge.Head(), target, proof); err != nil {
		return fmt.Errorf("%w: %w", errUnverified, err)
	}
	m.applySpanLocked(s, o, edge)
	m.writes++
	return nil
}

func (m *memory) applySpanLocked(s *record.Span, o *record.Orderer, edge record.Range) {
	for _, g := range s.Gaps {
		m.nodes.AddGap(g.From, g.To, g.Hashes)
		m.holes = append(m.holes, record.Hole{From: g.From, To: g.To})
	}
	if m.full() {
		m.applyLocked(o)
		return
	}
	for uint64(len(m.entries)) < s.To {
		m.entries = append(m.entries, record.Entry{Seq: uint64(len(m.entries))})
		m.roots = append(m.roots, record.Hash{})
	}
	m.edge = edge
	m.takeLocked(o)
	for _, e := range o.Changes.Entries {
		m.keepLocked(e)
	}
	m.changedLocked()
}

// keepLocked puts one entry where nothing was.
func (m *memory) keepLocked(e record.Entry) {
	p := e.Record.Position()
	m.entries[e.Seq], m.ordered[p] = e, e.Seq
	m.nodes[record.Subtree{Index: e.Seq}] = record.LeafHash(e.EncodeLeaf())
	m.time = max(m.time, e.Time)
	m.settleLocked(p, e.Record.RID())
	if c := e.Record.Core.Compartment; !c.IsZero() {
		m.last[c] = max(m.last[c], e.Seq+1)
		m.wrote[place{m.epochs[p.Epoch].Device, c}] = true
	}
}

func (m *memory) HolesBefore(size uint64, limit int) ([]record.Hole, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []record.Hole
	for _, h := range slices.Backward(m.holes) {
		if h.From < size && len(out) < limit {
			out = append(out, h)
		}
	}
	return out, nil
}

func (m *memory) Missing(limit int) ([]record.CompartmentID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []record.CompartmentID
	add := func(c record.CompartmentID) {
		if len(out) < limit && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	for i := range m.entries {
		if e := &m.entries[i]; e.PrevSeq != 0 && m.inHole(e.PrevSeq-1) && m.wants(m.self, e.Record.Core.Compartment) {
			add(e.Record.Core.Compartment)
		}
	}
	for _, c := range m.assigned {
		if !m.had[c] {
			add(c)
		}
	}
	slices.SortFunc(out, func(a, b record.CompartmentID) int { return bytes.Compare(a[:], b[:]) })
	return out, nil
}

func (m *memory) GapsOf(c record.CompartmentID, from uint64, limit int) ([]record.Hole, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []record.Hole
	at := from
	for i := range m.entries {
		e := &m.entries[i]
		if e.Record.Core.Compartment != c || m.inHole(e.Seq) {
			continue
		}
		if e.PrevSeq > at && len(out) < limit && m.inHole(e.PrevSeq-1) {
			out = append(out, record.Hole{From: at, To: e.PrevSeq})
		}
		at = max(at, e.Seq+1)
	}
	if size := uint64(len(m.entries)); at < size && len(out) < limit {
		out = append(out, record.Hole{From: at, To: size})
	}
	return out, nil
}

func (m *memory) HasAll(_ context.Context, c record.CompartmentID, _ uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.had[c] = true
	return nil
}

func (m *memory) MayHold(d record.DeviceID, c record.CompartmentID) (bool, error) {
	part, err := m.IsPartial(d)
	m.mu.Lock()
	defer m.mu.Unlock()
	return !part || m.wants(d, c), err
}

func (m *memory) CompartmentSeqs(c record.CompartmentID, from uint64, limit int) ([]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []uint64
	for i := range m.entries {
		if e := &m.entries[i]; e.Seq >= from && e.Record.Core.Compartment == c && !m.inHole(e.Seq) && len(out) < limit {
			out = append(out, e.Seq)
		}
	}
	return out, nil
}

func (m *memory) Places(f record.Feed, n, to uint64, limit int) ([]uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []uint64
	for ; n < to && len(out) < limit; n++ {
		seq, ok := m.ordered[record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n}]
		if !ok {
			break
		}
		out = append(out, seq)
	}
	return out, nil
}

func (m *memory) RangeProof(from, to, size uint64) (left, right []record.Hash, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if left, err = m.shape(0, from); err == nil {
		right, err = m.shape(to, size)
	}
	return left, right, err
}

func (m *memory) Fill(_ context.Context, from uint64, entries []record.Entry, openings []record.Record, left, right []record.Hash, head record.TreeHead) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return 0, m.fault
	}
	var leaves []record.Hash
	for i := range entries {
		leaves = append(leaves, record.LeafHash(entries[i].EncodeLeaf()))
	}
	if err := record.VerifyRange(head, from, leaves, left, right); err != nil {
		return 0, fmt.Errorf("%w: %w", errUnverified, err)
	}
	if err := m.openLocked(openings); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !m.inHole(e.Seq) {
			continue
		}
		n++
		if e.Record.Core.Kind == record.KindEpochOpen {
			if err := m.openLocked([]record.Record{e.Record}); err != nil {
				return 0, err
			}
		}
		if d, ok := m.authorLocked(e.Record.Position().Epoch); !ok || e.Record.VerifySignature(d) != nil {
			return 0, fmt.Errorf("%w: entry %d", errUnverified, e.Seq)
		}
	}
	m.nodes.AddGap(0, from, left)
	m.nodes.AddGap(from+uint64(len(entries)), head.Size, right)
	for _, e := range entries {
		if m.inHole(e.Seq) {
			m.keepLocked(e)
		}
	}
	m.cutHoles(from, from+uint64(len(entries)))
	if n > 0 {
		m.writes++
		m.changedLocked()
	}
	return n, m.completeLocked()
}

func (m *memory) cutHoles(from, to uint64) {
	var out []record.Hole
	for _, h := range m.holes {
		if h.From < min(h.To, from) {
			out = append(out, record.Hole{From: h.From, To: min(h.To, from)})
		}
		if max(h.From, to) < h.To {
			out = append(out, record.Hole{From: max(h.From, to), To: h.To})
		}
	}
	m.holes = out
}

// completeLocked makes a replica whose last hole was filled a full one.
func (m *memory) completeLocked() error {
	if m.sparse() || m.full() {
		return nil
	}
	m.hashes, m.roots, m.edge = nil, []record.Hash{record.EmptyRoot}, record.Range{}
	for i := range m.entries {
		leaf := m.entries[i].EncodeLeaf()
		hashes, err := tlog.StoredHashes(int64(i), leaf, stored(m.hashes))
		if err != nil {
			return err
		}
		m.hashes = append(m.hashes, hashes...)
		m.edge.Append(record.LeafHash(leaf))
		m.roots = append(m.roots, m.edge.Root())
	}
	return nil
}

// full reports whether the hashes of all entries are here.
func (m *memory) full() bool {
	return !m.sparse() && len(m.roots) > 0 && !slices.Contains(m.roots, record.Hash{})
}

var errNoRoot = errors.New("past the end")
