package store

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// Span is a run of the ledger as a partial replica takes it: the entries that it
// holds, and hashes for those between them.
type Span = record.Span

// interests knows who wrote in which compartment, from the entries held here. It
// is built when a peer first asks for a span and grows with the ledger.
type interests struct {
	mu      sync.Mutex
	size    uint64 // entries before were looked at
	devices map[record.DeviceID]uint32
	wrote   map[record.CompartmentID][]uint32
}

// catchUp takes in the entries that came since. The caller holds mu.
func (x *interests) catchUp(l lookup) error {
	if x.devices == nil {
		x.devices, x.wrote = map[record.DeviceID]uint32{}, map[record.CompartmentID][]uint32{}
	}
	authors := map[record.EpochID]record.DeviceID{}
	for ; x.size < l.Size(); x.size++ {
		e, err := l.entry(x.size, false)
		if errors.Is(err, ErrHole) {
			h, _, err := l.holeAt(x.size)
			if err != nil {
				return err
			}
			x.size = h.To - 1
			continue
		}
		if err != nil {
			return err
		}
		c := e.Record.Core.Compartment
		if c.IsZero() {
			continue
		}
		d, err := l.authorOf(authors, e.Record.Core.Epoch)
		if err != nil {
			return err
		}
		x.add(d, c)
	}
	return nil
}

func (x *interests) add(d record.DeviceID, c record.CompartmentID) {
	n, ok := x.devices[d]
	if !ok {
		n = uint32(len(x.devices))
		x.devices[d] = n
	}
	if !slices.Contains(x.wrote[c], n) {
		x.wrote[c] = append(x.wrote[c], n)
	}
}

func (l lookup) authorOf(authors map[record.EpochID]record.DeviceID, id record.EpochID) (record.DeviceID, error) {
	if d, ok := authors[id]; ok {
		return d, nil
	}
	e, ok, err := l.epoch(id)
	if err == nil && !ok {
		err = damagedRow(keyEpoch(id), "epoch of an entry is missing")
	}
	authors[id] = e.Device
	return e.Device, err
}

// profile says what a device's partial replica holds.
type profile struct {
	l         lookup
	d         record.DeviceID
	directory record.CompartmentID
	interests *interests
	known     map[record.CompartmentID]bool // as looked up
	pending   map[record.Feed]bool
	authors   map[record.EpochID]record.DeviceID
}

func (s *Store) profileOf(l lookup, d record.DeviceID, pending []record.Feed) (*profile, error) {
	p := &profile{l: l, d: d, interests: &s.interests, known: map[record.CompartmentID]bool{}, pending: map[record.Feed]bool{}, authors: map[record.EpochID]record.DeviceID{}}
	if l.st.region.ok {
		p.directory = record.DirectoryCompartment(l.st.region.id)
	}
	for _, f := range pending {
		p.pending[f] = true
	}
	s.interests.mu.Lock()
	defer s.interests.mu.Unlock()
	return p, s.interests.catchUp(l)
}

func (x *interests) has(d record.DeviceID, c record.CompartmentID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	n, ok := x.devices[d]
	return ok && slices.Contains(x.wrote[c], n)
}

// again makes the entries from one on be looked at again: a hole was filled.
func (x *interests) again(from uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.size = min(x.size, from)
}

// wants says whether the device is interested in a compartment.
func (p *profile) wants(c record.CompartmentID) (bool, error) {
	if c.IsZero() {
		return false, nil
	}
	if want, known := p.known[c]; known || c == p.directory {
		return want || c == p.directory, nil
	}
	want, err := p.interests.has(p.d, c), error(nil)
	if !want {
		want, err = record.IsAssigned(p.l, p.d, c)
	}
	p.known[c] = want
	return want, err
}

// holds says whether the device's replica holds an entry.
func (p *profile) holds(e *record.Entry) (bool, error) {
	if e.HeldByAll() || p.pending[e.Record.Position().Feed()] {
		return true, nil
	}
	d, err := p.l.authorOf(p.authors, e.Record.Position().Epoch)
	if err != nil || d == p.d {
		return d == p.d, err
	}
	return p.wants(e.Record.Core.Compartment)
}

// Limits of one span: entries that are looked at, and entries in it.
const (
	spanReachMax   = 1 << 16
	spanEntriesMax = 512
)

// SpanFor gives the entries from one on as the partial replica of a device takes
// them, up to to at the most, and about bytesMax bytes. Entries of the feeds in
// pending are held too: who carries records of others sees them ordered. A run
// that is not held here either is a gap; ErrHole when from lies inside of one.
func (s *Store) SpanFor(d record.DeviceID, from, to uint64, bytesMax int, pending ...record.Feed) (span Span, err error) {
	err = s.read(func(l lookup) error {
		if to = min(to, l.Size()); from > to {
			return fmt.Errorf("%w: entry %d of %d", ErrRefused, from, to)
		}
		p, err := s.profileOf(l, d, pending)
		if err != nil {
			return err
		}
		b := spanBuilder{l: l, p: p, bytesMax: bytesMax, span: Span{From: from, To: from}, gapFrom: from, epochs: map[record.Position]bool{}}
		if err := b.run(to); err != nil {
			return err
		}
		span = b.span
		return nil
	})
	if err != nil {
		return Span{}, fmt.Errorf("reading a span: %w", err)
	}
	return span, nil
}

type spanBuilder struct {
	l        lookup
	p        *profile
	span     Span
	bytes    int
	bytesMax int
	gapFrom  uint64
	epochs   map[record.Position]bool // openings in the span
}

func (b *spanBuilder) run(to uint64) error {
	to, err := b.clip(to)
	if err != nil {
		return err
	}
	seq := b.span.From
	for seq < to && (seq == b.span.From || b.bytes < b.bytesMax && len(b.span.Entries) < spanEntriesMax) {
		e, err := b.l.entry(seq, false)
		if errors.Is(err, ErrHole) {
			h, _, herr := b.l.holeAt(seq)
			if herr != nil {
				return herr
			}
			seq = min(h.To, to)
			continue
		}
		if err != nil {
			return err
		}
		holds, err := b.p.holds(&e)
		if err == nil && holds {
			err = b.take(seq)
		}
		if err != nil {
			return err
		}
		seq++
	}
	if err := b.closeGap(seq); err != nil {
		return err
	}
	b.span.To = seq
	return b.openings()
}

// clip ends the span where a hole of this replica begins that reaches past it, and
// says when it begins inside of one.
func (b *spanBuilder) clip(to uint64) (uint64, error) {
	to = min(to, b.span.From+spanReachMax)
	if b.l.st.absent == 0 || to == b.span.From {
		return to, nil
	}
	h, ok, err := b.l.holeAt(b.span.From)
	if err != nil {
		return to, err
	}
	if ok && (h.From < b.span.From || h.To > to) {
		if h.From == b.span.From {
			return h.To, nil // as a whole, however long
		}
		return to, fmt.Errorf("%w: entry %d", ErrHole, b.span.From)
	}
	h, ok, err = b.l.holeAt(to - 1)
	if ok && h.To > to {
		to = h.From
	}
	return to, err
}

// take adds an entry.
func (b *spanBuilder) take(seq uint64) error {
	e, err := b.l.entry(seq, true)
	if err != nil {
		return err
	}
	if err := b.closeGap(seq); err != nil {
		return err
	}
	b.gapFrom = seq + 1
	b.span.Entries = append(b.span.Entries, e)
	b.bytes += len(e.Record.Body) + record.HeaderBytesMax
	return nil
}

// closeGap adds what is not held before an entry.
func (b *spanBuilder) closeGap(to uint64) error {
	if b.gapFrom == to {
		return nil
	}
	g, err := b.l.gapAt(b.gapFrom, to)
	b.gapFrom = to
	b.span.Gaps = append(b.span.Gaps, g)
	b.bytes += 8 + 32*len(g.Hashes)
	return err
}

// openings adds the beginnings of epochs and sessions of the entries.
func (b *spanBuilder) openings() error {
	var err error
	b.span.Openings, err = b.l.openingsOf(b.span.Entries)
	return err
}

// openingsOf gives the beginnings of epochs and sessions that entries need and
// that are not among them.
func (l lookup) openingsOf(entries []record.Entry) ([]record.Record, error) {
	have := map[record.Position]bool{}
	for i := range entries {
		have[entries[i].Record.Position()] = true
	}
	var out []record.Record
	add := func(p record.Position) error {
		if have[p] {
			return nil
		}
		have[p] = true
		r, _, _, ok, err := l.held(p, true)
		if errors.Is(err, ErrHole) {
			return nil
		}
		if err == nil && ok && (p.N == 0 || r.Core.Kind == record.KindSessionOpen) {
			out = append(out, r)
		}
		return err
	}
	for i := range entries {
		c := &entries[i].Record.Core
		if c.Kind == record.KindEpochOpen {
			continue
		}
		if err := add(record.Position{Epoch: c.Epoch}); err != nil {
			return nil, err
		}
		if c.Session > 0 {
			if err := add(record.Position{Epoch: c.Epoch, N: c.Session}); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// OpeningsOf gives the beginnings of epochs and sessions that entries need and
// that are not among them, as far as they are held here: what Fill takes.
func (s *Store) OpeningsOf(entries []record.Entry) (out []record.Record, err error) {
	err = s.read(func(l lookup) error { out, err = l.openingsOf(entries); return err })
	if err != nil {
		return nil, fmt.Errorf("reading openings: %w", err)
	}
	return out, nil
}

// InProfile says whether a device's partial replica holds the entries of a
// compartment: it wrote in it, or it is assigned, or it is the directory.
func (s *Store) InProfile(d record.DeviceID, c record.CompartmentID) (in bool, err error) {
	err = s.read(func(l lookup) error {
		p, err := s.profileOf(l, d, nil)
		if err == nil {
			in, err = p.wants(c)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("reading a profile: %w", err)
	}
	return in, nil
}
