package store

import (
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Places lists where the records of a feed from n on stand in the ledger, up to the
// first that has no entry here, before to, at most max. n 0 is the epoch's opening
// record.
func (s *Store) Places(f record.Feed, n, to uint64, max int) ([]uint64, error) {
	var out []uint64
	err := s.read(func(l lookup) error {
		for ; n < to && len(out) < max; n++ {
			seq, ok, err := l.seqAt(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
			if err != nil || !ok {
				return err
			}
			out = append(out, seq)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("finding a feed's entries: %w", err)
	}
	return out, nil
}
