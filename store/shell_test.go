package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// Somebody with all rights on the box opens the database itself. These tests edit
// every kind of row, and give rows their right hash back, as only somebody who
// knows this program would: what is left to find it by is what the row says.

// rowsUnder gives the rows of a kind as they are stored.
func rowsUnder(t testing.TB, s *store.Store, prefix string) (rows []store.Row) {
	t.Helper()
	err := s.Index().View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = []byte(prefix)
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			v, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			rows = append(rows, store.Row{Key: it.Item().KeyCopy(nil), Value: v})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func edit(t testing.TB, s *store.Store, key, value []byte) {
	t.Helper()
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	err := s.Index().Update(func(txn *badger.Txn) error {
		if value == nil {
			return txn.Delete(key)
		}
		return txn.Set(key, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// full is a hub with rows of every kind: full tiles, something pending, a branch
// that lost, acknowledgements, rows of others.
func full(t testing.TB) *box {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(4, 4))
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	recs := clinic.append(visit(1, 100, r), visit(2, 200, r), visit(3, 50, r))
	clinic.push(hub)
	hub.order()
	f := recs[0].Position().Feed()
	head, _, err := hub.s.State().Head(f)
	if err != nil {
		t.Fatal(err)
	}
	hub.fill(300, 80)
	hub.order()
	first, second := branch(clinic.a, f, head, 3, 1), branch(clinic.a, f, head, 4, 2)
	hub.verdicts(first)
	hub.verdicts(second)
	hub.append(visit(1, 100, r), store.Draft{Lane: record.LaneAudit, Kind: record.KindAccess, Seal: fixed([]byte("x"))})
	if err := hub.s.PutAck(clinic.a.Device, []record.FeedHead{{Feed: f, N: 5}}); err != nil {
		t.Fatal(err)
	}
	if err := hub.s.PutFinal([]byte("note"), hub.s.Head()); err != nil {
		t.Fatal(err)
	}
	if err := hub.s.PutSigned(hub.s.Head()); err != nil {
		t.Fatal(err)
	}
	var rows []store.Row
	for i := range 20 {
		rows = append(rows, store.Row{Key: fmt.Appendf(nil, "r%d", i), Value: []byte("value")})
	}
	if err := errors.Join(hub.s.PutRows(ctx, rows), hub.s.KV("raft").Update(rows)); err != nil {
		t.Fatal(err)
	}
	return hub
}

// damageOf closes a store, opens it again, for reading only when it does not open
// otherwise, and says what is wrong with it.
func damageOf(t testing.TB, b *box) []string {
	t.Helper()
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	b.s = nil
	var found []string
	s, err := store.Open(b.dir, b.o)
	if errors.Is(err, store.ErrDamaged) {
		found = append(found, "open: "+err.Error())
		o := b.o
		o.Salvage = true
		s, err = store.Open(b.dir, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rep, err := s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range rep.Damage {
		found = append(found, d.Error())
	}
	if len(found) > 0 && len(rep.Damage) == 0 {
		t.Error("a store that does not open verifies")
	}
	return found
}

// TestShellEdits changes, deletes and adds a row of each kind.
func TestShellEdits(t *testing.T) {
	golden := full(t)
	kinds := map[byte][]store.Row{}
	for _, row := range rowsUnder(t, golden.s, "") {
		kinds[row.Key[0]] = append(kinds[row.Key[0]], row)
	}
	golden.close()
	r := rng(t)
	for _, prefix := range []byte("ebfiphwgdnsultyzamxk") {
		rows := kinds[prefix]
		if len(rows) == 0 {
			if prefix != 'n' { // a young ledger has none
				t.Errorf("no row of kind %c to edit", prefix)
			}
			continue
		}
		for _, what := range []string{"spoil", "change", "delete", "insert", "swap"} {
			at := r.IntN(len(rows))
			if saysNothing(rows, at, what) {
				continue
			}
			t.Run(fmt.Sprintf("%c/%s/%d", prefix, what, at), func(t *testing.T) { shellEdit(t, golden, rows, at, what) })
		}
	}
}

// saysNothing is an edit that would change nothing that counts.
func saysNothing(rows []store.Row, at int, what string) bool {
	this, other := rows[at], rows[(at+1)%len(rows)]
	same := bytes.Equal(other.Value[:len(other.Value)-8], this.Value[:len(this.Value)-8])
	return excused(this.Key, what) || what == "swap" && same
}

func shellEdit(t *testing.T, golden *box, rows []store.Row, at int, what string) {
	key := rows[at].Key
	b := *golden
	b.t, b.dir = t, t.TempDir()
	copyStore(t, b.dir, golden.dir)
	b.open()
	b.shellEdit(rows, at, what)
	found := damageOf(t, &b)
	if len(found) == 0 {
		t.Errorf("row %q of %d: nothing is found", key, len(rows))
	}
	if testing.Verbose() {
		t.Logf("row %q:\n\t%s", key, strings.Join(found[:min(len(found), 4)], "\n\t"))
	}
}

// changeAt is the byte that is changed: the last one, which says something in every
// kind of row but that of a feed, where it is a hint.
func changeAt(key, value []byte) int {
	if key[0] == 'h' {
		return len(value) / 2
	}
	return len(value) - 1
}

// excused are edits that change nothing anybody relies on: the clock only ever
// moves forward from it, the frame of the journal is compared when the store opens.
func excused(key []byte, what string) bool {
	return string(key) == "mclock" && what != "spoil" || string(key) == "mjournal"
}
