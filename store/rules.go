package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/healthpost/healthpost/record"
)

// RULES says by which ordering rules members and registry were computed last, and up
// to which size of the ledger: an earlier program orders entries of a kind that it does
// not know and computes nothing from them. What it left out is computed when a program
// that knows the kind opens the store. The file is a hint: without it more is looked at.
//
//  1. entries from that size on are looked through, all of them after other rules
//  2. where one has a kind that earlier programs did not know, members and registry are
//     computed anew from all entries   <- one transaction
//  3. the file is written, and again when the store is closed
const rulesFile = "RULES"

// followRules runs when the store has opened. A damaged entry or a full disk leave
// things as they are until the next time.
func (s *Store) followRules() error {
	size := s.Head().Size
	from := min(s.ruledUpTo(), size)
	late, err := s.lateKinds(from)
	if err == nil && late {
		err = s.judgeAnew()
	}
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrFull) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("computing members and registry anew: %w", err)
	}
	s.noteRules(size)
	return nil
}

// ruledUpTo is the size up to which today's rules computed members and registry.
func (s *Store) ruledUpTo() uint64 {
	b, err := os.ReadFile(filepath.Join(s.dir, rulesFile))
	if err != nil {
		return 0
	}
	var rules, size uint64
	if n, err := fmt.Sscanf(string(b), "rules %d\nsize %d\n", &rules, &size); err != nil || n != 2 || rules != record.Rules {
		return 0
	}
	return size
}

// noteRules writes the hint; without it the next start takes longer.
func (s *Store) noteRules(size uint64) {
	if size == 0 || s.ruledUpTo() == size {
		return
	}
	if err := writeFileSynced(s.dir, rulesFile, fmt.Appendf(nil, "rules %d\nsize %d\n", record.Rules, size)); err != nil {
		s.o.Log.Warn().Err(err).Msg("not noted by which rules the ledger was read")
	}
}

// lateKinds says whether an entry from that seq on has a kind that a program of an
// earlier release did not know.
func (s *Store) lateKinds(from uint64) (late bool, err error) {
	v, err := s.view()
	if err != nil {
		return false, err
	}
	defer v.close(s)
	err = v.scan([]byte{pEntry}, keySeq(pEntry, from), false, func(key, leaf []byte) (bool, error) {
		seq := binary.BigEndian.Uint64(key[1:])
		e, err := record.DecodeLeaf(seq, leaf)
		if err != nil {
			return false, damagedEntry(seq, err.Error())
		}
		late = e.Record.Core.Kind.Late()
		return !late, nil
	})
	return late, err
}

func (s *Store) judgeAnew() error {
	t, err := s.beginWith(s.guard)
	if err != nil {
		return err
	}
	if err := t.judgeAuthority(); err != nil {
		t.drop()
		return err
	}
	return t.commit()
}
