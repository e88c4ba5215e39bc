package store

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// layer is the effect of one accepted transaction until the index holds it.
type layer struct {
	rows  map[string][]byte // sealed rows; nil deletes
	keys  []string          // of rows, sorted
	bytes int
	state *state // after it

	durable bool          // somebody waits for the disk
	visible chan struct{} // closed when readers see it
	done    chan struct{} // closed when it is durable or failed; err is set before
	err     error
	synced  bool // its frame is durable; guarded by Store.qmu
	shown   bool // readers see it; guarded by Store.qmu
}

// shown is what readers see: an index snapshot plus these layers, oldest first.
type shown struct {
	layers []*layer
	state  *state
}

// view is a consistent snapshot. Close it.
type view struct {
	txn    *badger.Txn
	layers []*layer
	state  *state
}

// view opens a snapshot of what is visible. A layer leaves the list only after
// the index holds it, so a snapshot between two equal reads of the list is whole.
func (s *Store) view() (*view, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	for {
		sh := s.shown.Load()
		txn := s.db.NewTransaction(false)
		if s.shown.Load() == sh {
			return &view{txn: txn, layers: sh.layers, state: sh.state}, nil
		}
		txn.Discard()
	}
}

// close ends a view made by Store.view.
func (v *view) close(s *Store) {
	v.txn.Discard()
	s.gate.leave()
}

// get gives the value of a row; ok false when there is none. The bytes belong to
// the caller as long as it does not change them.
func (v *view) get(key []byte) (value []byte, ok bool, err error) {
	for i := len(v.layers) - 1; i >= 0; i-- {
		if row, ok := v.layers[i].rows[string(key)]; ok {
			if row == nil {
				return nil, false, nil
			}
			value, err := openRow(key, row)
			return value, err == nil, err
		}
	}
	return getIndexed(v.txn, key)
}

// sealed gives a row as it is stored, nil when there is none.
func (v *view) sealed(key []byte) (row []byte, err error) {
	for i := len(v.layers) - 1; i >= 0; i-- {
		if row, ok := v.layers[i].rows[string(key)]; ok {
			return row, nil
		}
	}
	defer catch(key, &err)
	item, err := v.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err == nil {
		row, err = item.ValueCopy(nil)
	}
	if err != nil {
		return nil, readError(key, err)
	}
	return row, nil
}

func getIndexed(txn *badger.Txn, key []byte) (value []byte, ok bool, err error) {
	defer catch(key, &err)
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, readError(key, err)
	}
	row, err := item.ValueCopy(nil)
	if err != nil {
		return nil, false, readError(key, err)
	}
	value, err = openRow(key, row)
	return value, err == nil, err
}

// readError turns what the index says about a row into damage of that row.
func readError(key []byte, err error) error {
	if errors.Is(err, badger.ErrDBClosed) {
		return ErrClosed
	}
	return fmt.Errorf("reading row: %w: %w", damagedRow(key, "index block does not verify"), err)
}

// catch makes damage of a panic inside the index: its block reader indexes into
// bytes from the disk.
func catch(key []byte, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("reading row: %w: index: %v", damagedRow(key, "index block cannot be read"), p)
	}
}

// has is get without the value.
func (v *view) has(key []byte) (bool, error) {
	_, ok, err := v.get(key)
	return ok, err
}

// scan calls f for the rows with a prefix in order of their keys, starting at
// from (a whole key; nil is the first), until f returns false. Backwards it
// starts at the last one at or before from. Key and value are f's to keep.
func (v *view) scan(prefix, from []byte, backwards bool, f func(key, value []byte) (bool, error)) error {
	return v.scanRaw(prefix, from, backwards, func(key, row []byte) (bool, error) {
		value, err := openRow(key, row)
		if err != nil {
			return false, err
		}
		return f(key, value)
	})
}

// scanRaw is scan with rows as they are stored.
func (v *view) scanRaw(prefix, from []byte, backwards bool, f func(key, row []byte) (bool, error)) (err error) {
	defer catch(prefix, &err)
	over := v.overlay(prefix, from, backwards)
	o := badger.DefaultIteratorOptions
	o.Prefix, o.Reverse, o.PrefetchValues = prefix, backwards, false
	it := v.txn.NewIterator(o)
	defer it.Close()
	seek := from
	if seek == nil {
		seek = prefix
		if backwards {
			seek = append(append([]byte{}, prefix...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		}
	}
	it.Seek(seek)
	for {
		useOver, more := pick(it, over, prefix, backwards)
		if !more {
			return nil
		}
		var key, row []byte
		if useOver {
			key, row = []byte(over[0].key), over[0].row
			if it.ValidForPrefix(prefix) && string(it.Item().Key()) == over[0].key {
				it.Next()
			}
			over = over[1:]
			if row == nil {
				continue
			}
		} else {
			key = it.Item().KeyCopy(nil)
			if row, err = it.Item().ValueCopy(nil); err != nil {
				return readError(key, err)
			}
			it.Next()
		}
		if more, err := f(key, row); err != nil || !more {
			return err
		}
	}
}

// pick says which source has the next key.
func pick(it *badger.Iterator, over []overRow, prefix []byte, backwards bool) (useOver, more bool) {
	valid := it.ValidForPrefix(prefix)
	switch {
	case len(over) == 0:
		return false, valid
	case !valid:
		return true, true
	}
	c := strings.Compare(over[0].key, string(it.Item().Key()))
	if backwards {
		c = -c
	}
	return c <= 0, true
}

type overRow struct {
	key string
	row []byte
}

// overlay gathers the rows of the layers under a prefix, the newest of each key.
func (v *view) overlay(prefix, from []byte, backwards bool) []overRow {
	newest := map[string][]byte{}
	p := string(prefix)
	for _, l := range v.layers {
		for i := sort.SearchStrings(l.keys, p); i < len(l.keys) && strings.HasPrefix(l.keys[i], p); i++ {
			newest[l.keys[i]] = l.rows[l.keys[i]]
		}
	}
	over := make([]overRow, 0, len(newest))
	for k, row := range newest {
		if from != nil && (!backwards && k < string(from) || backwards && k > string(from)) {
			continue
		}
		over = append(over, overRow{k, row})
	}
	sort.Slice(over, func(a, b int) bool { return (over[a].key < over[b].key) != backwards })
	return over
}
