package store

import (
	"context"
	"fmt"
)

const (
	rowKeyBytesMax   = 1 << 10
	rowValueBytesMax = 1000 << 10
)

func checkRow(r *Row) error {
	if len(r.Key) == 0 || len(r.Key) > rowKeyBytesMax || len(r.Value) > rowValueBytesMax {
		return fmt.Errorf("%w: row with a key of %d and a value of %d bytes", ErrRefused, len(r.Key), len(r.Value))
	}
	return nil
}

func (t *tx) putUnder(prefix []byte, rows []Row) error {
	for i := range rows {
		if err := checkRow(&rows[i]); err != nil {
			return err
		}
		key := append(prefix[:len(prefix):len(prefix)], rows[i].Key...)
		if rows[i].Value == nil {
			t.unset(key)
		} else {
			t.put(key, rows[i].Value)
		}
	}
	return nil
}

func (t *tx) putRows(rows []Row) error { return t.putUnder([]byte{pRow}, rows) }

// write ends a transaction of opaque rows under a prefix with end.
func (s *Store) write(ctx context.Context, prefix []byte, rows []Row, end func(*tx) error) error {
	if len(rows) == 0 {
		return nil
	}
	t, err := s.begin(ctx)
	if err == nil {
		err = t.write(prefix, rows, end)
	}
	if err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return nil
}

func (t *tx) write(prefix []byte, rows []Row, end func(*tx) error) error {
	if err := t.putUnder(prefix, rows); err != nil {
		t.drop()
		return err
	}
	return end(t)
}

// PutRows writes projection rows, all or none, durable on return.
func (s *Store) PutRows(ctx context.Context, rows []Row) error {
	return s.write(ctx, []byte{pRow}, rows, (*tx).commit)
}

// PutRowsReserved is PutRows for rows without which nothing may be shown: while
// the disk is full it takes room that was set aside for them, and is ErrFull when
// that is used up.
func (s *Store) PutRowsReserved(ctx context.Context, rows []Row) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	t, err := s.beginWith(func() error { return s.takeReserve(rows) })
	if err == nil {
		err = t.write([]byte{pRow}, rows, (*tx).commit)
	}
	if err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return nil
}

// PutRowsSoon writes projection rows that can be made again from what is durable:
// readable on return, on the disk with the next flush, Options.LazyMax later at
// the latest. After a crash they may be missing, the last ones first.
func (s *Store) PutRowsSoon(ctx context.Context, rows []Row) error {
	return s.write(ctx, []byte{pRow}, rows, (*tx).show)
}

// GetRow gives a projection row. ErrNotFound when there is none.
func (s *Store) GetRow(key []byte) (value []byte, err error) {
	err = s.read(func(l lookup) error {
		b, ok, err := l.get(append([]byte{pRow}, key...))
		if err == nil && !ok {
			err = ErrNotFound
		}
		value = b
		return err
	})
	return value, err
}

// ScanRows calls f for projection rows under a prefix in key order, at most max,
// until f returns false. f may call the store. Rows are read a page at a time: a
// write during a long scan shows or does not.
func (s *Store) ScanRows(prefix []byte, max int, f func(key, value []byte) bool) error {
	return s.pages(append([]byte{pRow}, prefix...), nil, 1, max, f)
}

const (
	pageRows  = 256
	pageBytes = 1 << 20
)

// pages reads rows a page at a time and calls f between the reads, so that no
// snapshot is held while f runs.
func (s *Store) pages(prefix, from []byte, strip, max int, f func(key, value []byte) bool) error {
	for max > 0 {
		var page []Row
		size := 0
		err := s.read(func(l lookup) error {
			return l.rows.(*view).scan(prefix, from, false, func(key, value []byte) (bool, error) {
				page = append(page, Row{key, value})
				size += len(key) + len(value)
				return len(page) < min(pageRows, max) && size < pageBytes, nil
			})
		})
		if err != nil {
			return fmt.Errorf("scanning rows: %w", err)
		}
		for _, r := range page {
			if !f(r.Key[strip:], r.Value) {
				return nil
			}
		}
		if len(page) < pageRows && size < pageBytes {
			return nil
		}
		max -= len(page)
		from = append(page[len(page)-1].Key, 0)
	}
	return nil
}

const dropBatch = 2000

// DropRows deletes the projection rows under a prefix, some at a time: they can
// be computed again. A crash in between leaves the rest.
func (s *Store) DropRows(prefix []byte) error {
	for {
		var rows []Row
		err := s.ScanRows(prefix, dropBatch, func(key, _ []byte) bool {
			rows = append(rows, Row{Key: key})
			return true
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := s.PutRows(context.Background(), rows); err != nil {
			return err
		}
	}
}

// KV is a part of the store for raft's log and stable rows.
type KV struct {
	s      *Store
	prefix []byte
}

// KV gives the rows under a name. Different names never overlap.
func (s *Store) KV(name string) *KV {
	return &KV{s, append(append([]byte{pKV}, name...), 0)}
}

func (k *KV) key(key []byte) []byte { return append(k.prefix[:len(k.prefix):len(k.prefix)], key...) }

// Get gives a copy of a value. ErrNotFound for a missing key.
func (k *KV) Get(key []byte) (value []byte, err error) {
	err = k.s.read(func(l lookup) error {
		b, ok, err := l.get(k.key(key))
		if err == nil && !ok {
			err = ErrNotFound
		}
		value = b
		return err
	})
	return value, err
}

// Update writes all rows or none, durable on return. A nil Value deletes.
func (k *KV) Update(rows []Row) error {
	return k.s.write(context.Background(), k.prefix, rows, (*tx).commit)
}

// First gives the smallest key with a prefix.
func (k *KV) First(prefix []byte) (key []byte, ok bool, err error) { return k.end(prefix, false) }

// Last gives the largest key with a prefix.
func (k *KV) Last(prefix []byte) (key []byte, ok bool, err error) { return k.end(prefix, true) }

func (k *KV) end(prefix []byte, backwards bool) (out []byte, ok bool, err error) {
	err = k.s.read(func(l lookup) error {
		return l.rows.(*view).scan(k.key(prefix), nil, backwards, func(key, _ []byte) (bool, error) {
			out, ok = key[len(k.prefix):], true
			return false, nil
		})
	})
	return out, ok, err
}

// Scan calls f for rows under a prefix from a key on (nil is the first), at most
// max, until f returns false.
func (k *KV) Scan(prefix, from []byte, max int, f func(key, value []byte) bool) error {
	var start []byte
	if from != nil {
		start = k.key(from)
	}
	return k.s.pages(k.key(prefix), start, len(k.prefix), max, f)
}
