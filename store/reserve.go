package store

import (
	"errors"
	"fmt"
	"syscall"
)

// Nothing is shown before it is noted who looked, and a note is a write: without
// more a full disk would close every chart. So while the index rests, what such
// notes need is written ahead: the rest of a journal segment, and the memtable log,
// of which half may be used. Neither asks the disk for room any more, whatever other
// programs do to it. About four thousand looks find place.

// makeReserve writes ahead when the index has just been opened to rest.
func (s *Store) makeReserve() error {
	s.reserve.Store(0)
	if !s.resting || s.o.Salvage {
		return nil
	}
	free, err := freeBytes(s.dir)
	if err != nil || free < s.o.SegmentBytes+2*s.memTable+openBytes {
		return err
	}
	if err := s.reserveLogs(); err != nil {
		if errors.Is(err, syscall.ENOSPC) { // another program was quicker
			return nil
		}
		return err
	}
	if err := s.journal.Reserve(); err != nil {
		return err
	}
	s.countReserve()
	return nil
}

// countReserve says how much of what was written ahead is left.
func (s *Store) countReserve() {
	left := min(s.journal.Room(), s.memTable/2-s.applied)
	if !s.resting {
		left = 0
	}
	s.reserve.Store(max(0, left))
}

// worn says that a good part of the reserve went to ordinary writes.
func (s *Store) worn() bool { return s.applied > s.memTable/4 }

// frameBytesMax is what a frame with one small transaction takes at most beyond
// its rows: its head, lengths, and the end of its last page.
const frameBytesMax = 4 << 10

// takeReserve is guard for rows that the reserve is for.
func (s *Store) takeReserve(rows []Row) error {
	err := s.guard()
	if !errors.Is(err, ErrFull) {
		return err
	}
	need := int64(frameBytesMax)
	for _, r := range rows {
		need += int64(len(r.Key) + len(r.Value))
	}
	if s.reserve.Add(-need) < 0 {
		return fmt.Errorf("%w and nothing is left of what was set aside", err)
	}
	return nil
}
