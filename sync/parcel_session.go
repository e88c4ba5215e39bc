package peersync

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// tally counts what a parcel brought.
type tally struct {
	fresh, known, refused, waiting int // records; known, refused and waiting entries too
	entries                        int // new ones
	attachments                    int // that became whole

	head record.TreeHead // of the verified checkpoint that the ranges behind it lead to
}

// newParcelSession prepares a session whose peer speaks from a parcel. It answers
// nothing.
func newParcelSession(r Replica, from record.DeviceID, o Options) *Session {
	o.Turn, o.Receipt, o.Checkpoint, o.Note = nil, nil, nil, nil
	s := NewSession(r, from, o)
	s.helloSent, s.helloSeen = true, true
	s.theirs.Max = protocolMax // of the frames that the writer chose
	s.fetch.handover.ever = true
	return s
}

// handleParcel takes one frame. Of a writer that is no member, or none yet, only
// what proves itself is taken.
func (s *Session) handleParcel(ctx context.Context, f Frame, member bool) error {
	defer s.hush()
	switch f.Type {
	case TypeCheckpoint:
		return s.parcelNote(f.Payload)
	case TypeRange:
		return s.handleRange(ctx, f)
	case TypeEvidence:
		return s.handleEvidence(f.Payload)
	case TypeReset:
		return s.handleReset(f.Payload)
	case TypePromise:
		return s.handlePromise(f.Payload)
	case TypeHello, TypePending, TypeReject, TypeChunk, TypeHeld:
	default:
		return misbehaved("frame of type %#02x in a parcel", byte(f.Type))
	}
	if !member {
		if f.Type == TypePending {
			s.tally.waiting += runCount(f.Payload)
		}
		return nil
	}
	switch f.Type {
	case TypeHello:
		s.helloSeen = false
		defer func() { s.helloSeen = true }()
		return s.handleHello(ctx, f.Payload, 0)
	case TypeReject:
		return s.handleReject(f.Payload)
	case TypeChunk, TypeHeld:
		return s.parcelBlobs(ctx, f)
	}
	before := s.tally
	err := s.handlePending(ctx, f.Payload)
	if now := &s.tally; err == nil && now.fresh+now.known+now.refused+now.waiting == before.fresh+before.known+before.refused+before.waiting {
		now.waiting += runCount(f.Payload) // a gap before it
	}
	return err
}

// hush drops the answers that nobody hears.
func (s *Session) hush() {
	s.acks = acks{heads: map[record.Feed]ackHead{}, waiting: map[record.Feed]bool{}}
	s.push.rejects, s.push.restarts, s.push.heard = nil, 0, 0
	s.gossip.ask, s.gossip.send = nil, nil
	s.fetch.handover.due = false
}

func runCount(b []byte) int {
	_, _, n, err := record.RunHead(b)
	if err != nil {
		return 0
	}
	return int(n)
}

// count notes what Ingest did with a run.
func (t *tally) count(in Ingested, run int) {
	t.fresh += in.New
	t.known += in.Known
	for _, out := range in.Refused {
		if out.Verdict.Final() {
			t.refused++
			run--
		}
	}
	t.waiting += max(run-in.New-in.Known, 0)
}

// parcelNote takes the checkpoint that the ranges behind it lead to. It may lie
// before one that was read already: it is another step on the way.
func (s *Session) parcelNote(b []byte) error {
	f := &s.fetch
	f.target, f.note, f.dry, s.tally.head = record.TreeHead{}, nil, s.fork.on, record.TreeHead{}
	cp, ok, err := s.verify(b)
	if err != nil || !ok {
		return err
	}
	if err := s.aimFor(cp); err != nil || s.fork.on {
		return err
	}
	s.tally.head = cp.Head
	return nil
}

// handleRange extends the ledger by what it lacks of a range, or fills its holes.
func (s *Session) handleRange(ctx context.Context, f Frame) error {
	r, err := readRange(f)
	if err != nil {
		return err
	}
	var span record.Span
	if f.Flags&rangeFlagSpan != 0 {
		if s.part.p == nil {
			return misbehaved("a span for who holds every entry")
		}
		if span, err = record.ReadSpan(r.rest, s.r.Holder().Held); err != nil {
			return misbehaved("reading a span: %w", err)
		}
	} else {
		entries, err := readEntries(r.rest)
		if err != nil {
			return err
		}
		span = record.Span{From: entries[0].Seq, To: entries[0].Seq + uint64(len(entries)), Entries: entries}
	}
	return s.takeRange(ctx, &r, &span)
}

func (s *Session) takeRange(ctx context.Context, r *parcelRange, span *record.Span) error {
	t, f := &s.tally, &s.fetch
	for range rangeTriesMax {
		head := s.r.Head()
		n := len(span.Entries)
		switch {
		case span.To <= head.Size:
			return s.fillRange(ctx, r, span)
		case span.From > head.Size || span.From < head.Size && len(span.Gaps) > 0 || f.target.Size != r.target || f.dry || span.To > r.target || !s.o.WantOrdered():
			t.waiting += n
			return nil
		}
		known := min(int(head.Size-span.From), n)
		t.known += known
		span.Entries, span.From = span.Entries[known:], head.Size
		n = len(span.Entries)
		err := s.extendRange(ctx, r, span)
		switch {
		case err == nil:
			t.entries += n
			if s.behind() {
				return nil
			}
			return s.reached()
		case s.r.Head() == head:
			return s.rangeRefused(ctx, n, err)
		}
	}
	t.waiting += len(span.Entries)
	return nil
}

func (s *Session) extendRange(ctx context.Context, r *parcelRange, span *record.Span) error {
	if p := s.part.p; p != nil {
		holes, err := p.HolesBefore(maxSeq, 1)
		if err != nil {
			return local("reading holes", err)
		}
		if len(holes) > 0 || len(span.Gaps) > 0 || len(span.Openings) > 0 {
			return p.ExtendSpan(ctx, span, s.fetch.target, r.proof)
		}
	}
	return s.r.Extend(ctx, span.Entries, s.fetch.target, r.proof)
}

func (s *Session) rangeRefused(ctx context.Context, n int, err error) error {
	if errors.Is(err, ErrLocal) {
		return err
	}
	if err = s.replicaError(ctx, "extending the ledger", err); ctx.Err() == nil && !errors.Is(err, ErrLocal) {
		s.tally.refused += n - 1 // the frame counts as one
	}
	return err
}

// fillRange fills holes by entries that lie below the end of the ledger.
func (s *Session) fillRange(ctx context.Context, r *parcelRange, span *record.Span) error {
	t, n := &s.tally, len(span.Entries)
	holes, err := s.holesIn(span)
	if err != nil {
		return err
	}
	switch {
	case !holes:
		t.known += n
		return nil
	case t.head.Size != r.target || r.target > s.r.Head().Size || !s.o.WantOrdered():
		t.waiting += n
		return nil
	}
	fresh, err := s.part.p.Fill(ctx, span.From, span.Entries, span.Openings, r.left, r.right, t.head)
	if err != nil {
		return s.rangeRefused(ctx, n, err)
	}
	t.entries += fresh
	t.known += n - fresh
	return nil
}

// holesIn reports whether entries of a span are missing here that this box wants.
func (s *Session) holesIn(span *record.Span) (bool, error) {
	p := s.part.p
	if p == nil || s.o.Partial() || len(span.Gaps) > 0 {
		return false, nil
	}
	holes, err := p.HolesBefore(span.To, 1)
	if err != nil {
		return false, local("reading holes", err)
	}
	return len(holes) > 0 && holes[0].To > span.From, nil
}

// rangeTriesMax bounds how often a session that extends the ledger at the same time
// makes a range look again.
const rangeTriesMax = 8

// fitBytes cuts a run at about bytesMax; one record always fits.
func fitBytes(recs []record.Record, bytesMax int) []record.Record {
	size := 0
	for i := range recs {
		size += recordWireBytes + len(recs[i].Body)
		if i > 0 && (size > bytesMax || i == record.FrameRecordsMax) {
			return recs[:i]
		}
	}
	return recs
}

// appendSomeEntries is appendEntries, and how many there were room for.
func appendSomeEntries(dst []byte, entries []record.Entry, bytesMax int) ([]byte, int) {
	at := len(dst)
	dst = appendEntries(dst, entries, bytesMax)
	_, n := binary.Uvarint(dst[at:])
	count, _ := binary.Uvarint(dst[at+n:])
	return dst, int(count)
}
