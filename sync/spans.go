package peersync

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Serving what a partial replica asks for.
//
//	FILL    uvarint size, refs left, refs right, span of package record without gaps
//	FILLED  [why]                                                       0 all there is, 1 not held, 2 not for the peer, 3 the peer holds a part
//
// refs are as in a SEGMENT and refer to the hashes of the FILL before. left and
// right are the hashes of record.GapShape before and behind the span in the tree of
// size. Asks are answered in their order, each ended by a FILLED.

const (
	filledAll      = 0
	filledNotHeld  = 1
	filledNotYours = 2
	filledPartial  = 3 // answers no ask: send spans instead

	asksMax      = 8 // of one peer, under way
	aheadBytes   = 128 << 10
	openingsMax  = 1024
	toldOpenings = 16 << 10
)

// spans is what this side serves beside segments.
type spans struct {
	span   bool   // what is streamed goes as spans
	recent uint64 // newest entries that go whole
	ahead  record.Span
	told   map[record.RID]bool // openings that went along in this session

	asks   []ask
	at     uint64
	before []record.Hash
	done   []uint64 // FILLED that are due
}

// handleAsk takes a question for spans, or for a range or a compartment.
func (s *Session) handleAsk(b []byte) error {
	m, err := decodeAsk(b)
	if err != nil {
		return err
	}
	s.dirty = true
	if m.Kind != askSpan {
		if len(s.spans.asks) >= asksMax {
			return misbehaved("more than %d asks", asksMax)
		}
		s.spans.asks = append(s.spans.asks, m)
		if len(s.spans.asks) == 1 {
			s.beginAsk()
		}
		return nil
	}
	if _, final, _ := s.r.Final(); m.To > final.Size && !s.hub {
		return ErrBehind
	}
	s.serveSpans(m.From, m.To, m.Recent, m.Flags)
	if s.fork.on {
		s.serve.active = false
		s.refuse()
	}
	return nil
}

// serveSpans begins a stream of spans.
func (s *Session) serveSpans(from, to, recent, flags uint64) {
	v := &s.serve
	*v = serve{active: true, follow: flags&askFollow != 0, full: flags&askFull != 0, at: from, to: to, before: v.before, answer: v.answer}
	g := &s.spans
	g.span, g.recent, g.ahead, g.told = true, recent, record.Span{}, map[record.RID]bool{}
	if from > s.theirSize {
		s.theirSize = from
		s.stats.size.Store(from)
	}
}

// mayServe settles whether the range under way can go to the peer, and how.
func (s *Session) mayServe() (bool, error) {
	p, v := s.part.p, &s.serve
	if p == nil {
		if !s.spans.span {
			return true, nil
		}
		v.active = false
		s.refuse()
		return false, nil
	}
	holes, err := p.HolesBefore(v.target.Size, 1)
	if err != nil {
		return false, local("reading holes", err)
	}
	if len(holes) > 0 && holes[0].To > v.at {
		v.active = false
		s.refuse()
		return false, nil
	}
	if s.spans.span && s.spans.recent == 0 {
		return true, nil
	}
	part, err := p.IsPartial(s.peer)
	if err != nil {
		return false, local("reading profile", err)
	}
	if !part {
		return true, nil
	}
	v.active = false
	if s.theirs.Max < protocolPartial {
		s.refuse()
		return false, nil
	}
	s.spans.done = append(s.spans.done, filledPartial)
	return false, nil
}

// nextSpanFrame gives the next frame of the stream that a partial replica asked for.
func (s *Session) nextSpanFrame() (Frame, bool, error) {
	v := &s.serve
	span, err := s.cutSpan()
	if errors.Is(err, record.ErrHole) {
		return Frame{}, false, s.unserved("reading a span", err)
	}
	if err != nil || span.To <= span.From {
		return Frame{}, false, err
	}
	proof := []record.Hash{}
	if span.To < v.target.Size {
		if proof, err = s.r.ConsistencyProof(span.To, v.target.Size); err != nil {
			return Frame{}, false, s.unserved("proving consistency", err)
		}
	}
	p := appendProof(nil, proof, v.before)
	p = record.AppendSpan(p, &span, s.knows)
	v.at, v.before = span.To, proof
	s.stats.sent.Add(uint64(len(span.Entries)))
	return Frame{Type: TypeSpan, Payload: p}, true, nil
}

// cutSpan takes as much as one frame carries from what was read ahead. Entries that
// the peer holds cost a few bytes.
func (s *Session) cutSpan() (record.Span, error) {
	v, g := &s.serve, &s.spans
	if g.ahead.From != v.at || g.ahead.To <= g.ahead.From || g.ahead.To > v.target.Size {
		if err := s.readAhead(); err != nil {
			return record.Span{}, err
		}
	}
	a := &g.ahead
	out := record.Span{From: a.From, To: a.From}
	size, taken := 0, 0
	for out.To < a.To {
		if len(a.Gaps) > 0 && a.Gaps[0].From == out.To {
			if size += 32*len(a.Gaps[0].Hashes) + 4; taken > 0 && size > s.frameBytes() {
				break
			}
			out.Gaps, out.To, a.Gaps = append(out.Gaps, a.Gaps[0]), a.Gaps[0].To, a.Gaps[1:]
			taken++
			continue
		}
		if len(a.Entries) == 0 {
			return out, local("reading a span", record.ErrMalformed)
		}
		if size += s.entryBytes(&a.Entries[0]); taken > 0 && (size > s.frameBytes() || len(out.Entries) == segmentEntriesMax) {
			break
		}
		out.Entries, out.To, a.Entries = append(out.Entries, a.Entries[0]), out.To+1, a.Entries[1:]
		taken++
	}
	a.From = out.To
	out.Openings = s.newOpenings(out.Entries, a.Openings)
	return out, nil
}

// readAhead reads what the next frames carry. The newest entries, where they were
// asked for, come whole.
func (s *Session) readAhead() error {
	v, g, p := &s.serve, &s.spans, s.part.p
	from := v.target.Size - min(v.target.Size, g.recent)
	bytesMax := min(4*s.frameBytes(), aheadBytes)
	if v.at < from {
		pending, err := s.pendingThere(v.at)
		if err != nil {
			return err
		}
		span, err := p.SpanFor(s.peer, v.at, from, bytesMax, pending...)
		if err == nil && (span.From != v.at || span.Tiles() != nil) {
			err = record.ErrMalformed
		}
		if err != nil {
			return local("reading a span", err)
		}
		g.ahead = span
		return nil
	}
	entries, err := s.r.Entries(v.at, v.target.Size, bytesMax)
	if err != nil {
		return local("reading entries", err)
	}
	openings, err := p.OpeningsOf(entries)
	if err != nil {
		return local("reading opening records", err)
	}
	g.ahead = record.Span{From: v.at, To: v.at + uint64(len(entries)), Entries: entries, Openings: openings}
	return nil
}

// newOpenings leaves out what the entries do not need and what went along before,
// as an opening or as an entry.
func (s *Session) newOpenings(entries []record.Entry, list []record.Record) []record.Record {
	g := &s.spans
	if g.told == nil || len(g.told) > toldOpenings {
		g.told = map[record.RID]bool{}
	}
	needed := map[record.Position]bool{}
	for i := range entries {
		c := &entries[i].Record.Core
		if c.Kind == record.KindEpochOpen || c.Kind == record.KindSessionOpen {
			g.told[entries[i].Record.RID()] = true
		}
		needed[record.Position{Epoch: c.Epoch}], needed[record.Position{Epoch: c.Epoch, N: c.Session}] = true, true
	}
	var out []record.Record
	for _, r := range list {
		if needed[r.Position()] && !g.told[r.RID()] && len(out) < openingsMax {
			g.told[r.RID()] = true
			out = append(out, r)
		}
	}
	return out
}

// nextFilled ends an ask.
func (s *Session) nextFilled() (Frame, bool, error) {
	g := &s.spans
	if len(g.done) == 0 {
		return Frame{}, false, nil
	}
	f, err := encode(TypeFilled, filled{Why: g.done[0]})
	g.done = g.done[1:]
	return f, err == nil, err
}

// endAsk answers the oldest ask for good and begins the next.
func (s *Session) endAsk(why uint64) {
	g := &s.spans
	g.done, g.asks = append(g.done, why), g.asks[1:]
	if len(g.asks) > 0 {
		s.beginAsk()
	} else if why == filledAll {
		s.push.filled()
	}
}

// beginAsk turns to the oldest ask. The opening records that it needs go along anew:
// a frame that had them before may have been passed over.
func (s *Session) beginAsk() {
	g := &s.spans
	g.at, g.told = g.asks[0].From, nil
}

// nextFill gives the next frame of a range or of a compartment.
func (s *Session) nextFill() (Frame, bool, error) {
	g := &s.spans
	if len(g.asks) == 0 || len(g.done) > 0 {
		return Frame{}, false, nil
	}
	m := &g.asks[0]
	why, err := s.mayGive(m)
	if err != nil {
		return Frame{}, false, err
	}
	var span record.Span
	if why == filledAll {
		span, err = s.fillSpan(m)
	}
	switch {
	case errors.Is(err, record.ErrHole):
		why = filledNotHeld
	case err != nil:
		return Frame{}, false, err
	}
	if why != filledAll || span.To <= span.From {
		s.endAsk(why)
		return Frame{}, false, nil
	}
	return s.fillFrame(m, &span)
}

// mayGive says whether the peer may have what it asks for, and whether the tree
// that it names is part of the ledger here.
func (s *Session) mayGive(m *ask) (why uint64, err error) {
	p := s.part.p
	if p == nil || s.fork.on {
		return filledNotHeld, nil
	}
	_, final, _ := s.r.Final()
	if m.Size > s.r.Head().Size || m.Size > final.Size && !s.hub {
		return filledNotHeld, nil
	}
	switch m.Kind {
	case askRange:
		if part, err := p.IsPartial(s.peer); err != nil || part {
			return filledNotYours, orLocal("reading profile", err)
		}
		return filledAll, nil
	case askFeed:
		f, first := m.feed()
		rid, ok, err := s.r.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: m.From})
		if err != nil || !ok || rid != first {
			return filledNotHeld, orLocal("reading held record", err)
		}
		return filledAll, nil
	}
	ok, err := p.MayHold(s.peer, m.compartment())
	if err != nil || !ok {
		return filledNotYours, orLocal("reading profile", err)
	}
	return filledAll, nil
}

func orLocal(what string, err error) error {
	if err == nil {
		return nil
	}
	return local(what, err)
}

// fillSpan reads what goes next of an ask; nothing when all of it went.
func (s *Session) fillSpan(m *ask) (span record.Span, err error) {
	g, p := &s.spans, s.part.p
	if g.at >= m.To {
		return span, nil
	}
	from, to := g.at, m.To
	if m.Kind != askRange {
		if from, to, err = s.nextRun(m); err != nil || from >= to {
			return span, err
		}
	}
	entries, err := s.r.Entries(from, to, s.frameBytes())
	if err == nil && len(entries) == 0 {
		err = record.ErrHole
	}
	entries = entries[:min(len(entries), segmentEntriesMax)]
	span = record.Span{From: from, To: from + uint64(len(entries)), Entries: entries}
	if err == nil {
		span.Openings, err = p.OpeningsOf(entries)
	}
	if err != nil {
		return span, local("reading what was asked for", err)
	}
	span.Openings = s.newOpenings(entries, span.Openings)
	return span, nil
}

// nextRun finds entries of a compartment or a feed that follow each other.
func (s *Session) nextRun(m *ask) (from, to uint64, err error) {
	var seqs []uint64
	if m.Kind == askFeed {
		f, _ := m.feed()
		seqs, err = s.part.p.Places(f, s.spans.at, m.To, segmentEntriesMax)
	} else {
		seqs, err = s.part.p.CompartmentSeqs(m.compartment(), s.spans.at, segmentEntriesMax)
	}
	if err != nil {
		return 0, 0, local("listing entries", err)
	}
	end := min(m.Size, m.To)
	if m.Kind == askFeed {
		end = m.Size
	}
	if len(seqs) == 0 || seqs[0] >= end {
		return 0, 0, nil
	}
	from, to = seqs[0], seqs[0]+1
	for _, seq := range seqs[1:] {
		if seq != to || to >= end {
			break
		}
		to++
	}
	return from, to, nil
}

// pendingThere lists the feeds of which the peer holds something pending, its
// ledger being of size at. It also says how far it has feeds that are ordered, and
// what is behind those is none of its business.
func (s *Session) pendingThere(at uint64) ([]record.Feed, error) {
	var out []record.Feed
	for id, e := range s.push.epochs {
		for lane, n := range e.held {
			if n == 0 {
				continue
			}
			f := record.Feed{Epoch: id, Lane: record.Lane(lane)}
			seqs, err := s.part.p.Places(f, n, n+1, 1)
			if err != nil {
				return nil, local("finding a feed's entries", err)
			}
			if len(seqs) == 0 || seqs[0] >= at {
				out = append(out, f)
			}
		}
	}
	return out, nil
}

func (s *Session) fillFrame(m *ask, span *record.Span) (Frame, bool, error) {
	g := &s.spans
	left, right, err := s.part.p.RangeProof(span.From, span.To, m.Size)
	if err != nil {
		if errors.Is(err, record.ErrHole) {
			s.endAsk(filledNotHeld)
			return Frame{}, false, nil
		}
		return Frame{}, false, local("proving a range", err)
	}
	b := binary.AppendUvarint(nil, m.Size)
	b = appendProof(b, left, g.before)
	b = appendProof(b, right, g.before)
	b = record.AppendSpan(b, span, func(record.Position) bool { return m.Kind == askFeed })
	g.before = slices.Concat(left, right)
	if g.at = span.To; m.Kind == askFeed {
		g.at = span.Entries[len(span.Entries)-1].Record.Position().N + 1
	}
	if m.Kind == askRange && g.at >= m.To {
		s.endAsk(filledAll)
	}
	s.stats.sent.Add(uint64(len(span.Entries)))
	return Frame{Type: TypeFill, Payload: b}, true, nil
}
