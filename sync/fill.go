package peersync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Holes are filled from whoever holds the entries, while nothing more urgent is to
// be fetched: compartments that the profile of this box has, and where it is to hold
// every entry, the newest first. Each frame is verified against a checkpoint's root
// before it is stored; a cut costs the frames under way.

const (
	fillsMax     = 2    // asks of one session under way
	fillEntries  = 1024 // of one ask
	fillRefusals = 4    // after which a peer is not asked again in this session
	fillTries    = 256  // holes looked at for one ask
	missingMax   = 64
)

// fill is what this side asked for and waits for.
type fill struct {
	under  []question // oldest first
	below  uint64     // the next hole begins below it
	got    bool       // entries came since the newest hole was looked for
	before []record.Hash

	refusals int
	lacks    map[record.CompartmentID]bool   // what the peer has of them came
	past     map[record.CompartmentID]uint64 // the peer was asked for what is missing before it
	looked   map[record.Feed]uint64          // held up to there when the peer was asked where they stand
	only     *wanted                         // of a session for one compartment
}

type question struct {
	ask
	head record.TreeHead // trusted
	at   uint64          // entries before it came
}

// wanted is one compartment that somebody waits for.
type wanted struct {
	compartment record.CompartmentID
	asked, done bool
	why         uint64
	took        int
}

// newWanted prepares a session that takes a compartment's entries and then ends.
func newWanted(r Replica, peer record.DeviceID, w *wanted, o Options) *Session {
	s := NewSession(r, peer, o.bare())
	s.fetch.only, s.part.fill.only = true, w
	return s
}

// nextAsk asks for what fills a hole.
func (s *Session) nextAsk() (Frame, bool, error) {
	x := &s.part.fill
	_, head, ok := s.r.Final()
	if s.part.p == nil || !ok || head.Size == 0 || len(x.under) >= fillsMax {
		return Frame{}, false, nil
	}
	if x.only != nil {
		if x.only.asked {
			return Frame{}, false, nil
		}
		if s.theirs.Max < protocolPartial {
			return Frame{}, false, fmt.Errorf("asking for a compartment: %w", ErrVersion)
		}
		x.only.asked = true
		c := x.only.compartment
		return s.put(ask{Kind: askCompartment, To: head.Size, Of: c[:]}, head)
	}
	if !s.mayFill(head) {
		return Frame{}, false, nil
	}
	m, ok, err := s.pickFeed()
	if err == nil && !ok {
		m, ok, err = s.pickCompartment(head)
	}
	if err == nil && !ok {
		m, ok, err = s.pickRange(head)
	}
	if err != nil || !ok {
		return Frame{}, false, err
	}
	return s.put(m, head)
}

func (s *Session) put(m ask, head record.TreeHead) (Frame, bool, error) {
	x := &s.part.fill
	if m.Size = head.Size; m.Of == nil {
		m.Of = []byte{}
	}
	x.under = append(x.under, question{ask: m, head: head, at: m.From})
	f, err := encode(TypeAsk, m)
	return f, err == nil, err
}

// mayFill: the peer holds the tree that the own final checkpoint is of, and nothing
// that is missing behind it is under way.
func (s *Session) mayFill(head record.TreeHead) bool {
	return s.theirs.Max >= protocolPartial && s.theirSize >= head.Size && !s.fetch.only && !s.fork.on && !s.fork.heard &&
		s.part.mode != segments && s.lanes.allows.Later && s.part.fill.refusals < fillRefusals && s.o.WantOrdered() && !s.behind()
}

// pickFeed finds records that this box carries: what of them was ordered before it
// got them lies in a hole.
func (s *Session) pickFeed() (ask, bool, error) {
	x := &s.part.fill
	if s.part.mode != byProfile {
		return ask{}, false, nil
	}
	if x.looked == nil {
		x.looked = map[record.Feed]uint64{}
	}
	for _, f := range s.push.feeds {
		if f.Author == s.o.Device {
			continue
		}
		if f.Opening && f.Lane != 0 {
			if m, ok, err := s.lookFor(record.Feed{Epoch: f.Epoch}, 0, 1); ok || err != nil {
				return m, ok, err
			}
		}
		n := f.OrderedN + 1
		if f.Opening && f.Lane == 0 {
			n = 0
		}
		if m, ok, err := s.lookFor(f.Feed, n, f.HeldN+1); ok || err != nil {
			return m, ok, err
		}
	}
	return ask{}, false, nil
}

// lookFor asks where records of a feed stand, once as far as it is held.
func (s *Session) lookFor(f record.Feed, n, to uint64) (ask, bool, error) {
	x := &s.part.fill
	if held := x.looked[f]; n >= to || held >= to {
		return ask{}, false, nil
	}
	x.looked[f] = to
	rid, ok, err := s.r.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
	if err != nil {
		return ask{}, false, local("reading held record", err)
	}
	m := ask{Kind: askFeed, From: n, To: to, Of: slices.Concat(f.Epoch[:], []byte{byte(f.Lane)}, rid[:])}
	return m, ok && s.o.Turn.claim(s, &m), nil
}

// pickCompartment finds one of the profile that misses entries. A hub is asked for all
// of it, for then nothing is missing; others only for what is not here, so that boxes
// that miss the same do not send each other the rest whenever they meet.
func (s *Session) pickCompartment(head record.TreeHead) (ask, bool, error) {
	if s.part.mode != byProfile {
		return ask{}, false, nil
	}
	x := &s.part.fill
	list, err := s.part.p.Missing(missingMax)
	if err != nil {
		return ask{}, false, local("reading what is missing", err)
	}
	for _, c := range list {
		if x.lacks[c] {
			continue
		}
		m := ask{Kind: askCompartment, To: head.Size, Of: c[:]}
		if !s.hub {
			gap, ok, err := s.nextGap(c, head)
			if err != nil {
				return ask{}, false, err
			}
			if !ok {
				x.give(c)
				continue
			}
			m.From, m.To = gap.From, gap.To
		}
		if !s.o.Turn.claim(s, &m) {
			continue
		}
		if x.past == nil {
			x.past = map[record.CompartmentID]uint64{}
		}
		x.past[c] = m.To
		return m, true, nil
	}
	return ask{}, false, nil
}

// nextGap is where entries of a compartment may be that the peer was not asked for.
func (s *Session) nextGap(c record.CompartmentID, head record.TreeHead) (record.Hole, bool, error) {
	gaps, err := s.part.p.GapsOf(c, s.part.fill.past[c], 1)
	if err != nil {
		return record.Hole{}, false, local("reading what is missing of a compartment", err)
	}
	if len(gaps) == 0 || gaps[0].From >= head.Size {
		return record.Hole{}, false, nil
	}
	gaps[0].To = min(gaps[0].To, head.Size)
	return gaps[0], true, nil
}

// give notes that the peer has no more of a compartment.
func (x *fill) give(c record.CompartmentID) {
	if x.lacks == nil {
		x.lacks = map[record.CompartmentID]bool{}
	}
	x.lacks[c] = true
}

// pickRange finds the newest entries that are not here and that no other session
// asked for.
func (s *Session) pickRange(head record.TreeHead) (ask, bool, error) {
	x := &s.part.fill
	if s.part.mode == byProfile {
		return ask{}, false, nil
	}
	if x.below == 0 {
		x.below = head.Size
	}
	for range fillTries {
		holes, err := s.part.p.HolesBefore(x.below, 1)
		if err != nil {
			return ask{}, false, local("reading holes", err)
		}
		if len(holes) == 0 {
			if !x.got || len(x.under) > 0 {
				return ask{}, false, nil
			}
			x.below, x.got = head.Size, false // once more, for what others had asked for
			continue
		}
		h := holes[0]
		to := min(h.To, x.below)
		m := ask{Kind: askRange, From: max(h.From, (to-1)/fillEntries*fillEntries), To: to}
		if x.below = m.From; x.below == 0 {
			x.below = 1
		}
		if s.o.Turn.claim(s, &m) {
			return m, true, nil
		}
	}
	return ask{}, false, nil
}

// handleFill verifies and stores one frame of what was asked for.
func (s *Session) handleFill(ctx context.Context, b []byte) error {
	x := &s.part.fill
	if s.part.p == nil || len(x.under) == 0 {
		return misbehaved("entries for a hole that nobody asked for")
	}
	q := &x.under[0]
	size, n := binary.Uvarint(b)
	if n <= 0 || size != q.Size {
		return misbehaved("entries for a hole, of another tree")
	}
	left, b, err := readProof(b[n:], x.before)
	if err != nil {
		return err
	}
	right, b, err := readProof(b, x.before)
	if err != nil {
		return err
	}
	x.before = append(append([]record.Hash{}, left...), right...)
	from, to, err := record.SpanBounds(b)
	if err != nil {
		return misbehaved("%w", err)
	}
	if to > q.Size || q.Kind != askFeed && (from < q.at || to > q.To) || q.Kind == askRange && from != q.at {
		return misbehaved("entries %d to %d for a hole, asked for %d to %d", from, to, q.at, q.To)
	}
	span, err := record.ReadSpan(b, s.r.Holder().Held)
	if q.Kind == askFeed && errors.Is(err, record.ErrGap) {
		return nil // another session was quicker
	}
	if err != nil || len(span.Gaps) > 0 {
		return misbehaved("entries for a hole: %w", errOr(err, record.ErrMalformed))
	}
	for i := range span.Entries {
		if r := &span.Entries[i].Record; !q.meant(r) {
			return misbehaved("an entry that was not asked for")
		}
	}
	took, err := s.part.p.Fill(ctx, from, span.Entries, span.Openings, left, right, q.head)
	if err != nil {
		return s.replicaError(ctx, "filling a hole", err)
	}
	if q.at = to; x.only != nil {
		x.only.took += took
	}
	x.got = x.got || took > 0
	s.stats.received.Add(uint64(took))
	return nil
}

// meant reports whether a record is one that was asked for.
func (q *question) meant(r *record.Record) bool {
	switch q.Kind {
	case askCompartment:
		return r.Core.Compartment == q.compartment()
	case askFeed:
		f, _ := q.feed()
		p := r.Position()
		return p.Feed() == f && p.N >= q.From && p.N < q.To
	}
	return true
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// handleFilled takes the end of the oldest ask.
func (s *Session) handleFilled(ctx context.Context, b []byte) error {
	m, err := decodeFilled(b)
	if err != nil {
		return err
	}
	if m.Why == filledPartial {
		s.toldPartial()
		return nil
	}
	x := &s.part.fill
	if len(x.under) == 0 {
		return misbehaved("the end of an answer that nobody asked for")
	}
	q := x.under[0]
	x.under = x.under[1:]
	s.o.Turn.unclaim(s, &q.ask)
	s.dirty = true
	whole := q.From == 0 && q.To == q.Size
	if q.Kind == askCompartment && whole && m.Why == filledAll && s.hub {
		if err := s.part.p.HasAll(ctx, q.compartment(), q.Size); err != nil {
			return local("noting what came", err)
		}
	}
	switch {
	case x.only != nil:
		x.only.done, x.only.why = true, m.Why
	case q.Kind == askFeed:
	case q.Kind == askCompartment:
		if whole || m.Why != filledAll {
			x.give(q.compartment())
		}
	case m.Why != filledAll || q.at < q.To:
		x.refusals++
	}
	return nil
}
