package record_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// leavesOf makes leaf hashes that differ.
func leavesOf(n int, seed uint64) []record.Hash {
	r := rand.New(rand.NewPCG(seed, 7))
	out := make([]record.Hash, n)
	for i := range out {
		for j := range out[i] {
			out[i][j] = byte(r.Uint32())
		}
	}
	return out
}

// gapOf gives the hashes of a run of leaves as a server would.
func gapOf(leaves []record.Hash, from, to uint64) record.GapHashes {
	g := record.GapHashes{From: from, To: to}
	for _, s := range record.GapShape(from, to) {
		var r record.Range
		for _, h := range leaves[s.From():s.To()] {
			r.Append(h)
		}
		g.Hashes = append(g.Hashes, r.Root())
	}
	return g
}

func TestGapShapeTiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Uint64Range(0, 1<<40).Draw(t, "from")
		n := rapid.Uint64Range(0, 1<<30).Draw(t, "n")
		at := from
		for _, s := range record.GapShape(from, from+n) {
			if s.From() != at {
				t.Fatalf("a subtree begins at %d, want %d", s.From(), at)
			}
			if at = s.To(); at > from+n {
				t.Fatalf("a subtree ends at %d, past %d", at, from+n)
			}
			up := record.Subtree{Level: s.Level + 1, Index: s.Index / 2}
			if up.From() >= from && up.To() <= from+n {
				t.Fatalf("subtree %v could be part of a larger one", s)
			}
		}
		if at != from+n {
			t.Fatalf("the subtrees end at %d, want %d", at, from+n)
		}
	})
}

func TestGapsReachTheSameRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 300).Draw(t, "size")
		leaves := leavesOf(size, rapid.Uint64().Draw(t, "seed"))
		var full, partial record.Range
		for at := 0; at < size; {
			n := rapid.IntRange(1, size-at).Draw(t, "run")
			if rapid.Bool().Draw(t, "gap") {
				g := gapOf(leaves, uint64(at), uint64(at+n))
				if err := partial.AppendGap(&g); err != nil {
					t.Fatal(err)
				}
			} else {
				for _, h := range leaves[at : at+n] {
					partial.Append(h)
				}
			}
			for _, h := range leaves[at : at+n] {
				full.Append(h)
			}
			at += n
			if got, want := partial.Head(), full.Head(); got != want {
				t.Fatalf("after %d entries the root is %x, want %x", at, got.Root, want.Root)
			}
		}
	})
}

func TestVerifyRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 200).Draw(t, "size")
		leaves := leavesOf(size, rapid.Uint64().Draw(t, "seed"))
		from := rapid.IntRange(0, size).Draw(t, "from")
		to := rapid.IntRange(from, size).Draw(t, "to")
		var r record.Range
		for _, h := range leaves {
			r.Append(h)
		}
		head := r.Head()
		left, right := gapOf(leaves, 0, uint64(from)).Hashes, gapOf(leaves, uint64(to), uint64(size)).Hashes
		some := slices.Clone(leaves[from:to])
		if err := record.VerifyRange(head, uint64(from), some, left, right); err != nil {
			t.Fatalf("entries %d to %d of %d: %v", from, to, size, err)
		}
		all := [][]record.Hash{some, left, right}
		which := rapid.IntRange(0, 2).Draw(t, "list")
		if len(all[which]) == 0 {
			return
		}
		i := rapid.IntRange(0, len(all[which])-1).Draw(t, "hash")
		all[which][i][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
		if err := record.VerifyRange(head, uint64(from), some, left, right); err == nil {
			t.Fatal("a changed hash was accepted")
		}
		all[which] = slices.Delete(all[which], i, i+1)
		if err := record.VerifyRange(head, uint64(from), all[0], all[1], all[2]); err == nil {
			t.Fatal("a missing hash was accepted")
		}
	})
}

func TestAppendSubtreeRefusesWhatDoesNotFit(t *testing.T) {
	r, err := record.NewRange(6, leavesOf(2, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []int{-1, 2, 3, 62, 64} {
		before := r.Clone()
		if _, err := r.AppendSubtree(level, record.Hash{1}); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("level %d at size 6: got %v, want ErrMalformed", level, err)
		}
		if r.Size != before.Size || !slices.Equal(r.Hashes, before.Hashes) {
			t.Errorf("level %d: a refused subtree changed the range", level)
		}
	}
	if _, err := r.AppendSubtree(1, record.Hash{1}); err != nil || r.Size != 8 || len(r.Hashes) != 1 {
		t.Errorf("level 1 at size 6: size %d, %d hashes, %v", r.Size, len(r.Hashes), err)
	}
	g := record.GapHashes{From: 12, To: 14, Hashes: leavesOf(1, 2)}
	if err := r.AppendGap(&g); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("a gap that begins elsewhere: got %v, want ErrMalformed", err)
	}
	if err := record.VerifyRange(record.TreeHead{Size: 4}, 5, nil, leavesOf(2, 1), nil); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("entries past the tree: got %v, want ErrMalformed", err)
	}
}

func TestNodesMakeHashes(t *testing.T) {
	leaves := leavesOf(16, 3)
	n := record.Nodes{}
	n.AddGap(1, 16, gapOf(leaves, 1, 16).Hashes)
	whole := record.Subtree{Level: 4}
	if _, ok := n.Hash(whole); ok {
		t.Fatal("a hash was made without the first entry")
	}
	n[record.Subtree{}] = leaves[0]
	if got, ok := n.Hash(whole); !ok || got != gapOf(leaves, 0, 16).Hashes[0] {
		t.Fatalf("hash of all is %x, %v", got, ok)
	}
}

func TestGapCodec(t *testing.T) {
	leaves := leavesOf(300, 4)
	for _, r := range [][2]uint64{{0, 1}, {0, 256}, {1, 2}, {5, 290}, {255, 300}} {
		g := gapOf(leaves, r[0], r[1])
		b := record.AppendGap([]byte("x"), &g)[1:]
		got, rest, err := record.TakeGap(append(slices.Clone(b), 9))
		if err != nil || len(rest) != 1 || got.From != g.From || got.To != g.To || !slices.Equal(got.Hashes, g.Hashes) {
			t.Errorf("gap %v came back as %v, %d bytes left, %v", r, got, len(rest), err)
		}
		for i := range b {
			if _, _, err := record.TakeGap(b[:i]); !errors.Is(err, record.ErrMalformed) {
				t.Fatalf("gap %v cut at byte %d: got %v, want ErrMalformed", r, i, err)
			}
		}
	}
}

func FuzzTakeGap(f *testing.F) {
	g := gapOf(leavesOf(20, 5), 3, 20)
	f.Add(record.AppendGap(nil, &g))
	f.Add([]byte{0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.TakeGap(b) })
		g, rest, err := record.TakeGap(b)
		if err != nil {
			return
		}
		if err := g.Check(); err != nil {
			t.Fatalf("a gap that was read does not check: %v", err)
		}
		if again := record.AppendGap(nil, &g); string(again)+string(rest) != string(b) {
			t.Fatal("a gap is written in another way than it was read")
		}
	})
}
