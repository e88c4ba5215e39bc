package store

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/healthpost/healthpost/record"
)

// Rows that no record accounts for (projections, raft, acknowledgements, refusals,
// checkpoints) cannot be computed again from the ledger. One row counts them and
// adds up their hashes, in the same transaction, so that Verify finds one that was
// changed, added or deleted by anything but the store.

// rowCount counts rows and combines their hashes, independent of their order.
type rowCount struct{ n, xor uint64 }

func (c *rowCount) add(sealed []byte) { c.n, c.xor = c.n+1, c.xor^rowHash(sealed) }

func (c *rowCount) remove(sealed []byte) { c.n, c.xor = c.n-1, c.xor^rowHash(sealed) }

// rowHash is the hash at the end of a sealed row.
func rowHash(sealed []byte) uint64 {
	if len(sealed) < tagBytes {
		return 0
	}
	return binary.BigEndian.Uint64(sealed[len(sealed)-tagBytes:])
}

// Kinds of rows that are counted.
const (
	countProjection = iota
	countKV
	countAck
	countRefused
	countMeta
	countKinds
)

var countedRows = [countKinds]struct {
	prefix byte
	name   string
}{{pRow, "projection rows"}, {pKV, "raft rows"}, {pAck, "acknowledgements"}, {pRefused, "refusals"}, {pMeta, "checkpoints and own epochs"}}

// rowCounts is what the store holds of each kind. It is missing where somebody
// took its row away.
type rowCounts struct {
	missing bool
	kinds   [countKinds]rowCount
}

// countedAs is the kind of a row, or false when it is not counted: its content can
// be computed, or says nothing that could be wrong.
func countedAs(key string) (kind int, ok bool) {
	switch key[0] {
	case pRow:
		return countProjection, true
	case pKV:
		return countKV, true
	case pAck:
		return countAck, true
	case pRefused:
		return countRefused, true
	case pMeta:
		return countMeta, strings.HasPrefix(key, "mown") || key == string(keyFinal) || key == string(keyFloor) || key == string(keySigned) || key == string(keyRegion)
	}
	return 0, false
}

func (c *rowCounts) encode() []byte {
	b := make([]byte, 0, 16*countKinds)
	for _, k := range c.kinds {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, k.n), k.xor)
	}
	return b
}

func decodeRowCounts(b []byte) (c rowCounts, err error) {
	if len(b) != 16*countKinds {
		return c, record.ErrMalformed
	}
	for i := range c.kinds {
		c.kinds[i] = rowCount{binary.BigEndian.Uint64(b[16*i:]), binary.BigEndian.Uint64(b[16*i+8:])}
	}
	return c, nil
}

// count takes the transaction's counted rows into the counts.
func (t *tx) count() error {
	changed := false
	for key, row := range t.rows {
		kind, ok := countedAs(key)
		if !ok {
			continue
		}
		c := &t.next.counts.kinds[kind]
		old, err := t.view.sealed([]byte(key))
		if err != nil && !errors.Is(err, ErrDamaged) { // the counts keep what was lost
			return err
		}
		if old != nil {
			c.remove(old)
		}
		if row != nil {
			c.add(row)
		}
		changed = changed || old != nil || row != nil
	}
	if changed && !t.next.counts.missing {
		t.put(keyCounts, t.next.counts.encode())
	}
	return nil
}

// countRows counts what is there.
func (l lookup) countRows() (c rowCounts, err error) {
	for kind, x := range countedRows {
		err := l.rows.(*view).scanRaw([]byte{x.prefix}, nil, false, func(key, row []byte) (bool, error) {
			if _, ok := countedAs(string(key)); ok {
				c.kinds[kind].add(row)
			}
			return true, nil
		})
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// loadCounts reads the counts. A store that was made before there were any counts
// its rows now; in a newer one a missing row is damage that Verify names.
func (s *Store) loadCounts(l lookup) error {
	b, ok, err := l.get(keyCounts)
	if err == nil && ok {
		if l.st.counts, err = decodeRowCounts(b); err != nil {
			err = damagedRow(keyCounts, err.Error())
		}
	}
	if errors.Is(err, ErrDamaged) {
		l.st.counts.missing = true
		return nil
	}
	if err != nil || ok {
		return err
	}
	counted, err := l.countRows()
	if errors.Is(err, ErrDamaged) {
		counted.missing, err = true, nil
	}
	counted.missing = counted.missing || s.counted && counted != rowCounts{}
	l.st.counts = counted
	return err
}

// counted compares the counts with what is there.
func (v *verifier) counted(l lookup) error {
	if l.st.counts.missing {
		return v.note(damagedRow(keyCounts, "counts of rows are missing"))
	}
	have, err := l.countRows()
	if err != nil {
		return v.note(err)
	}
	for kind, c := range l.st.counts.kinds {
		if have.kinds[kind] == c {
			continue
		}
		what := "some were changed by something else than this program"
		if n := have.kinds[kind].n; n < c.n {
			what = "some are missing"
		} else if n > c.n {
			what = "there are more than this program wrote"
		}
		if err := v.note(&DamageError{Key: countedRows[kind].name, What: countedRows[kind].name + ": " + what}); err != nil {
			return err
		}
	}
	return nil
}
