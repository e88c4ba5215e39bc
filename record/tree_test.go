package record_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
)

// storedTree keeps every hash of a tree by x/mod's own layout, for proofs.
type storedTree []tlog.Hash

func (s storedTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = s[x]
	}
	return out, nil
}

func leafNumber(i int64) []byte { return binary.BigEndian.AppendUint64([]byte("leaf "), uint64(i)) }

func newStoredTree(t testing.TB, n int64) storedTree {
	t.Helper()
	var s storedTree
	for i := range n {
		s = s.append(t, leafNumber(i))
	}
	return s
}

func (s storedTree) append(t testing.TB, leaf []byte) storedTree {
	t.Helper()
	var n int64
	for tlog.StoredHashCount(n) < int64(len(s)) {
		n++
	}
	more, err := tlog.StoredHashes(n, leaf, s)
	if err != nil {
		t.Fatal(err)
	}
	return append(s, more...)
}

func (s storedTree) head(t testing.TB, n int64) record.TreeHead {
	t.Helper()
	root, err := tlog.TreeHash(n, s)
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		root = tlog.Hash(record.EmptyRoot)
	}
	return record.TreeHead{Size: uint64(n), Root: record.Hash(root)}
}

func (s storedTree) inclusion(t testing.TB, size, seq int64) []record.Hash {
	t.Helper()
	p, err := tlog.ProveRecord(size, seq, s)
	if err != nil {
		t.Fatal(err)
	}
	return hashes(p)
}

func (s storedTree) consistency(t testing.TB, old, size int64) []record.Hash {
	t.Helper()
	p, err := tlog.ProveTree(size, old, s)
	if err != nil {
		t.Fatal(err)
	}
	return hashes(p)
}

func hashes(p []tlog.Hash) []record.Hash {
	out := make([]record.Hash, len(p))
	for i, h := range p {
		out[i] = record.Hash(h)
	}
	return out
}

func TestRangeAgreesWithTlog(t *testing.T) {
	const n = 1000
	s := newStoredTree(t, n)
	var r record.Range
	if r.Root() != record.Hash(sha256.Sum256(nil)) {
		t.Errorf("got empty root %x", r.Root())
	}
	for i := range int64(n) {
		before := r.Clone()
		made := r.Append(record.LeafHash(leafNumber(i)))
		if r.Head() != s.head(t, i+1) {
			t.Fatalf("size %d: got root %x, want tlog's", i+1, r.Root())
		}
		for level, h := range made {
			if want := s[tlog.StoredHashIndex(level, (i+1)>>level-1)]; h != record.Hash(want) {
				t.Fatalf("entry %d, level %d: got another hash than tlog", i, level)
			}
		}
		if before.Head() != s.head(t, i) {
			t.Fatalf("size %d: appending changed the clone", i)
		}
		copied, err := record.NewRange(r.Size, r.Hashes)
		if err != nil || copied.Head() != r.Head() {
			t.Fatalf("size %d: read back: %v", i+1, err)
		}
		copied.Append(record.Hash{})
		if r.Head() != s.head(t, i+1) {
			t.Fatalf("size %d: appending to a copy changed the range", i+1)
		}
	}
}

func TestNewRangeCountsHashes(t *testing.T) {
	for size, count := range map[uint64]int{0: 1, 1: 0, 3: 1, 4: 2, 1 << 40: 0, 1<<64 - 1: 63} {
		if _, err := record.NewRange(size, make([]record.Hash, count)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("size %d, %d hashes: got %v, want ErrMalformed", size, count, err)
		}
	}
}

func TestProofs(t *testing.T) {
	const n = 70
	s := newStoredTree(t, n)
	for size := int64(1); size <= n; size++ {
		head := s.head(t, size)
		for i := range size {
			if err := record.VerifyInclusion(head, uint64(i), record.LeafHash(leafNumber(i)), s.inclusion(t, size, i)); err != nil {
				t.Errorf("entry %d in size %d: %v", i, size, err)
			}
			if err := record.VerifyConsistency(s.head(t, i+1), head, sameSize(i+1 == size, s, t, i+1, size)); err != nil {
				t.Errorf("size %d with %d: %v", i+1, size, err)
			}
		}
		if err := record.VerifyConsistency(record.TreeHead{Root: record.EmptyRoot}, head, nil); err != nil {
			t.Errorf("nothing with size %d: %v", size, err)
		}
	}
}

func sameSize(same bool, s storedTree, t *testing.T, old, size int64) []record.Hash {
	if same {
		return nil
	}
	return s.consistency(t, old, size)
}

// A thousand changed proofs of each sort, none of which may pass.
func TestMutatedProofs(t *testing.T) {
	seed := testSeed(t)
	rng := newRand(seed)
	const n = 300
	s := newStoredTree(t, n)
	type claim struct {
		head, old record.TreeHead
		seq       uint64
		leaf      record.Hash
		proof     []record.Hash
	}
	refuted := map[string]int{}
	for range 1000 {
		size := 2 + rng.Int64N(n-1)
		seq, old := rng.Int64N(size), 1+rng.Int64N(size-1)
		in := claim{head: s.head(t, size), seq: uint64(seq), leaf: record.LeafHash(leafNumber(seq)), proof: s.inclusion(t, size, seq)}
		co := claim{head: s.head(t, size), old: s.head(t, old), proof: s.consistency(t, old, size)}
		mutate := func(c *claim, inclusion bool) string {
			switch k := rng.IntN(9); {
			case k == 0 && len(c.proof) > 0:
				c.proof[rng.IntN(len(c.proof))][rng.IntN(32)] ^= 1 << rng.IntN(8)
				return "a bit of the proof"
			case k == 1 && len(c.proof) > 0:
				c.proof = c.proof[:len(c.proof)-1]
				return "shorter"
			case k == 2:
				c.proof = slices.Insert(c.proof, rng.IntN(len(c.proof)+1), record.Hash(randomBytes(rng, 32)))
				return "longer"
			case k == 3 && len(c.proof) > 1:
				i := rng.IntN(len(c.proof) - 1)
				c.proof[i], c.proof[i+1] = c.proof[i+1], c.proof[i]
				return "swapped"
			case k == 4:
				c.head.Root[rng.IntN(32)] ^= 1 << rng.IntN(8)
				return "a bit of the root"
			case k == 5 && inclusion:
				c.leaf[rng.IntN(32)] ^= 1 << rng.IntN(8)
				return "a bit of the leaf"
			case k == 6 && inclusion:
				if c.seq ^= 1; c.seq == uint64(size) {
					c.seq += 1 << 62
				}
				return "a neighbour's seq"
			case k == 5 && !inclusion:
				c.old.Root[rng.IntN(32)] ^= 1 << rng.IntN(8)
				return "a bit of the old root"
			case k == 6 && !inclusion && c.old.Size+1 < c.head.Size:
				c.old.Root = s.head(t, old+1).Root
				return "another size's old root"
			case k == 7:
				c.head.Size += 1 << (20 + rng.IntN(44))
				return "a size far away"
			}
			c.head.Size, c.old.Size, c.seq = c.old.Size, c.head.Size, c.head.Size
			return "sizes swapped"
		}
		what := mutate(&in, true)
		if err := record.VerifyInclusion(in.head, in.seq, in.leaf, in.proof); err == nil {
			t.Errorf("seed %d: inclusion of %d in %d holds with %s", seed, seq, size, what)
		}
		refuted["inclusion: "+what]++
		what = mutate(&co, false)
		if err := record.VerifyConsistency(co.old, co.head, co.proof); err == nil {
			t.Errorf("seed %d: consistency of %d with %d holds with %s", seed, old, size, what)
		}
		refuted["consistency: "+what]++
	}
	if len(refuted) < 16 {
		t.Errorf("only %d sorts of change were tried: %v", len(refuted), refuted)
	}
}

func TestConsistencyEdges(t *testing.T) {
	s := newStoredTree(t, 8)
	head := s.head(t, 8)
	other := record.TreeHead{Size: 8, Root: record.EmptyRoot}
	extra := []record.Hash{{}}
	huge := record.TreeHead{Size: 1<<64 - 1, Root: head.Root}
	for _, c := range []struct {
		name     string
		old, new record.TreeHead
		proof    []record.Hash
		sound    bool
	}{
		{"itself", head, head, nil, true},
		{"itself with a proof", head, head, extra, false},
		{"two roots for a size", head, other, nil, false},
		{"backwards", head, s.head(t, 7), nil, false},
		{"from nothing", record.TreeHead{}, head, nil, true},
		{"from nothing with a proof", record.TreeHead{}, head, extra, false},
		{"a size past 63 bits", head, huge, extra, false},
		{"a size past 62 bits", head, record.TreeHead{Size: 1<<62 + 1}, extra, false},
		{"the largest size", head, record.TreeHead{Size: 1 << 62}, extra, false},
		{"no proof", s.head(t, 4), head, nil, false},
	} {
		if err := record.VerifyConsistency(c.old, c.new, c.proof); (err == nil) != c.sound {
			t.Errorf("%s: got %v, want sound %v", c.name, err, c.sound)
		}
	}
	for _, seq := range []uint64{8, 9, 1 << 63, 1<<64 - 1} {
		if err := record.VerifyInclusion(head, seq, record.Hash{}, nil); err == nil {
			t.Errorf("seq %d in a tree of 8 is accepted", seq)
		}
	}
	if err := record.VerifyInclusion(record.TreeHead{Size: 1 << 62}, 1<<61, record.Hash{}, nil); err == nil {
		t.Error("no proof in the largest tree is accepted")
	}
	if err := record.VerifyInclusion(huge, 1<<63, record.Hash{}, nil); err == nil {
		t.Error("a seq past 63 bits is accepted")
	}
}
