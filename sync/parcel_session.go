package peersync

import (
	"context"
	"encoding/binary"

	"github.com/healthpost/healthpost/record"
)

// tally counts what a parcel brought.
type tally struct {
	fresh, known, refused, waiting int // records; known, refused and waiting entries too
	entries                        int // new ones
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
		return s.handleRange(ctx, f.Payload)
	case TypeEvidence:
		return s.handleEvidence(f.Payload)
	case TypeReset:
		return s.handleReset(f.Payload)
	case TypePromise:
		return s.handlePromise(f.Payload)
	case TypeHello, TypePending, TypeReject:
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
	f.target, f.note, f.dry = record.TreeHead{}, nil, s.fork.on
	cp, ok, err := s.verify(b)
	if err != nil || !ok {
		return err
	}
	return s.aimFor(cp)
}

// handleRange extends the ledger by what it lacks of a range.
func (s *Session) handleRange(ctx context.Context, b []byte) error {
	target, proof, entries, err := readRange(b)
	if err != nil {
		return err
	}
	t, f := &s.tally, &s.fetch
	for range rangeTriesMax {
		head := s.r.Head()
		start, end := entries[0].Seq, entries[0].Seq+uint64(len(entries))
		switch {
		case end <= head.Size:
			t.known += len(entries)
			return nil
		case start > head.Size || f.target.Size != target || f.dry || end > target || !s.o.WantOrdered():
			t.waiting += len(entries)
			return nil
		}
		t.known += int(head.Size - start)
		entries = entries[head.Size-start:]
		err := s.r.Extend(ctx, entries, f.target, proof)
		switch {
		case err == nil:
			t.entries += len(entries)
			if s.behind() {
				return nil
			}
			return s.reached()
		case s.r.Head() == head:
			if err = s.replicaError(ctx, "extending the ledger", err); err != nil && ctx.Err() == nil && !s.o.LocalFault(err) {
				t.refused += len(entries) - 1 // the frame counts as one
			}
			return err
		}
	}
	t.waiting += len(entries)
	return nil
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
