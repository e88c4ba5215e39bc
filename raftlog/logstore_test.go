package raftlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
	"pgregory.net/rapid"
)

// firstOf is the first index that can be read: after a deletion that ends in a
// gap the in-memory store names an index that has no item.
func firstOf(t *rapid.T, s raft.LogStore) uint64 {
	first, last := bounds(t, s)
	for ; first <= last && first != 0; first++ {
		var l raft.Log
		if s.GetLog(first, &l) == nil {
			return first
		}
	}
	return 0
}

func bounds(t *rapid.T, s raft.LogStore) (first, last uint64) {
	first, err := s.FirstIndex()
	if err == nil {
		last, err = s.LastIndex()
	}
	if err != nil {
		t.Fatal(err)
	}
	return first, last
}

func sameLog(got, want *raft.Log) bool {
	return got.Index == want.Index && got.Term == want.Term && got.Type == want.Type && bytes.Equal(got.Data, want.Data) &&
		bytes.Equal(got.Extensions, want.Extensions) && got.AppendedAt.Equal(want.AppendedAt)
}

// TestLogStoreModel runs random steps against raft's in-memory store, opening
// again in between.
func TestLogStoreModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kv, model := newMemKV(), raft.NewInmemStore()
		store, err := raftlog.OpenLogStore(kv)
		if err != nil {
			t.Fatal(err)
		}
		next, term := uint64(1), uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				next += rapid.SampledFrom([]uint64{0, 0, 0, 0, 40}).Draw(t, "gap")
				var logs []*raft.Log
				for range rapid.IntRange(1, 40).Draw(t, "items") {
					logs = append(logs, &raft.Log{Index: next, Term: term, Type: raft.LogType(rapid.IntRange(0, 5).Draw(t, "type")),
						Data:       bytes.Repeat([]byte{byte(next)}, rapid.SampledFrom([]int{0, 1, 1000, 200 << 10}).Draw(t, "bytes")),
						Extensions: rapid.SampledFrom([][]byte{nil, []byte("x")}).Draw(t, "extensions"),
						AppendedAt: time.Unix(int64(rapid.IntRange(1, 1<<30).Draw(t, "at")), 5)})
					next++
				}
				if err := errors.Join(store.StoreLogs(logs), model.StoreLogs(logs)); err != nil {
					t.Fatal(err)
				}
			},
			"replace the tail": func(t *rapid.T) {
				first, last := bounds(t, model)
				if last == 0 {
					return
				}
				from := rapid.Uint64Range(max(first, last-min(last, 30)), last).Draw(t, "from")
				if err := errors.Join(store.DeleteRange(from, last), model.DeleteRange(from, last)); err != nil {
					t.Fatal(err)
				}
				next, term = from, term+1
			},
			"compact": func(t *rapid.T) {
				first, last := bounds(t, model)
				if last == 0 {
					return
				}
				to := rapid.Uint64Range(first, last).Draw(t, "to")
				if err := errors.Join(store.DeleteRange(first, to), model.DeleteRange(first, to)); err != nil {
					t.Fatal(err)
				}
			},
			"open again": func(t *rapid.T) {
				if store, err = raftlog.OpenLogStore(kv); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) {
				first, last := firstOf(t, model), uint64(0)
				if first != 0 {
					_, last = bounds(t, model)
				}
				if gotFirst, gotLast := bounds(t, store); gotFirst != first || first != 0 && gotLast < lastOf(model, last) {
					t.Fatalf("store has %d to %d, want %d to %d", gotFirst, gotLast, first, last)
				}
				for i := uint64(0); i <= next+1; i++ {
					var got, want raft.Log
					errGot, errWant := store.GetLog(i, &got), model.GetLog(i, &want)
					if errGot != errWant || errGot == nil && !sameLog(&got, &want) {
						t.Fatalf("item %d: got %v %v, want %v %v", i, got.Term, errGot, want.Term, errWant)
					}
				}
				upTo := rapid.Uint64Range(0, next+1).Draw(t, "up to")
				if got, err := raftlog.LastCommand(store, upTo); err != nil || got != lastCommand(model, min(upTo, lastOf(model, last))) {
					t.Fatalf("the last item for the ledger up to %d is %d (%v), want %d", upTo, got, err, lastCommand(model, upTo))
				}
			},
		})
		if kv.largest > raftlog.UpdateBytesMax+64 {
			t.Fatalf("an update of %d bytes", kv.largest)
		}
	})
}

// lastOf is the last index up to last that can be read.
func lastOf(s raft.LogStore, last uint64) uint64 {
	var l raft.Log
	for ; last > 0 && s.GetLog(last, &l) != nil; last-- {
	}
	return last
}

// lastCommand is the newest item for the ledger up to an index, before a gap.
func lastCommand(s raft.LogStore, upTo uint64) uint64 {
	var l raft.Log
	for ; upTo > 0 && s.GetLog(upTo, &l) == nil; upTo-- {
		if l.Type == raft.LogCommand {
			return upTo
		}
	}
	return 0
}

func TestStoreLogsKeepsAPrefix(t *testing.T) {
	for allowed := 1; allowed < 6; allowed++ {
		kv := newMemKV()
		store, err := raftlog.OpenLogStore(kv)
		check(t, "opening", err)
		var logs []*raft.Log
		for i := range 10 {
			logs = append(logs, &raft.Log{Index: uint64(i + 1), Term: 1, Data: make([]byte, 200<<10)})
		}
		kv.leftover = allowed
		err = store.StoreLogs(logs)
		if !errors.Is(err, errDiskFull) {
			t.Fatalf("storing on a full disk: %v", err)
		}
		store, err = raftlog.OpenLogStore(kv)
		check(t, "opening again", err)
		last, _ := store.LastIndex()
		if want := uint64(2 * (allowed - 1)); last != want {
			t.Errorf("after %d updates the last item is %d, want %d", allowed-1, last, want)
		}
		for i := uint64(1); i <= last; i++ {
			var l raft.Log
			check(t, fmt.Sprintf("reading item %d", i), store.GetLog(i, &l))
		}
	}
}

// TestDeleteRangeLeavesNoHole stops a long deletion after each update.
func TestDeleteRangeLeavesNoHole(t *testing.T) {
	for _, c := range []struct {
		name   string
		lo, hi uint64
	}{{"front", 1, 3500}, {"tail", 500, 4000}} {
		t.Run(c.name, func(t *testing.T) {
			for allowed := 1; allowed <= 4; allowed++ {
				kv := newMemKV()
				store, err := raftlog.OpenLogStore(kv)
				check(t, "opening", err)
				var logs []*raft.Log
				for i := uint64(1); i <= 4000; i++ {
					logs = append(logs, &raft.Log{Index: i, Term: 1})
				}
				check(t, "storing", store.StoreLogs(logs))
				kv.leftover = allowed
				if err := store.DeleteRange(c.lo, c.hi); !errors.Is(err, errDiskFull) {
					t.Fatalf("deleting on a broken disk: %v", err)
				}
				kv.setBroken(false)
				store, err = raftlog.OpenLogStore(kv)
				check(t, "opening again", err)
				first, _ := store.FirstIndex()
				last, _ := store.LastIndex()
				if n := uint64(4000 - 1000*(allowed-1)); last-first+1 != n {
					t.Fatalf("%d to %d is left, want %d items", first, last, n)
				}
				for i := first; i <= last; i++ {
					var l raft.Log
					check(t, "reading", store.GetLog(i, &l))
				}
			}
		})
	}
}

func TestStableStore(t *testing.T) {
	kv := newMemKV()
	s := raftlog.OpenStable(kv)
	if _, err := s.Get([]byte("LastVoteCand")); err == nil || err.Error() != "not found" {
		t.Errorf("missing value: %v", err)
	}
	if _, err := s.GetUint64([]byte("CurrentTerm")); err == nil || err.Error() != "not found" {
		t.Errorf("missing number: %v", err)
	}
	check(t, "set", s.Set([]byte("a"), []byte("value")))
	check(t, "set empty", s.Set([]byte("b"), nil))
	check(t, "set number", s.SetUint64([]byte("c"), 1<<40))
	s = raftlog.OpenStable(kv)
	if v, err := s.Get([]byte("a")); err != nil || string(v) != "value" {
		t.Errorf("got %q %v", v, err)
	}
	if v, err := s.Get([]byte("b")); err != nil || len(v) != 0 {
		t.Errorf("got %q %v", v, err)
	}
	if v, err := s.GetUint64([]byte("c")); err != nil || v != 1<<40 {
		t.Errorf("got %d %v", v, err)
	}
	if _, err := s.GetUint64([]byte("a")); err == nil {
		t.Error("a text was read as a number")
	}
}

func FuzzDecodeLog(f *testing.F) {
	f.Add(raftlog.EncodeLog(&raft.Log{Index: 7, Term: 300, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1, 2)}))
	f.Add(raftlog.EncodeLog(&raft.Log{Index: 7}))
	f.Add([]byte{1, 0, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { raftlog.DecodeLog(7, b, &raft.Log{}) })
		var l, again raft.Log
		if err := raftlog.DecodeLog(7, b, &l); err != nil {
			if !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("error without a family: %v", err)
			}
			return
		}
		check(t, "decoding again", raftlog.DecodeLog(7, raftlog.EncodeLog(&l), &again))
		if !sameLog(&again, &l) {
			t.Fatalf("got %v, want %v", again, l)
		}
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add([]byte{0x86, 1, 1, 1, 1, 0x80, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { raftlog.DecodeSnapshot(b) })
		if _, _, err := raftlog.DecodeSnapshot(b); err != nil && !errors.Is(err, record.ErrMalformed) {
			t.Fatalf("error without a family: %v", err)
		}
		if r, err := raftlog.DecodeReference(b); err == nil && len(r.Root) != 32 {
			t.Fatalf("root of %d bytes", len(r.Root))
		}
	})
}
