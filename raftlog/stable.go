package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
)

// errNotFound has the text that raft compares with.
var errNotFound = errors.New("not found")

// stableStore is a raft.StableStore on a KV: term and vote, durable on return.
type stableStore struct{ kv KV }

func stableKey(key []byte) []byte { return append([]byte{prefixStable}, key...) }

// Set stores a value.
func (s stableStore) Set(key, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	if err := s.kv.Update([]Row{{Key: stableKey(key), Value: value}}); err != nil {
		return fmt.Errorf("storing raft state: %w", err)
	}
	return nil
}

// Get reads a value; the text of the error for a missing one is "not found".
func (s stableStore) Get(key []byte) ([]byte, error) {
	value, ok, err := s.kv.Get(stableKey(key))
	if err != nil {
		return nil, fmt.Errorf("reading raft state: %w", err)
	}
	if !ok {
		return nil, errNotFound
	}
	return value, nil
}

// SetUint64 stores a number. One that is there already is durable: raft gives its
// term again at every start, which must work on a full disk.
func (s stableStore) SetUint64(key []byte, v uint64) error {
	if have, err := s.GetUint64(key); err == nil && have == v {
		return nil
	}
	return s.Set(key, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 reads a number; the error is as for Get.
func (s stableStore) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("reading raft state: number of %d bytes", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// parkingStable is the stable store of a running raft, which panics when its
// term cannot be stored. Instead the node is told, and the raft goroutine stays
// where it is until the node closes, and then ends.
type parkingStable struct {
	stableStore
	votes    *votes
	fail     func(error)
	released <-chan struct{}
}

func (s parkingStable) park(err error) {
	s.fail(err)
	<-s.released
	runtime.Goexit()
}

func (s parkingStable) Set(key, value []byte) error {
	if err := s.stableStore.Set(key, value); err != nil {
		s.park(err)
	}
	if bytes.Equal(key, keyVoteFor) { // raft stores the term of its vote before
		if term, err := s.GetUint64(keyVoteTerm); err == nil {
			s.votes.stored(term)
		}
	}
	return nil
}

func (s parkingStable) SetUint64(key []byte, v uint64) error {
	if err := s.stableStore.SetUint64(key, v); err != nil {
		s.park(err)
	}
	return nil
}
