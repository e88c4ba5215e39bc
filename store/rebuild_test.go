package store_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// rebuilt makes a new store of what is sound in a box's, puts it in its place and
// opens it. The box's store is closed.
func (b *box) rebuilt() store.RebuildReport {
	b.t.Helper()
	o := b.o
	o.Salvage = true
	src, err := store.Open(b.dir, o)
	if err != nil {
		b.t.Fatal(err)
	}
	dst := filepath.Join(b.t.TempDir(), "new")
	rep, err := store.Rebuild(ctx, dst, b.o, src)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.dir = dst
	b.open()
	return rep
}

// held is a clinic with a ledger that a hub has as well, and its own pending
// records, one branch of an equivocation, rows.
func held(t testing.TB) (hub, clinic *box, own []record.Record) {
	hub, clinic = pair(t)
	r := rand.New(rand.NewPCG(6, 6))
	for range 40 {
		own = append(own, clinic.append(visit(byte(r.IntN(9)), 300, r), visit(byte(r.IntN(9)), 200, r))...)
		clinic.push(hub)
		hub.fill(14, 300)
		hub.order()
		clinic.pull(hub)
		clinic.append(store.Draft{Lane: record.LaneAudit, Kind: record.KindAccess, Seal: fixed([]byte("x"))})
	}
	own = append(own, clinic.append(visit(1, 100, r), visit(2, 100, r), visit(3, 100, r))...)
	if err := clinic.s.PutFinal([]byte("note"), clinic.s.Head()); err != nil {
		t.Fatal(err)
	}
	rows := []store.Row{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("2")}}
	if err := errors.Join(clinic.s.PutRows(ctx, rows), clinic.s.KV("r").Update(rows)); err != nil {
		t.Fatal(err)
	}
	if err := clinic.s.PutAck(hub.a.Device, []record.FeedHead{{Feed: own[len(own)-1].Position().Feed(), N: own[len(own)-2].Core.N}}); err != nil {
		t.Fatal(err)
	}
	return hub, clinic, own
}

func arrivalsOf(t testing.TB, s *store.Store) []store.Arrival {
	t.Helper()
	list, err := s.Arrivals(1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestRebuildOfSoundStore loses nothing and changes no number.
func TestRebuildOfSoundStore(t *testing.T) {
	hub, clinic, own := held(t)
	head, want := clinic.s.Head(), arrivalsOf(t, clinic.s)
	feeds, _ := clinic.s.PendingFeeds()
	old := clinic.dir
	clinic.close()
	rep := clinic.rebuilt()
	if !rep.Whole() || rep.Again+rep.Aside+rep.Lost != 0 || rep.Rows != 4 || rep.Pending < 3 {
		t.Errorf("%+v", rep)
	}
	if got := clinic.s.Head(); got != head {
		t.Errorf("ledger %v, want %v", got, head)
	}
	if got := arrivalsOf(t, clinic.s); !reflect.DeepEqual(got, want) {
		t.Errorf("arrivals changed: %d, want %d", len(got), len(want))
	}
	if got, _ := clinic.s.PendingFeeds(); !reflect.DeepEqual(got, feeds) {
		t.Errorf("pending %v, want %v", got, feeds)
	}
	if v, err := clinic.s.KV("r").Get([]byte("b")); err != nil || string(v) != "2" {
		t.Errorf("raft row: %q, %v", v, err)
	}
	if acks, err := clinic.s.Acks(own[len(own)-2].Position()); err != nil || len(acks) != 1 {
		t.Errorf("acknowledgements %v, %v", acks, err)
	}
	if _, _, ok := clinic.s.Final(); !ok {
		t.Error("the final checkpoint is gone")
	}
	checkKept(t, clinic.s, own)
	clinic.beginEpoch()
	clinic.append(visit(1, 10, rand.New(rand.NewPCG(1, 1))))
	clinic.push(hub)
	if b, err := os.ReadFile(filepath.Join(old, "FORMAT")); err != nil || len(b) == 0 {
		t.Errorf("the old store was touched: %v", err)
	}
}

// TestRebuildOfDamagedStore damages a clinic's database in one way each. The new
// store is sound, has every record that could be read, and after an ordinary
// exchange with its hub everything else.
func TestRebuildOfDamagedStore(t *testing.T) {
	hub, golden, own := held(t)
	golden.close()
	seq := func(prefix byte, n uint64) []byte { return []byte{prefix, 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)} }
	size := hub.s.Head().Size
	cases := []struct {
		what      string
		edit      func(s *store.Store)
		min, max  uint64 // entries that stay at their places
		lost      int
		rawTables bool
	}{
		{"a leaf in a full tile", func(s *store.Store) { edit(t, s, seq('e', 300), nil) }, 300, 300, 1, false},
		{"a body at the beginning", func(s *store.Store) { edit(t, s, seq('b', 1), []byte("spoiled")) }, 1, 1, 1, false},
		{"a leaf at the end", func(s *store.Store) { edit(t, s, seq('e', size-2), []byte("spoiled row")) }, size - 66, size - 2, 1, false},
		{"the newest rows", func(s *store.Store) {
			for n := size - 5; n < size; n++ {
				edit(t, s, seq('e', n), nil)
				edit(t, s, seq('b', n), nil)
			}
		}, size - 69, size - 5, 5, false},
		{"a tile", func(s *store.Store) { edit(t, s, []byte{'t', 0, 0, 0, 0, 0, 0, 0, 0, 1}, nil) }, size, size, 0, false},
		{"a tile and a leaf under it", func(s *store.Store) {
			edit(t, s, []byte{'t', 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil)
			edit(t, s, seq('e', 100), nil)
		}, 0, 100, 1, false},
		{"the ledger's end", func(s *store.Store) { edit(t, s, []byte("mledger"), nil) }, size, size, 0, false},
		{"an entry with another time", func(s *store.Store) {
			e, err := s.Entry(310)
			if err != nil {
				t.Fatal(err)
			}
			e.Time++
			edit(t, s, seq('e', 310), store.SealRow(seq('e', 310), e.EncodeLeaf()))
		}, 310, 310, 0, false},
		{"members and region", func(s *store.Store) {
			edit(t, s, []byte("mregion"), []byte("spoiled"))
			for _, row := range rowsUnder(t, s, "d") {
				edit(t, s, row.Key, nil)
			}
		}, size, size, 0, false},
		{"blocks of a table", nil, 0, size, 400, true},
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			b := *golden
			b.t, b.dir = t, t.TempDir()
			copyStore(t, b.dir, golden.dir)
			if c.rawTables {
				spoilTables(t, b.dir)
			} else {
				b.open()
				c.edit(b.s)
				if err := b.s.Close(); err != nil {
					t.Fatal(err)
				}
				b.s = nil
			}
			readable := readableIn(t, &b, own)
			rep := b.rebuilt()
			t.Logf("%+v", rep)
			if rep.Entries < c.min || rep.Entries > c.max || rep.Lost > c.lost {
				t.Errorf("%d entries at their places, %d lost; want %d to %d, at most %d", rep.Entries, rep.Lost, c.min, c.max, c.lost)
			}
			if left := damaged(t, b.s); len(left) > 0 {
				t.Fatalf("the new store is damaged: %v", &left[0])
			}
			checkKept(t, b.s, readable)
			b.pull(hub)
			checkKept(t, b.s, readable)
			for i := range own[:len(own)-3] {
				if _, ok, err := b.s.ByRID(own[i].RID()); err != nil || !ok {
					t.Errorf("own record %d is lost: %v", i, err)
				}
			}
			if list, err := b.s.Refused(); err != nil || len(list) > 3 {
				t.Errorf("%d refusals are left, %v", len(list), err)
			}
			b.close()
		})
	}
}

// readableIn gives the records that can still be read.
func readableIn(t *testing.T, b *box, recs []record.Record) (out []record.Record) {
	t.Helper()
	o := b.o
	o.Salvage = true
	s, err := store.Open(b.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range recs {
		if got, ok, err := s.ByRID(recs[i].RID()); err == nil && ok && bytes.Equal(got.Body, recs[i].Body) {
			out = append(out, recs[i])
		}
	}
	return out
}

// spoilTables flips a bit in some blocks of each table, in the part that holds
// values.
func spoilTables(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "index", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, name := range tables {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{len(raw) / 5, len(raw) / 3} {
			raw[at] ^= 1
		}
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRebuildIsBegunAgain: a power cut in between leaves a folder that the next
// try takes for its own; any other folder it leaves alone.
func TestRebuildIsBegunAgain(t *testing.T) {
	_, clinic, own := held(t)
	clinic.close()
	o := clinic.o
	o.Salvage = true
	src, err := store.Open(clinic.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "new")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := store.Rebuild(ended, dst, clinic.o, src); !errors.Is(err, context.Canceled) {
		t.Errorf("a rebuild that was stopped: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dst, "FORMAT")); err != nil {
		t.Errorf("nothing was begun: %v", err)
	}
	if rep, err := store.Rebuild(ctx, dst, clinic.o, src); err != nil || !rep.Whole() {
		t.Errorf("again: %+v, %v", rep, err)
	}
	if _, err := store.Rebuild(ctx, dst, clinic.o, src); !errors.Is(err, store.ErrRefused) {
		t.Errorf("over a store that is done: %v", err)
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	clinic.dir = dst
	clinic.open()
	checkKept(t, clinic.s, own)
}

// TestRebuiltHubCosignsNothingOld: a hub that lost entries which it had cosigned
// cosigns again only when its ledger has grown into that very tree.
func TestRebuiltHubCosignsNothingOld(t *testing.T) {
	hub := newBox(t, 1, record.RoleHub)
	hub.found()
	other := newBox(t, 3, record.RoleHub)
	hub.fill(400, 50)
	hub.order()
	other.pull(hub)
	head := hub.s.Head()
	if err := hub.s.PutSigned(head); err != nil {
		t.Fatal(err)
	}
	edit(t, hub.s, []byte{'e', 0, 0, 0, 0, 0, 0, 1, 0}, nil)
	if err := hub.s.Close(); err != nil {
		t.Fatal(err)
	}
	hub.s = nil
	rep := hub.rebuilt()
	if rep.Entries != 256 || rep.Again+rep.Aside == 0 {
		t.Errorf("%+v", rep)
	}
	if _, floor, ok := hub.s.Floor(); !ok || floor != head {
		t.Errorf("floor %v, %v; want %v", floor, ok, head)
	}
	if err := hub.s.PutSigned(hub.s.Head()); !errors.Is(err, store.ErrRefused) {
		t.Errorf("cosigning a smaller tree: %v, want refused", err)
	}
	fork := *hub
	fork.t, fork.dir = t, t.TempDir()
	hub.close()
	copyStore(t, fork.dir, hub.dir)
	hub.open()
	fork.open()
	fork.beginEpoch()
	fork.fill(500, 20)
	fork.order()
	if err := fork.s.PutSigned(fork.s.Head()); !errors.Is(err, store.ErrRefused) {
		t.Errorf("cosigning another tree: %v, want refused", err)
	}
	fork.close()
	hub.pull(other)
	if err := hub.s.PutSigned(hub.s.Head()); err != nil {
		t.Errorf("cosigning the same tree: %v", err)
	}
	if _, _, ok := hub.s.Floor(); ok {
		t.Error("the floor stays after it was reached")
	}
}
