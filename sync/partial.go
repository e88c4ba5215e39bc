package peersync

import (
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// A box that does not hold every entry extends its ledger by spans: the entries
// that its profile has, and for the rest the hashes that lead to the same root.
//
//	HELLO   frame flags 2 and 4: spans are wanted from the size on, by profile or whole
//	SPAN    count(1) (reference(1) | 0xff hash(32))* span of package record     as a SEGMENT
//	ASK     [kind, from, to, size, recent, flags, compartment]
//
// What a profile holds, the server reads in its own ledger; nobody sends a list of
// patients.

// Flags of a HELLO frame.
const (
	flagSpans = 2 // what a partial replica of the sender holds, from its size on
	flagWhole = 4 // every entry, as spans, for the sender cannot tell where feeds continue
)

// spanMode is how this side extends its ledger.
type spanMode int

const (
	segments  spanMode = iota // every entry is here
	byProfile                 // what the profile of this box has
	whole                     // every new entry; holes from a beginning are being filled
	beginning                 // the newest entries, and before them what the profile has
)

// partial is what the asking side knows.
type partial struct {
	p    Partial // nil: the replica holds every entry
	mode spanMode
	aim  record.TreeHead // trusted, asked for by its size, until the ledger is there
	told bool            // by the peer, that the ledger calls this box partial
	// asked: spans were asked for in this session; gaps: such as have gaps.
	asked, gaps bool
	fill        fill
}

func newPartial(r Replica) partial {
	p, _ := r.(Partial)
	return partial{p: p}
}

// lookMode finds out how entries are to come. A box that joins takes the newest
// first; until the ledger of the peer is known, whether that is worth it is not.
func (s *Session) lookMode() error {
	x := &s.part
	if x.p == nil || s.fetch.only {
		return nil
	}
	x.mode = segments
	if x.told || s.o.Partial() {
		x.mode = byProfile
		return nil
	}
	holes, err := x.p.HolesBefore(maxSeq, 1)
	if err != nil {
		return local("reading holes", err)
	}
	size := s.r.Head().Size
	far := s.fetch.target.Size == 0 || s.fetch.target.Size-min(size, s.fetch.target.Size) > 2*s.o.Recent
	switch {
	case s.o.Recent > 0 && far && s.fetch.target.Size != 0 && (len(holes) > 0 || size < s.o.Recent):
		x.mode = beginning
	case len(holes) > 0:
		x.mode = whole
	case s.o.Recent > 0 && s.fetch.target.Size == 0 && size == 0:
		x.mode = beginning
	}
	return nil
}

const maxSeq = 1 << 62

// deaf reports whether entries can only come as spans and the peer has none.
func (s *Session) deaf() bool {
	m := s.part.mode
	return s.helloSeen && s.theirs.Max < protocolPartial && (m == byProfile || m == whole)
}

// helloFlags ask for spans in the frame of the HELLO, which who does not know them
// leaves alone.
func (s *Session) helloFlags(want bool) byte {
	if !want || s.part.mode == segments {
		return 0
	}
	s.part.note()
	if s.part.mode == whole {
		return flagWhole
	}
	return flagSpans
}

// note keeps what was asked for: it may arrive when something else is wanted.
func (x *partial) note() { x.asked, x.gaps = true, x.gaps || x.mode != whole }

// askSpans is the frame that asks for entries from the own size on, in place of a
// PULL.
func (s *Session) askSpans(from uint64) (Frame, bool, error) {
	f := &s.fetch
	s.part.note()
	m := ask{Kind: askSpan, From: from, To: s.part.aim.Size, Of: []byte{}}
	if m.To <= from { // up to the newest that the peer told of
		m.To, s.part.aim = 0, record.TreeHead{}
	}
	switch s.part.mode {
	case whole:
		m.Recent = maxSeq
	case beginning:
		m.Recent = s.o.Recent
	}
	if f.follows = s.hub && !f.only; f.follows {
		m.Flags |= askFollow
	}
	if f.full {
		m.Flags |= askFull
	}
	out, err := encode(TypeAsk, m)
	return out, err == nil, err
}

// handleSpan verifies and appends one frame of a span, as handleSegment does.
func (s *Session) handleSpan(ctx context.Context, b []byte) error {
	f := &s.fetch
	if s.part.p == nil {
		return misbehaved("a span for who holds every entry")
	}
	proof, b, err := readProof(b, f.before)
	if err != nil {
		return err
	}
	f.before = proof
	from, to, err := record.SpanBounds(b)
	if err != nil {
		return misbehaved("%w", err)
	}
	ready, err := s.readyFor(from, to)
	if err != nil || !ready {
		return err
	}
	if !s.part.asked {
		return misbehaved("a span for who asked for segments")
	}
	head := s.r.Head()
	span, err := record.ReadSpan(b, s.r.Holder().Held)
	if err != nil {
		return s.extendError(ctx, head, err, errors.Is(err, record.ErrGap))
	}
	if !s.part.gaps && len(span.Gaps) > 0 {
		return misbehaved("a gap in entries that were asked for whole")
	}
	target := f.target
	if s.part.aim.Size >= to {
		target = s.part.aim
	}
	if err := s.part.p.ExtendSpan(ctx, &span, target, proof); err != nil {
		return s.extendError(ctx, head, err, true)
	}
	return s.extended(len(span.Entries))
}

// toldPartial: the ledger of the peer says that this box holds a part. A hub is
// believed; a box that hears it from others waits for a hub, unless it is a field
// device, which holds a part in any case.
func (s *Session) toldPartial() {
	if s.part.p == nil || !s.hub && s.o.Role != record.RoleField || s.part.told {
		s.halt()
		return
	}
	f := &s.fetch
	s.part.told, s.part.mode = true, byProfile
	f.active, f.asking, f.ask, s.dirty = false, false, false, true
}
