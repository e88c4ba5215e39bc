package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

func TestRows(t *testing.T) {
	b := standalone(t)
	rows := []store.Row{}
	for i := range 1000 {
		rows = append(rows, store.Row{Key: fmt.Appendf(nil, "a/%04d", i), Value: fmt.Appendf(nil, "v%d", i)})
	}
	rows = append(rows, store.Row{Key: []byte("b"), Value: []byte{}})
	if err := b.s.PutRows(ctx, rows); err != nil {
		t.Fatal(err)
	}
	if err := b.s.PutRows(ctx, []store.Row{{Key: []byte("a/0007")}}); err != nil {
		t.Fatal(err)
	}
	count := func(prefix string, max int) (n int) {
		last := []byte{}
		err := b.s.ScanRows([]byte(prefix), max, func(k, v []byte) bool {
			if bytes.Compare(k, last) <= 0 {
				t.Errorf("key %s after %s", k, last)
			}
			if _, err := b.s.GetRow(k); err != nil { // a callback may read
				t.Error(err)
			}
			last = k
			n++
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		prefix    string
		max, want int
	}{{"a/", 5000, 999}, {"a/", 10, 10}, {"a/", 256, 256}, {"a/000", 50, 9}, {"", 5000, 1000}, {"c", 5, 0}} {
		if got := count(c.prefix, c.max); got != c.want {
			t.Errorf("%d rows under %q, at most %d; want %d", got, c.prefix, c.max, c.want)
		}
	}
	if _, err := b.s.GetRow([]byte("a/0007")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deleted row gives %v, want not found", err)
	}
	if v, err := b.s.GetRow([]byte("b")); err != nil || len(v) != 0 {
		t.Errorf("empty row gives %q, %v", v, err)
	}
	if err := b.s.DropRows([]byte("a/")); err != nil || count("", 5000) != 1 {
		t.Errorf("dropping rows: %v, %d left", err, count("", 5000))
	}
}

func TestKV(t *testing.T) {
	b := standalone(t)
	k, other := b.s.KV("r"), b.s.KV("ra")
	for i := range 20 {
		if err := k.Update([]store.Row{{Key: []byte{'l', byte(i)}, Value: []byte{byte(i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Update([]store.Row{{Key: []byte{'l', 99}, Value: []byte{1}}}); err != nil {
		t.Fatal(err)
	}
	if err := k.Update([]store.Row{{Key: []byte{'l', 0}}, {Key: []byte{'l', 19}}, {Key: []byte("v"), Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		first, ok, err := k.First([]byte("l"))
		if err != nil || !ok || !bytes.Equal(first, []byte{'l', 1}) {
			t.Errorf("first is %v, %v, %v; want l1", first, ok, err)
		}
		last, ok, err := k.Last([]byte("l"))
		if err != nil || !ok || !bytes.Equal(last, []byte{'l', 18}) {
			t.Errorf("last is %v, %v, %v; want l18", last, ok, err)
		}
		if _, ok, err := k.First([]byte("m")); ok || err != nil {
			t.Errorf("first of nothing: %v, %v", ok, err)
		}
		n := 0
		if err := k.Scan([]byte("l"), []byte{'l', 10}, 5, func(_, _ []byte) bool { n++; return true }); err != nil || n != 5 {
			t.Errorf("scan gave %d rows, %v; want 5", n, err)
		}
		if _, err := k.Get([]byte{'l', 0}); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("deleted key gives %v", err)
		}
		b.reopen()
		k = b.s.KV("r")
	}
}

// TestRowsSoon: rows that can be made again cost no flush of their own, are
// readable at once, and go to the disk with the next save.
func TestRowsSoon(t *testing.T) {
	b := newBox(t, 1, record.RoleStandalone)
	b.close()
	b.o.LazyMax = time.Hour
	b.open()
	b.found()
	r := rng(t)
	row := func(i int) store.Row {
		return store.Row{Key: fmt.Appendf(nil, "soon/%d", i), Value: fmt.Appendf(nil, "v%d", i)}
	}
	const saves = 5
	b.s.Barrier(ctx)
	before := b.s.Stats().Flushes
	for i := range saves {
		b.append(visit(1, 100, r))
		if err := b.s.PutRowsSoon(ctx, []store.Row{row(i)}); err != nil {
			t.Fatal(err)
		}
		if v, err := b.s.GetRow(row(i).Key); err != nil || !bytes.Equal(v, row(i).Value) {
			t.Errorf("row %d right after it was put: %q, %v", i, v, err)
		}
	}
	if got := b.s.Stats().Flushes - before; got != saves {
		t.Errorf("%d flushes for %d saves with a row after each", got, saves)
	}
	if err := b.s.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if got := b.s.Stats().Flushes - before; got != saves+1 {
		t.Errorf("%d flushes after the last row was waited for, want %d", got, saves+1)
	}
	b.reopen()
	for i := range saves {
		if v, err := b.s.GetRow(row(i).Key); err != nil || !bytes.Equal(v, row(i).Value) {
			t.Errorf("row %d after a restart: %q, %v", i, v, err)
		}
	}
}
