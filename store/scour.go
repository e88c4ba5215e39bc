package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// What is erased leaves the rows at once and the files later: the journal keeps
// frames, and the index old values, until they are overwritten. Scour clears both:
//
//  1. the index is closed, which writes its memtable out, and checkpointed
//  2. the journal goes on in a new file, all others are removed
//  3. the newest tables are merged, which drops the values that are not the last
//  4. in the background of everything else: the tables of all levels are merged
//  5. a row notes up to which erasure that was done
//
// A process that dies in between does it again. Removed files are not overwritten,
// and flash keeps what it was told to forget: that nobody has the key is what holds.

// LastErasure is one past the newest erasure, 0 for none.
func (s *Store) LastErasure() uint64 {
	if e := s.shown.Load().state.erased; e != nil {
		return e.last
	}
	return 0
}

// ErasuresDue is one past the newest erasure of which the files still may hold
// something; 0 for none.
func (s *Store) ErasuresDue() uint64 {
	if e := s.shown.Load().state.erased; e != nil && e.last > e.scoured {
		return e.last
	}
	return 0
}

// Scour clears the files of bodies that are erased, if there are any, and notes it,
// durable on return. ErrFull while there is no room for it.
func (s *Store) Scour(ctx context.Context) error {
	due := s.ErasuresDue()
	if due == 0 {
		return nil
	}
	if err := s.scour(ctx); err != nil {
		return fmt.Errorf("clearing the files of what is erased: %w", err)
	}
	t, err := s.begin(ctx)
	if err == nil {
		e := *t.next.erased
		e.scoured = max(e.scoured, due)
		t.next.erased = &e
		t.put(keyScoured, binary.BigEndian.AppendUint64(nil, e.scoured))
		err = t.commit()
	}
	if err != nil {
		return fmt.Errorf("noting what was cleared: %w", err)
	}
	return nil
}

func (s *Store) scour(ctx context.Context) error {
	if free, err := s.Free(); err != nil || free < 3*s.memTable+openBytes {
		return errors.Join(err, ErrFull)
	}
	done := make(chan error, 1)
	s.qmu.Lock()
	if s.draining || s.rest {
		s.qmu.Unlock()
		return errors.Join(s.Err(), ErrFull)
	}
	s.scouring = append(s.scouring, done)
	s.flushLazy = true
	s.qmu.Unlock()
	s.wakeCommitter()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-s.committed:
		return errors.Join(s.Err(), ErrClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.gate.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	return s.db.Flatten(1)
}

// scourWaiting is what the committer does for Scour, with nothing queued.
func (s *Store) scourWaiting() error {
	s.qmu.Lock()
	waiting := s.scouring
	s.scouring = nil
	s.qmu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	err := s.endCheckpoint()
	if err == nil {
		err = s.gate.exclusive(s.scourIndex)
	}
	for _, done := range waiting {
		done <- err
	}
	return err
}

func (s *Store) scourIndex() error {
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("closing index: %w", err)
	}
	if err := s.writeCheckpoint(s.journal.Stats().SyncedLast, false); err != nil {
		return err
	}
	if err := s.journal.Scour(); err != nil {
		return err
	}
	db, err := badger.Open(badgerOptions(s.indexPath(), s.memTable, s.o.Log).WithNumCompactors(0).WithNumLevelZeroTablesStall(1 << 10).WithCompactL0OnClose(true))
	if err != nil {
		return fmt.Errorf("opening index: %w", err)
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("closing index: %w", err)
	}
	s.applied = 0
	if err := s.openIndex(); err != nil {
		return err
	}
	return s.makeReserve()
}
