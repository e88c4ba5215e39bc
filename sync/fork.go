package peersync

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// fork is what becomes of a session whose two ledgers contradict each other:
// evidence and pending records go on, since nothing that staff wrote may wait
// because hubs lie; entries do not.
type fork struct {
	on    bool
	heard bool // the peer says so

	note  []byte // final one of the peer that the own ledger contradicts, newest
	own   []byte // final one here when Options were told last
	calls int    // contradictions handed to Options
	sent  int    // final checkpoints sent since
}

const (
	contradictionsMax = 16
	forkNotesMax      = 64
)

// checkRoot compares a head with the own ledger where it reaches that far.
func (s *Session) checkRoot(h record.TreeHead) error {
	if h.Size > s.r.Head().Size {
		return nil
	}
	root, err := s.r.RootAt(h.Size)
	if errors.Is(err, record.ErrHole) {
		return nil // who holds a part cannot tell
	}
	if err != nil {
		return local("reading root", err)
	}
	if root != h.Root {
		return fmt.Errorf("two roots for size %d: %w", h.Size, ErrFork)
	}
	return nil
}

// checkHead compares what the peer says its ledger is; nobody else vouches for it.
func (s *Session) checkHead(h record.TreeHead) error {
	err := s.checkRoot(h)
	if !errors.Is(err, ErrFork) || s.o.Contradiction == nil {
		return err
	}
	s.diverge()
	return nil
}

// checkFinal compares a verified final checkpoint with the own ledger. A
// contradiction is told to Options and to the peer.
func (s *Session) checkFinal(h record.TreeHead, note []byte) error {
	err := s.checkRoot(h)
	if !errors.Is(err, ErrFork) || s.o.Contradiction == nil {
		return err
	}
	s.diverge()
	s.fork.note, s.fork.own = note, nil
	s.contradict()
	return nil
}

// contradict has Options make evidence of the peer's note, and again when there is
// another final checkpoint here that may prove more.
func (s *Session) contradict() {
	f := &s.fork
	own, _, _ := s.r.Final()
	if f.note == nil || f.calls >= contradictionsMax || f.own != nil && (s.proven() || bytes.Equal(own, f.own)) {
		return
	}
	f.calls++
	if f.own = own; own == nil {
		f.own = []byte{}
	}
	s.tell(s.o.Contradiction(s.peer, f.note))
}

// diverge ends the exchange of entries for the rest of the session.
func (s *Session) diverge() {
	if s.fork.on {
		return
	}
	s.fork.on, s.dirty = true, true
	if s.serve.active {
		s.serve.active = false
		s.refuse()
	}
	s.fetch.stop = s.fetch.active
	s.halt()
}

// proven reports whether either side gave the other evidence in this session.
func (s *Session) proven() bool { return len(s.gossip.gave) > 0 || s.gossip.taken > 0 }

// mayProve reports whether the own final checkpoint, be it shorter than the peer's
// ledger, is worth sending to a peer whose ledger is another: a few, until there
// is a proof.
func (s *Session) mayProve() bool {
	if s.proven() || s.fork.sent >= forkNotesMax {
		return false
	}
	s.fork.sent++
	return true
}
