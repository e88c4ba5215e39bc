package peersync

import (
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// fork is what becomes of a session whose two ledgers contradict each other:
// evidence and pending records go on, since nothing that staff wrote may wait
// because hubs lie; entries do not.
type fork struct {
	on    bool
	notes int  // contradictions handed to Options
	told  bool // the own final checkpoint was sent since
	heard bool // the peer says so
}

const contradictionsMax = 8

// checkRoot compares a head with the own ledger where it reaches that far.
func (s *Session) checkRoot(h record.TreeHead) error {
	if h.Size > s.r.Head().Size {
		return nil
	}
	root, err := s.r.RootAt(h.Size)
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
	if s.fork.notes++; s.fork.notes <= contradictionsMax {
		s.tell(s.o.Contradiction(s.peer, note))
	}
	return nil
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
