package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

const (
	prefixLog      = 'l'
	prefixStable   = 'v'
	prefixSnapshot = 's'
	prefixMeta     = 'm'
)

const (
	recentItems = 32   // log items kept in memory for the replicators
	deleteRows  = 1000 // rows in one delete
)

// logStore is a raft.LogStore on a KV. An item that was stored stays until it is
// deleted or overwritten; items need not be contiguous, because a snapshot can
// put a gap between old items and new ones. It does not claim to be monotonic:
// the snapshot store has to write into the middle of it.
type logStore struct {
	kv KV

	writing sync.Mutex // held by who changes the log

	mu          sync.RWMutex // guards what follows; never held over a write
	first, last uint64       // 0 when empty
	recent      [recentItems]raft.Log
}

func openLogStore(kv KV) (*logStore, error) {
	s := &logStore{kv: kv}
	if err := s.readBounds(); err != nil {
		return nil, fmt.Errorf("opening raft log: %w", err)
	}
	return s, nil
}

func indexKey(prefix byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, index)
}

func keyIndex(key []byte) (uint64, error) {
	if len(key) < 9 {
		return 0, fmt.Errorf("key of %d bytes", len(key))
	}
	return binary.BigEndian.Uint64(key[1:9]), nil
}

// readBounds takes first and last from the rows.
func (s *logStore) readBounds() error {
	var first, last uint64
	for _, end := range []struct {
		read func([]byte) ([]byte, bool, error)
		into *uint64
	}{{s.kv.First, &first}, {s.kv.Last, &last}} {
		key, ok, err := end.read([]byte{prefixLog})
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if *end.into, err = keyIndex(key); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.first, s.last = first, last
	return nil
}

func (s *logStore) bounds() (first, last uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.first, s.last
}

// FirstIndex is the index of the first item, 0 for none.
func (s *logStore) FirstIndex() (uint64, error) {
	first, _ := s.bounds()
	return first, nil
}

// LastIndex is the index of the last item, 0 for none.
func (s *logStore) LastIndex() (uint64, error) {
	_, last := s.bounds()
	return last, nil
}

// lastCommand is the index of the newest item for the ledger up to an index, 0 when
// the log holds none. What a leader replaced meanwhile does not count.
func (s *logStore) lastCommand(upTo uint64) (uint64, error) {
	first, last := s.bounds()
	for i := min(upTo, last); i >= first && i > 0; i-- {
		var l raft.Log
		err := s.GetLog(i, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return 0, nil // dropped by a snapshot meanwhile
		}
		if err != nil || l.Type == raft.LogCommand {
			return i, err
		}
	}
	return 0, nil
}

// GetLog reads an item, or returns raft.ErrLogNotFound.
func (s *logStore) GetLog(index uint64, out *raft.Log) error {
	s.mu.RLock()
	l := s.recent[index%recentItems]
	s.mu.RUnlock()
	if l.Index == index && index != 0 {
		*out = l
		return nil
	}
	value, ok, err := s.kv.Get(indexKey(prefixLog, index))
	if err != nil {
		return fmt.Errorf("reading raft item %d: %w", index, err)
	}
	if !ok {
		return raft.ErrLogNotFound
	}
	return decodeLog(index, value, out)
}

// StoreLog stores one item.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs returns when all items are durable. It writes them in order, in as
// few updates as fit; after a crash a prefix of them is there, which is a valid
// log.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	for len(logs) > 0 {
		rows, n := takeRows(logs)
		if err := s.kv.Update(rows); err != nil {
			return fmt.Errorf("storing raft items from %d: %w", logs[0].Index, err)
		}
		s.remember(logs[:n])
		logs = logs[n:]
	}
	return nil
}

// takeRows encodes as many items as fit one update, at least one.
func takeRows(logs []*raft.Log) (rows []Row, n int) {
	bytes := 0
	for _, l := range logs {
		row := Row{Key: indexKey(prefixLog, l.Index), Value: encodeLog(l)}
		bytes += len(row.Key) + len(row.Value)
		if n > 0 && bytes > UpdateBytesMax {
			break
		}
		rows = append(rows, row)
		n++
	}
	return rows, n
}

func (s *logStore) remember(logs []*raft.Log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range logs {
		s.recent[l.Index%recentItems] = *l
		if s.first == 0 || l.Index < s.first {
			s.first = l.Index
		}
		s.last = max(s.last, l.Index)
	}
}

// DeleteRange deletes the items from lo to hi, both included. It works from the
// outer end inwards, so that what is left after a crash has no hole.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.delete(lo, hi); err != nil {
		return fmt.Errorf("deleting raft items %d to %d: %w", lo, hi, err)
	}
	return nil
}

// delete is DeleteRange for who holds writing.
func (s *logStore) delete(lo, hi uint64) error {
	first, last := s.bounds()
	lo, hi = max(lo, first), min(hi, last)
	tail := hi == last && lo != first
	for last != 0 && lo <= hi {
		from, to := lo, min(hi, lo+deleteRows-1)
		if tail {
			from, to = max(lo, hi-min(hi, deleteRows-1)), hi
		}
		if err := s.deleteRows(from, to); err != nil {
			return err
		}
		if err := s.readBounds(); err != nil {
			return err
		}
		if first, last = s.bounds(); tail { // there may be a gap
			hi = min(from-1, last)
		} else {
			lo = max(to+1, first)
		}
	}
	return nil
}

func (s *logStore) deleteRows(from, to uint64) error {
	rows := make([]Row, 0, to-from+1)
	for i := from; i <= to; i++ {
		rows = append(rows, Row{Key: indexKey(prefixLog, i)})
	}
	if err := s.kv.Update(rows); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.recent {
		if l := &s.recent[i]; from <= l.Index && l.Index <= to {
			*l = raft.Log{}
		}
	}
	return nil
}

// dropConflict makes room for a snapshot at index and term: if an item of
// another term stands at index, it and all after it are deleted. They came from
// a leader that lost its place before a majority had them, so they can never be
// ordered.
//
// Raft would keep them, and a follower compares the item before an append with
// its log before it looks at its snapshot. It would refuse every append after
// the snapshot and get the snapshot again, for ever. Raft also remembers its
// last item and cannot be told that it is gone: whoever drops items must start
// raft again.
func (s *logStore) dropConflict(index, term uint64) (dropped bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	var here raft.Log
	switch err := s.GetLog(index, &here); {
	case err == raft.ErrLogNotFound:
		return false, nil
	case err != nil:
		return false, err
	case here.Term == term:
		return false, nil
	}
	_, last := s.bounds()
	return true, s.delete(index, last)
}
