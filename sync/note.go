package peersync

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// originStart begins every note; what does not begin so is a short one.
const originStart = "healthpost/"

// nextNote passes on the newest checkpoint: to a hub, on a hub, the note with
// the own cosignature; to others, and to a hub that takes entries, the final one.
func (s *Session) nextNote() (Frame, bool, error) {
	if s.fetch.only {
		return Frame{}, false, nil
	}
	if s.o.Note != nil && s.hub {
		if note := s.o.Note(); sendable(note, s.notes.own) {
			s.notes.own = note
			return Frame{Type: TypeCheckpoint, Payload: note}, true, nil
		}
		if !s.serve.active {
			return Frame{}, false, nil
		}
	}
	note, head, ok := s.r.Final()
	if !ok || !sendable(note, s.notes.sent) || s.serve.active && s.serve.at < s.serve.target.Size {
		return Frame{}, false, nil
	}
	if forked := s.fork.on || s.fork.heard; forked && !s.mayProve() || !forked && !s.news(note, head) {
		return Frame{}, false, nil
	}
	if s.notes.held = s.notes.paced && !s.notes.due; s.notes.held {
		return Frame{}, false, nil
	}
	s.notes.sent, s.notes.head = note, head
	if s.theirs.Max >= protocolEvidence {
		note = s.short(note)
	}
	return Frame{Type: TypeCheckpoint, Payload: note}, true, nil
}

// news reports whether a final checkpoint tells the peer anything: a longer
// ledger, or, for the one that it has, a later time than any that was told here.
// Hubs sign a head again now and then, so that a box knows how old its view of the
// region is.
func (s *Session) news(note []byte, head record.TreeHead) bool {
	n := &s.notes
	if head.Size != s.theirSize || s.o.Final == nil || bytes.Equal(note, n.sent) || bytes.Equal(note, n.weighed) {
		return head.Size > s.theirSize
	}
	n.weighed = note
	cp, err := s.o.Final(note)
	if err != nil {
		return false
	}
	if told, err := s.o.Final(n.sent); err == nil {
		n.time = max(n.time, told.Time)
	}
	return cp.Time > n.time
}

func sendable(note, sent []byte) bool {
	return len(note) > 0 && len(note) <= noteBytesMax && !bytes.Equal(note, sent)
}

// short is a final note without what a peer that knows the same hubs writes again,
// or the note itself.
func (s *Session) short(note []byte) []byte {
	hubs := s.o.Hubs()
	if len(note) == 0 || len(hubs) == 0 {
		return note
	}
	return s.o.shorts.get(s.o.Ledger(), note, hubs)
}

// whole undoes short. claim is the head that the note speaks of, unverified.
func (s *Session) whole(b []byte) (note []byte, claim record.TreeHead, known bool, err error) {
	if strings.HasPrefix(string(b[:min(len(b), len(originStart))]), originStart) {
		claim, known = noteHead(b)
		return b, claim, known, nil
	}
	if claim, err = record.CompactHead(b); err != nil {
		return nil, claim, false, misbehaved("%w", err)
	}
	note, err = record.ExpandNote(s.o.Ledger(), b, s.o.Hubs())
	return note, claim, true, err
}

// handleNote takes a checkpoint. A hub's cosignature goes to the hub; elsewhere a
// final one becomes the target, and one that is not final yet is left alone.
func (s *Session) handleNote(b []byte) error {
	if s.fetch.only {
		return nil
	}
	if s.o.Checkpoint != nil && s.hub && !s.o.WantOrdered() {
		note, _, _, err := s.whole(b)
		if err == nil {
			err = s.o.Checkpoint(s.peer, note)
		}
		return s.noteError(err)
	}
	cp, ok, err := s.verify(b)
	if err != nil || !ok {
		return err
	}
	if cp.Head.Size < s.notes.seenSize {
		return misbehaved("checkpoint of size %d after one of size %d", cp.Head.Size, s.notes.seenSize)
	}
	s.notes.seenSize = cp.Head.Size
	return s.aimFor(cp)
}

// verify reads a note that should be final. ok is false when it is not for this
// box, which blames nobody.
func (s *Session) verify(b []byte) (cp record.Checkpoint, ok bool, err error) {
	if len(b) > noteBytesMax {
		return cp, false, misbehaved("checkpoint of %d bytes", len(b))
	}
	if s.o.Final == nil {
		return cp, false, nil
	}
	note, claim, known, err := s.whole(b)
	if err == nil {
		cp, err = s.o.Final(note)
	}
	if err == nil {
		cp.Note = note
		s.notes.time = max(s.notes.time, cp.Time)
		return cp, true, nil
	}
	if err = s.noteError(err); err == nil {
		err = s.unverified(claim, known)
	}
	return cp, false, err
}

func (s *Session) noteError(err error) error {
	switch {
	case err == nil:
		return nil
	case s.o.LocalFault(err):
		return local("keeping checkpoint", err)
	case errors.Is(err, ErrMisbehaved):
		return err
	case errors.Is(err, record.ErrMalformed):
		return misbehaved("%w", err)
	}
	return nil
}

// putFinal keeps a checkpoint whose head is in the ledger, unless confirmation is
// frozen.
func (s *Session) putFinal(head record.TreeHead, note []byte) error {
	if !s.o.WantOrdered() && !s.o.Role.Orders() {
		return nil
	}
	err := s.r.PutFinal(note, head)
	if err != nil && !errors.Is(err, record.ErrHole) { // who holds a part cannot tell; the next one reaches past the hole
		return local("keeping checkpoint", err)
	}
	return nil
}

// shorts keeps the newest note's short form, so that a hub with many clinics
// verifies it once. A nil one keeps nothing.
type shorts struct {
	mu          sync.Mutex // guards what follows
	ledger      record.LedgerID
	hubs        []record.DeviceID
	note, short []byte
}

func (c *shorts) get(l record.LedgerID, note []byte, hubs []record.DeviceID) []byte {
	if c == nil {
		return shorten(l, note, hubs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ledger != l || !bytes.Equal(c.note, note) || !slices.Equal(c.hubs, hubs) {
		c.ledger, c.note, c.hubs, c.short = l, note, slices.Clone(hubs), shorten(l, note, hubs)
	}
	return c.short
}

// shorten leaves a note alone that would not be final for a reader with these hubs.
func shorten(l record.LedgerID, note []byte, hubs []record.DeviceID) []byte {
	if _, err := record.VerifyFinal(l, note, hubs); err != nil {
		return note
	}
	short, err := record.CompactNote(l, note, hubs)
	if err != nil || len(short) >= len(note) {
		return note
	}
	return short
}
