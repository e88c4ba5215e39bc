package store

import (
	"context"
	"runtime"

	"github.com/dgraph-io/badger/v4"
)

// Index is the database under a store, for tests that edit it behind its back.
func (s *Store) Index() *badger.DB { return s.db }

// SealRow gives a row the hash that every row ends in.
func SealRow(key, value []byte) []byte { return sealRow(key, value) }

// Settle waits until the index holds everything that was written.
func (s *Store) Settle() error {
	err := s.Barrier(context.Background())
	for err == nil && len(s.accepted.Load().layers) > 0 {
		runtime.Gosched()
		err = s.Err()
	}
	return err
}
