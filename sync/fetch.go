package peersync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// fetch is the ordered range that this side takes from the peer.
type fetch struct {
	only   bool            // the session is for one trusted head
	target record.TreeHead // trusted: from a verified checkpoint, or given
	note   []byte          // of target

	active bool // the peer streams, or was asked to
	asking bool // a pull went out and its first segment has not come
	ask    bool // a pull is due
	full   bool // the last pull asked for every record
	stop   bool // a pull that stops the peer is due
	before []record.Hash

	wanted   bool // what Options said of entries last
	asked    bool // this box asked for entries in this session
	follows  bool // the peer was asked to go on as checkpoints come; it may have become a hub since
	dry      bool // the peer sends none, until a new checkpoint comes
	handover handover

	impatient bool   // another session has the turn and nothing came of it
	waits     int    // times that it had the turn and did not move
	moves     uint64 // of the turn, when that was counted last
}

// behind reports whether entries are missing up to a verified checkpoint.
func (s *Session) behind() bool {
	return !s.fetch.dry && !s.deaf() && s.fetch.target.Size > s.r.Head().Size
}

// aimFor takes a verified final checkpoint: into the own ledger where it reaches
// so far, else as what to fetch.
func (s *Session) aimFor(cp record.Checkpoint) error {
	f := &s.fetch
	s.theirSize = max(s.theirSize, cp.Head.Size) // whoever passes a final checkpoint on holds its entries
	s.stats.size.Store(s.theirSize)
	if err := s.checkFinal(cp.Head, cp.Note); err != nil {
		return err
	}
	if cp.Head.Size <= s.r.Head().Size {
		if s.fork.on {
			return nil
		}
		return s.putFinal(cp.Head, cp.Note)
	}
	if s.o.WantOrdered() && cp.Head.Size > f.target.Size {
		f.target, f.note, f.dry = cp.Head, cp.Note, s.fork.on
		s.stats.target.Store(cp.Head.Size)
		if f.active {
			s.o.Turn.take(s, false) // no longer at rest
		}
	}
	return nil
}

// overtaken looks at the target again when another session brought the ledger
// past it: two final checkpoints that contradict each other show there.
func (s *Session) overtaken() error {
	f := &s.fetch
	if f.only || f.note == nil || f.target.Size > s.r.Head().Size {
		return nil
	}
	note := f.note
	f.note = nil
	if err := s.checkFinal(f.target, note); err != nil || s.fork.on {
		return err
	}
	return s.putFinal(f.target, note)
}

// refreshWant follows what Options say of entries: a box that freezes stops the
// stream, and asks where it stands when it thaws.
func (s *Session) refreshWant() {
	f := &s.fetch
	want := s.o.WantOrdered()
	if f.only || want == f.wanted {
		return
	}
	f.wanted = want
	if want {
		f.dry = s.fork.on
		if s.theirSize > s.r.Head().Size && !s.behind() {
			s.askHandover()
		}
		return
	}
	f.stop = f.active
	f.target, f.note = record.TreeHead{}, nil
	s.halt()
}

// nextPull asks for the range when entries are missing and nobody sends them.
func (s *Session) nextPull() (Frame, bool, error) {
	if s.span != nil {
		return s.nextSpan()
	}
	f := &s.fetch
	m := pull{From: s.r.Head().Size}
	switch {
	case f.only:
		if f.asking || f.active && !f.ask || !s.behind() {
			return Frame{}, false, nil
		}
		m.To = f.target.Size
	case f.handover.due && s.question(&m):
		f.asked = true
	case f.stop:
		f.stop, f.active, f.asking = false, false, false
		s.o.Turn.drop(s)
		m.Flags = pullStop
	case !s.behind() || f.asking || f.active && !f.ask:
		return Frame{}, false, nil
	case !s.takeTurn():
		return Frame{}, false, nil
	}
	if m.Flags == 0 {
		if err := s.lookMode(); err != nil { // how far it is, is known only now
			return Frame{}, false, err
		}
		f.active, f.asking, f.ask, f.asked = true, true, false, true
		if f.follows = s.hub && !f.only; f.follows {
			m.Flags |= pullFollow
		}
		if f.full {
			m.Flags |= pullFull
		}
		if s.part.mode != segments {
			return s.askSpans(m.From)
		}
	}
	out, err := encode(TypePull, m)
	return out, err == nil, err
}

func (s *Session) takeTurn() bool {
	f := &s.fetch
	return s.o.Turn.take(s, f.impatient) || f.waits >= turnWaitsMax && s.o.Turn.seize(s)
}

// turnWaitsMax is how often insist is called before a session that has the turn
// and does not move loses it.
const turnWaitsMax = 10

// waitsForTurn reports whether entries are missing that another session is to
// fetch. When that lasts, insist lets this one fetch them.
func (s *Session) waitsForTurn() bool {
	f := &s.fetch
	return s.helloSeen && !f.only && !f.active && (s.behind() || f.handover.due)
}

func (s *Session) insist() {
	f := &s.fetch
	f.impatient = s.waitsForTurn()
	if moves := s.o.Turn.moved(); !f.impatient || moves != f.moves {
		f.waits, f.moves = 0, moves
	}
	f.waits++
	s.Changed()
}

// again asks once more from what the ledger holds now.
func (s *Session) again(full bool) error {
	s.fetch.ask, s.fetch.asking = true, false
	s.fetch.full = s.fetch.full || full
	return nil
}

// handleSegment verifies and appends one frame of entries. Entries that this
// replica has by now are passed over.
func (s *Session) handleSegment(ctx context.Context, p []byte) error {
	f := &s.fetch
	proof, segment, err := readProof(p, f.before)
	if err != nil {
		return err
	}
	f.before = proof
	start, count, err := segmentSpan(segment)
	if err != nil {
		return err
	}
	ready, err := s.readyFor(start, start+count)
	if err != nil || !ready {
		return err
	}
	return s.extend(ctx, s.r.Head(), segment, proof)
}

// readyFor reports whether entries from start to end continue this ledger; those
// that were under way when something changed are passed over.
func (s *Session) readyFor(start, end uint64) (bool, error) {
	f, head := &s.fetch, s.r.Head()
	if !f.active || f.stop || f.handover.due || f.handover.open {
		if !f.asked && !f.only {
			return false, misbehaved("entries that nobody asked for")
		}
		return false, nil // under way when the stream was stopped
	}
	switch {
	case f.target.Size == 0 || end <= head.Size:
		return false, nil
	case start != head.Size && (f.asking || f.ask):
		return false, nil // sent before the pull arrived there
	case start < head.Size:
		return false, s.again(f.full) // another session was quicker
	case start > head.Size:
		return false, misbehaved("entries from %d, the ledger ends at %d", start, head.Size)
	case end > f.target.Size:
		return false, misbehaved("entries past the checkpoint")
	}
	return true, nil
}

// segmentSpan reads where a segment starts and how long it is.
func segmentSpan(b []byte) (start, count uint64, err error) {
	start, n := binary.Uvarint(b)
	if n > 0 {
		var m int
		if count, m = binary.Uvarint(b[n:]); m > 0 && start < 1<<62 && count > 0 && count <= record.FrameRecordsMax {
			return start, count, nil
		}
	}
	return 0, 0, misbehaved("segment without start and count")
}

func (s *Session) extend(ctx context.Context, head record.TreeHead, segment []byte, proof []record.Hash) error {
	_, entries, err := record.ReadSegment(segment, s.r.Holder())
	if err != nil {
		return s.extendError(ctx, head, err, errors.Is(err, record.ErrGap))
	}
	if err := s.r.Extend(ctx, entries, s.fetch.target, proof); err != nil {
		named, readErr := s.holdsAny(entries)
		if readErr != nil {
			return readErr
		}
		return s.extendError(ctx, head, err, named)
	}
	return s.extended(len(entries))
}

// extended counts what was appended.
func (s *Session) extended(entries int) error {
	f := &s.fetch
	f.asking, f.ask, f.full, f.impatient = false, false, false, false
	s.o.Turn.step()
	s.stats.received.Add(uint64(entries))
	if s.behind() {
		return nil
	}
	return s.reached()
}

// holdsAny reports whether a record of the entries is pending here, so that the
// peer may have named it instead of sending it.
func (s *Session) holdsAny(entries []record.Entry) (bool, error) {
	h := s.r.Holder()
	for i := range entries {
		if _, ok, err := h.Held(entries[i].Record.Position()); err != nil {
			return false, local("reading held record", err)
		} else if ok {
			return true, nil
		}
	}
	return false, nil
}

// extendError ends the session, or asks again when this box was quicker than
// itself, or when a record that was named as known may differ here.
func (s *Session) extendError(ctx context.Context, head record.TreeHead, err error, named bool) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.o.LocalFault(err):
		return local("extending the ledger", err)
	case s.r.Head() != head:
		return s.again(s.fetch.full) // another session extended it meanwhile
	case named && !s.fetch.full:
		return s.again(true)
	}
	return misbehaved("extending the ledger: %w", err)
}

// reached is called when the ledger has come up to the target.
func (s *Session) reached() error {
	f := &s.fetch
	if f.only {
		return nil
	}
	head := s.r.Head()
	if head.Size == f.target.Size && head.Root != f.target.Root {
		return local("extending the ledger", fmt.Errorf("size %d has another root than its checkpoint", head.Size))
	}
	if err := s.putFinal(f.target, f.note); err != nil {
		return err
	}
	f.note = nil
	if f.follows {
		s.o.Turn.rest(s)
		return nil
	}
	f.active = false
	s.o.Turn.drop(s)
	return nil
}
