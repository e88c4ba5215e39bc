package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// TestVerifyGoesOn: a later verification reads only what came since, and finds
// damage there; what does not fit starts at 0.
func TestVerifyGoesOn(t *testing.T) {
	hub, clinic := pair(t)
	r := rng(t)
	var at store.Report
	for round := range 6 {
		clinic.append(visit(byte(r.IntN(4)), 40, r), visit(byte(r.IntN(4)), 40, r))
		clinic.push(hub)
		hub.fill(70+round, 50)
		if round%2 == 0 {
			hub.beginEpoch()
			other := newBox(t, uint64(10+round), record.RoleClinic)
			hub.admit(other)
			clinic.beginEpoch()
		}
		hub.order()
		clinic.pull(hub)
		rep, err := clinic.s.Verify(ctx, store.VerifyOptions{From: at.Head.Size, State: at.State}, nil)
		if err != nil || len(rep.Damage) > 0 {
			t.Fatalf("round %d: %v, %v", round, rep.Damage, err)
		}
		if rep.From != at.Head.Size || rep.Entries != clinic.s.Head().Size-at.Head.Size || rep.Head != clinic.s.Head() || rep.State == nil {
			t.Errorf("round %d: read %d entries from %d to %v; want from %d", round, rep.Entries, rep.From, rep.Head, at.Head.Size)
		}
		whole, err := clinic.s.Verify(ctx, store.VerifyOptions{}, nil)
		if err != nil || len(whole.Damage) > 0 || whole.From != 0 {
			t.Fatalf("round %d: all of it: %v, %v", round, whole.Damage, err)
		}
		at = rep
	}
	for what, o := range map[string]store.VerifyOptions{"no state": {From: at.Head.Size}, "another size": {From: at.Head.Size - 1, State: at.State}, "past the end": {From: 1 << 30, State: at.State}, "not a state": {From: at.Head.Size, State: []byte("x")}} {
		if rep, err := clinic.s.Verify(ctx, o, nil); err != nil || rep.From != 0 || rep.Entries != at.Head.Size {
			t.Errorf("%s: read %d entries from %d, %v; want all", what, rep.Entries, rep.From, err)
		}
	}
	hub.fill(30, 50)
	hub.order()
	clinic.pull(hub)
	last := hub.s.Head().Size - 2
	edit(t, clinic.s, []byte{'b', 0, 0, 0, 0, 0, 0, byte(last >> 8), byte(last)}, nil)
	rep, err := clinic.s.Verify(ctx, store.VerifyOptions{From: at.Head.Size, State: at.State}, nil)
	if err != nil || len(rep.Damage) != 1 || rep.Damage[0].Seq != last || rep.State != nil {
		t.Errorf("a new entry without its body: %+v, %v", rep.Damage, err)
	}
	edit(t, clinic.s, []byte{'b', 0, 0, 0, 0, 0, 0, byte(last >> 8), byte(last)}, nil)
	if _, err := clinic.s.Repair(ctx, entriesOf(t, hub.s)); err != nil {
		t.Error(err)
	}
}

// TestVerifyKeepsPace: Pause is told of every byte, and while it sleeps writes go
// on: no snapshot is held.
func TestVerifyKeepsPace(t *testing.T) {
	b := standalone(t)
	b.fill(900, 2000)
	b.order()
	r := rng(t)
	read, pauses := 0, 0
	rep, err := b.s.Verify(ctx, store.VerifyOptions{Workers: 1, Pause: func(n int) {
		read += n
		pauses++
		b.append(visit(7, 50, r))
		b.order()
	}}, nil)
	if err != nil || len(rep.Damage) > 0 {
		t.Fatalf("%v, %v", rep.Damage, err)
	}
	if read < 900*2000 || pauses < 5 {
		t.Errorf("%d bytes in %d reads, want at least %d", read, pauses, 900*2000)
	}
	if rep.Entries < 902+3 || rep.Head.Size != rep.Entries {
		t.Errorf("%d entries, head %v: what came meanwhile is missing", rep.Entries, rep.Head)
	}
}

// TestVerifyNamesTheRange: a block of a table that does not verify is named by the
// entries and the time that it stands for.
func TestVerifyNamesTheRange(t *testing.T) {
	b := standalone(t)
	for range 4 {
		b.fill(300, 3000)
		b.order()
		b.wall += 3_600_000
	}
	b.close()
	spoilTables(t, b.dir)
	o := b.o
	o.Salvage = true
	s, err := store.Open(b.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ranges := 0
	for _, d := range rep.Damage {
		if strings.Contains(d.What, "table") && d.HasSeq && d.End > d.Seq+1 {
			ranges++
			if d.End > s.Head().Size || d.Time == 0 && d.Seq > 0 {
				t.Errorf("range %+v of %v", d, s.Head())
			}
		}
	}
	if ranges == 0 {
		t.Errorf("no range is named: %v", rep.Damage)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.s = nil
}

// TestNewestRowsTakenAway: everything that the ledger gained is undone row by row,
// so that what is left agrees with itself. The journal still knows.
func TestNewestRowsTakenAway(t *testing.T) {
	b := standalone(t)
	b.fill(300, 50)
	b.order()
	if err := b.s.Settle(); err != nil {
		t.Fatal(err)
	}
	before := map[string][]byte{}
	for _, row := range rowsUnder(t, b.s, "") {
		before[string(row.Key)] = row.Value
	}
	size := b.s.Head().Size
	b.fill(20, 50)
	b.order()
	if err := b.s.Settle(); err != nil {
		t.Fatal(err)
	}
	for _, row := range rowsUnder(t, b.s, "") {
		if old, ok := before[string(row.Key)]; string(row.Key) != "mjournal" && string(old) != string(row.Value) {
			if !ok {
				old = nil
			}
			edit(t, b.s, row.Key, old)
		}
	}
	for key, old := range before { // what was pending then
		if key != "mjournal" {
			edit(t, b.s, []byte(key), old)
		}
	}
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	b.s = nil
	_, err := store.Open(b.dir, b.o)
	var d *store.DamageError
	if !errors.As(err, &d) || d.Seq != size || d.End != size+20 {
		t.Errorf("a ledger set back from %d to %d opens with %v", size+20, size, err)
	}
	found := false
	o := b.o
	o.Salvage = true
	s, err := store.Open(b.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, x := range damaged(t, s) {
		found = found || x.HasSeq && x.Seq == size && x.End == size+20
	}
	if !found {
		t.Error("verify does not name the entries that are gone")
	}
}

// TestForeignProgram: the database is opened by another program while the box is
// off. The box notices before it uses any of it.
func TestForeignProgram(t *testing.T) {
	b := full(t)
	size := b.s.Head().Size
	b.close()
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(b.dir, "index")).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(txn *badger.Txn) error {
		last := size - 1
		for _, prefix := range []byte("eb") {
			if err := txn.Delete([]byte{prefix, 0, 0, 0, 0, 0, 0, byte(last >> 8), byte(last)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(b.dir, b.o); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("the box opens with %v, want damage", err)
	}
	o := b.o
	o.Salvage = true
	s, err := store.Open(b.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	named := false
	for _, d := range damaged(t, s) {
		named = named || d.HasSeq && d.Seq == size-1
	}
	if !named {
		t.Error("verify does not name the entry that was deleted")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if rep := b.rebuilt(); rep.Lost > 1 || rep.Entries < size-64 {
		t.Errorf("rebuilt: %+v", rep)
	}
	b.close()
}

// TestTiles: tiles are what a reader of C2SP tlog-tiles computes the tree from.
func TestTiles(t *testing.T) {
	b := standalone(t)
	b.fill(256*3+17, 30)
	b.order()
	size := b.s.Head().Size
	var leaves record.Range
	for seq, n := uint64(0), uint64(0); seq < size; seq += n {
		n = min(256, size-seq)
		hashes, err := b.s.Tile(0, seq/256, int(n))
		if err != nil || uint64(len(hashes)) != n {
			t.Fatalf("tile %d: %d hashes, %v", seq/256, len(hashes), err)
		}
		var whole record.Range
		for i, h := range hashes {
			e, err := b.s.Entry(seq + uint64(i))
			if err != nil || record.LeafHash(e.EncodeLeaf()) != h {
				t.Errorf("hash of entry %d: %v", seq+uint64(i), err)
			}
			leaves.Append(h)
			whole.Append(h)
		}
		if n == 256 {
			above, err := b.s.Tile(1, 0, int(seq/256)+1)
			if err != nil || above[seq/256] != whole.Root() {
				t.Errorf("hash over tile %d: %v", seq/256, err)
			}
		}
	}
	if leaves.Root() != b.s.Head().Root {
		t.Error("the tiles make another root")
	}
	for _, c := range []struct {
		level int
		index uint64
		width int
	}{{0, 0, 0}, {0, 0, 257}, {-1, 0, 1}, {8, 0, 1}, {0, size / 256, int(size%256) + 1}, {0, 4, 1}, {0, 1 << 60, 1}, {1, 0, 4}, {1, 1, 1}, {2, 0, 1}} {
		if h, err := b.s.Tile(c.level, c.index, c.width); !errors.Is(err, store.ErrRefused) {
			t.Errorf("tile %+v: %d hashes, %v; want refused", c, len(h), err)
		}
	}
}
