package seal_test

import (
	"crypto/rand"
	"math"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// TestGenerationsCommitToTheirKeys: a number fits one key, however many came before.
func TestGenerationsCommitToTheirKeys(t *testing.T) {
	a, b := newKey(t, 1), newKey(t, 2)
	for _, last := range []uint64{0, 1, seal.ClosedGeneration(1, b), math.MaxUint64} {
		gen := seal.ClosedGeneration(last, a)
		if !seal.IsClosed(gen) || !a.IsGeneration(gen) || b.IsGeneration(gen) || !a.ID().NamesGeneration(gen) || b.ID().NamesGeneration(gen) {
			t.Errorf("after %x: %x", last, gen)
		}
		if last != math.MaxUint64 && gen <= last {
			t.Errorf("after %x comes %x", last, gen)
		}
	}
	if !a.IsGeneration(seal.GenerationFirst) || a.IsGeneration(0) || a.IsGeneration(2) || seal.IsClosed(1) || seal.IsClosed(1<<48) {
		t.Error("numbers without an ordinal")
	}
}

// TestChainLeadsBack: from the newest to all before it, past what is planted, and never forward.
func TestChainLeadsBack(t *testing.T) {
	c := record.CompartmentID{1}
	first, keys := newKey(t, 1), []seal.Key{newKey(t, 2), newKey(t, 3), newKey(t, 4)}
	var wraps []seal.Wrap
	link := func(newer seal.Key, gen uint64, older seal.Key) {
		w, err := seal.WrapKey(rand.Reader, newer, c, gen, older)
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, w)
	}
	gens, last := []uint64{}, uint64(seal.GenerationFirst)
	link(keys[2], seal.ClosedGeneration(1, keys[0]), newKey(t, 5)) // planted: another key under a known number
	for i, k := range keys {
		older, of := first, uint64(seal.GenerationFirst)
		if i > 0 {
			older, of = keys[i-1], gens[i-1]
		}
		link(k, of, older)
		last = seal.ClosedGeneration(last, k)
		gens = append(gens, last)
	}
	for i, k := range keys {
		found, by := seal.OpenChain(wraps, map[uint64]seal.Key{gens[i]: k})
		if len(found) != i+1 || len(by) != i+1 || found[seal.GenerationFirst] != first {
			t.Errorf("from %d: %d keys", i, len(found))
		}
		for j := range i {
			if found[gens[j]] != keys[j] {
				t.Errorf("from %d: another key for %d", i, j)
			}
		}
	}
	if found, _ := seal.OpenChain(wraps, map[uint64]seal.Key{seal.GenerationFirst: first}); len(found) != 0 {
		t.Error("the first leads forward")
	}
}

// TestKeyUnderItself: one key under many numbers, which says that it holds them.
func TestKeyUnderItself(t *testing.T) {
	c, k := record.CompartmentID{1}, newKey(t, 1)
	known := map[uint64]seal.Key{seal.ClosedGeneration(math.MaxUint64, k): k}
	var wraps []seal.Wrap
	for last := range uint64(100) {
		w, err := seal.WrapKey(rand.Reader, k, c, seal.ClosedGeneration(last<<48, k), k)
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, w, w)
	}
	found, by := seal.OpenChain(wraps, known)
	if len(found) != 99 || len(by) != 99 { // the first two numbers are one
		t.Errorf("%d keys, %d ways", len(found), len(by))
	}
}
