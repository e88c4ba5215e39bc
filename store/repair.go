package store

import (
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// Repair takes entries of this ledger from a peer again and rewrites the rows that
// are damaged here: leaf, body and the indexes that find the entry. Each entry
// must have the leaf hash that the tree held here says; where the tree's own tiles
// are damaged, the entries together with what is sound must make the hash above
// come out right. ErrRefused otherwise, and nothing changed. fixed counts rows.
func (s *Store) Repair(ctx context.Context, entries []record.Entry) (fixed int, err error) {
	return 0, errors.ErrUnsupported
}

// DropStray puts right what can be computed from entries and pending records:
// rows that none of them accounts for go, those that differ are written again.
// Damaged entries and bodies are Repair's. fixed counts rows.
func (s *Store) DropStray(ctx context.Context) (fixed int, err error) {
	return 0, errors.ErrUnsupported
}
