package node

import (
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// ErrWithoutVotes: the region was made by the first release. Its ledger was ordered by
// rules without votes, under which one hub admitted others alone; boxes that compute
// members by the rules of today would come to other ones.
var ErrWithoutVotes = errors.New("this box's region was made by the first release of this program, and later ones cannot go on with it. Nothing is lost, and nothing was changed. " +
	"With the program of the first release: let 'healthpost status' come to no records that are saved here only, then write out each box with 'healthpost export'. " +
	"With this one: make a new region in new folders, and import there")

// checkVotes gives ErrWithoutVotes for such a box and leaves its folder as it is: the
// first release does not read a folder that a later one has opened.
func (b *Box) checkVotes(o store.Options) (err error) {
	dir := b.path(dbFolder)
	if _, member := b.RegionID(); !member {
		return nil
	}
	if counted, err := store.Counted(dir); err != nil || counted {
		return nil // opening it names the damage
	}
	o.Salvage = true
	s, err := store.Open(dir, o)
	if err != nil {
		return nil // as above
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return withoutVotes(s)
}

// withoutVotes: the entries left no registry rows, although the founding, which makes
// the first of them, is held.
func withoutVotes(s *store.Store) error {
	if s.Head().Size < 2 || s.Absent() > 0 {
		return nil
	}
	founded := false
	if err := s.ScanRegistry(nil, func(_, _ []byte) bool { founded = true; return false }); err != nil {
		return fmt.Errorf("reading the registry: %w", err)
	}
	if founded {
		return nil
	}
	if e, err := s.Entry(1); err != nil || e.Record.Core.Kind != record.KindRegionFound {
		return nil // damage, which a check names
	}
	return ErrWithoutVotes
}
