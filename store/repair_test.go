package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// entriesOf reads a whole ledger.
func entriesOf(t testing.TB, s *store.Store) []record.Entry {
	t.Helper()
	var all []record.Entry
	for size := s.Head().Size; uint64(len(all)) < size; {
		e, err := s.Entries(uint64(len(all)), size, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e...)
	}
	return all
}

func damaged(t testing.TB, s *store.Store) []store.DamageError {
	t.Helper()
	rep, err := s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rep.Damage
}

// TestRepairAndDropStray edits a row of each kind behind the store's back, while
// it runs. What a peer gives again and what can be computed makes it whole, and
// every record that was there is still there.
func TestRepairAndDropStray(t *testing.T) {
	golden := full(t)
	entries := entriesOf(t, golden.s)
	pending := golden.pending(1 << 20)
	kinds := map[byte][]store.Row{}
	for _, row := range rowsUnder(t, golden.s, "") {
		kinds[row.Key[0]] = append(kinds[row.Key[0]], row)
	}
	golden.close()
	b := *golden
	b.dir = t.TempDir()
	copyStore(t, b.dir, golden.dir)
	b.open()
	r := rng(t)
	for _, prefix := range []byte("ebfihwgdsultyzamx") {
		rows := kinds[prefix]
		for _, what := range []string{"spoil", "change", "delete", "insert"} {
			at := r.IntN(len(rows))
			name := fmt.Sprintf("%s %q", what, rows[at].Key)
			if excused(rows[at].Key, what) || prefix == 'x' && what != "insert" {
				continue
			}
			if now := rowsUnder(t, b.s, string(rows[at].Key)); len(now) == 0 || !bytes.Equal(now[0].Value, rows[at].Value) {
				continue // what an earlier edit took with it
			}
			b.shellEdit(rows, at, what)
			if len(damaged(t, b.s)) == 0 {
				t.Errorf("%s: nothing is found in the running store", name)
			}
			if _, err := b.s.Repair(ctx, entries); err != nil {
				t.Fatalf("%s: repairing: %v", name, err)
			}
			if _, err := b.s.DropStray(ctx); err != nil {
				t.Fatalf("%s: putting right: %v", name, err)
			}
			if left := damaged(t, b.s); len(left) > 0 {
				t.Fatalf("%s: still damaged: %v", name, &left[0])
			}
			if n, err := b.s.DropStray(ctx); n != 0 || err != nil {
				t.Errorf("%s: putting right again changes %d rows, %v", name, n, err)
			}
			checkKept(t, b.s, pending)
		}
	}
	b.reopen()
	if left := damaged(t, b.s); len(left) > 0 {
		t.Errorf("after opening again: %v", &left[0])
	}
	checkKept(t, b.s, pending)
	if got := entriesOf(t, b.s); len(got) != len(entries) || got[0].Record.RID() != entries[0].Record.RID() {
		t.Errorf("%d entries, want %d", len(got), len(entries))
	}
	b.close()
}

// shellEdit does to one row what somebody at a root shell would.
func (b *box) shellEdit(rows []store.Row, at int, what string) {
	key, sealed := rows[at].Key, rows[at].Value
	value := bytes.Clone(sealed[:len(sealed)-8])
	switch what {
	case "spoil":
		bad := bytes.Clone(sealed)
		bad[len(bad)/2] ^= 1
		edit(b.t, b.s, key, bad)
	case "change":
		if len(value) == 0 {
			value = []byte{1}
		} else {
			value[changeAt(key, value)] ^= 1
		}
		edit(b.t, b.s, key, store.SealRow(key, value))
	case "delete":
		edit(b.t, b.s, key, nil)
	case "insert":
		other := bytes.Clone(key)
		for slices.ContainsFunc(rows, func(r store.Row) bool { return bytes.Equal(r.Key, other) }) {
			other[len(other)-1]++
			if other[len(other)-1] == 0 {
				other = append(other, 7)
			}
		}
		edit(b.t, b.s, other, store.SealRow(other, value))
	case "swap":
		other := rows[(at+1)%len(rows)]
		edit(b.t, b.s, key, store.SealRow(key, other.Value[:len(other.Value)-8]))
	}
}

// TestRepairRefuses: entries that are not those of the tree change nothing.
func TestRepairRefuses(t *testing.T) {
	hub := standalone(t)
	hub.fill(600, 50)
	hub.order()
	entries := entriesOf(t, hub.s)
	seq := uint64(300)
	good := entries[seq]
	tile := store.SealRow([]byte{'t', 0, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 256*32))
	for what, spoil := range map[string]func(){
		"leaf": func() { edit(t, hub.s, []byte{'e', 0, 0, 0, 0, 0, 0, 1, 44}, []byte("spoiled row")) },
		"body": func() { edit(t, hub.s, []byte{'b', 0, 0, 0, 0, 0, 0, 1, 44}, nil) },
		"leaf and tile": func() {
			edit(t, hub.s, []byte{'e', 0, 0, 0, 0, 0, 0, 1, 44}, nil)
			edit(t, hub.s, []byte{'t', 0, 0, 0, 0, 0, 0, 0, 0, 1}, tile)
		},
	} {
		spoil()
		other := good
		other.Record = record.Sign(good.Record.Core, []byte("another body"), hub.a.Key)
		late := good
		late.Time++
		moved := good
		moved.Seq--
		bodyless := good
		bodyless.Record = good.Record.WithBody(nil)
		past := good
		past.Seq = 1 << 40
		for name, e := range map[string]record.Entry{"another record": other, "another time": late, "another place": moved, "no body": bodyless, "past the end": past} {
			if n, err := hub.s.Repair(ctx, []record.Entry{e}); !errors.Is(err, store.ErrRefused) || n != 0 {
				t.Errorf("%s, %s: %d rows, %v; want refused", what, name, n, err)
			}
		}
		if n, err := hub.s.Repair(ctx, []record.Entry{good}); n == 0 || err != nil {
			t.Errorf("%s: the right entry: %d rows, %v", what, n, err)
		}
		if n, err := hub.s.Repair(ctx, entries); n != 0 || err != nil {
			t.Errorf("%s: entries that are all there: %d rows, %v", what, n, err)
		}
		if left := damaged(t, hub.s); len(left) > 0 {
			t.Errorf("%s: still damaged: %v", what, &left[0])
		}
	}
}

// TestManyEntriesAreRepaired loses a tenth of the leaves and bodies and a tile, and
// gets the entries from a peer whose own are damaged elsewhere.
func TestManyEntriesAreRepaired(t *testing.T) {
	r := rng(t)
	hub := standalone(t)
	hub.fill(1500, 50)
	hub.order()
	entries := entriesOf(t, hub.s)
	for seq := range entries {
		if seq > 1 && r.IntN(10) == 0 {
			k := []byte{"eb"[rand.IntN(2)], 0, 0, 0, 0, 0, 0, byte(seq >> 8), byte(seq)}
			edit(t, hub.s, k, nil)
		}
	}
	edit(t, hub.s, []byte{'t', 0, 0, 0, 0, 0, 0, 0, 0, 2}, nil)
	rep, err := hub.s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil || len(rep.Damage) < 50 {
		t.Fatalf("%d findings, %v", len(rep.Damage), err)
	}
	for _, d := range rep.Damage {
		if d.HasSeq && d.Seq > 0 && d.Time == 0 && d.Until == 0 {
			t.Errorf("no time is named: %+v", d)
		}
	}
	if n, err := hub.s.Repair(ctx, entries); n < 50 || err != nil {
		t.Fatalf("%d rows, %v", n, err)
	}
	if left := damaged(t, hub.s); len(left) > 0 {
		t.Errorf("still damaged: %v", &left[0])
	}
	hub.reopen()
}
