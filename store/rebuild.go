package store

import (
	"context"
	"errors"
)

// RebuildReport says what became of a damaged store's data.
type RebuildReport struct {
	Size    uint64 // of the damaged ledger
	Entries uint64 // the sound ones at its beginning, kept as they were
	Again   int    // sound records behind the first gap, pending now
	Pending int    // records that were pending
	Refused int    // refusals
	Rows    int    // of others: projections, raft
	Damage  []DamageError
}

// Rebuild makes a new store in dst from what is sound in src, which is open for
// Salvage: the ledger up to its first damaged entry, every other record as
// pending, refusals, and the rows of others. It leaves dst closed.
func Rebuild(ctx context.Context, dst string, o Options, src *Store) (RebuildReport, error) {
	return RebuildReport{}, errors.ErrUnsupported
}
