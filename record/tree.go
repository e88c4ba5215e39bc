package record

import (
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a SHA-256 of the Merkle tree (RFC 6962).
type Hash [32]byte

// TreeHead is a size with the root of the tree of that size.
type TreeHead struct {
	Size uint64
	Root Hash
}

// treeSizeMax bounds what a peer may claim: past it the search for a power of
// two in package tlog overflows and never ends.
const treeSizeMax = 1 << 62

// EmptyRoot is the root of the tree of size 0: SHA-256 of nothing.
var EmptyRoot = Hash{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}

// Range is the right edge of a tree: one hash for each set bit of its size, the
// largest subtree first. It is all that is needed to append and to know the root.
type Range struct {
	Size   uint64
	Hashes []Hash
}

// NewRange copies the hashes and checks that they fit the size.
func NewRange(size uint64, hashes []Hash) (Range, error) {
	if size > treeSizeMax || len(hashes) != bits.OnesCount64(size) {
		return Range{}, fmt.Errorf("reading tree edge: %w: %d hashes for size %d", ErrMalformed, len(hashes), size)
	}
	return Range{size, append([]Hash(nil), hashes...)}, nil
}

// Append adds one leaf hash and returns the subtree hashes that became complete
// by it, level 0 (the leaf itself) first.
func (r *Range) Append(leaf Hash) []Hash {
	made := []Hash{leaf}
	h := leaf
	for s := r.Size; s&1 == 1; s >>= 1 {
		left := r.Hashes[len(r.Hashes)-1]
		r.Hashes = r.Hashes[:len(r.Hashes)-1]
		h = nodeHash(left, h)
		made = append(made, h)
	}
	r.Hashes = append(r.Hashes, h)
	r.Size++
	return made
}

// Clone copies the range so that it can be tried on.
func (r *Range) Clone() Range {
	return Range{r.Size, append([]Hash(nil), r.Hashes...)}
}

// Root is the tree hash at this size.
func (r *Range) Root() Hash {
	if r.Size == 0 {
		return EmptyRoot
	}
	h := r.Hashes[len(r.Hashes)-1]
	for i := len(r.Hashes) - 2; i >= 0; i-- {
		h = nodeHash(r.Hashes[i], h)
	}
	return h
}

// Head is size and root.
func (r *Range) Head() TreeHead { return TreeHead{r.Size, r.Root()} }

func nodeHash(left, right Hash) Hash { return Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right))) }

// VerifyConsistency checks that the tree of old is a prefix of the tree of new
// (RFC 6962 section 2.1.2). Any tree is consistent with size 0.
func VerifyConsistency(old, new TreeHead, proof []Hash) error {
	switch {
	case new.Size > treeSizeMax:
		return fmt.Errorf("verifying consistency: %w: size %d", ErrMalformed, new.Size)
	case old.Size > new.Size:
		return fmt.Errorf("verifying consistency: size %d is past size %d", old.Size, new.Size)
	case old.Size == new.Size:
		if old.Root != new.Root || len(proof) != 0 {
			return fmt.Errorf("verifying consistency: two roots for size %d", old.Size)
		}
		return nil
	case old.Size == 0:
		if len(proof) != 0 {
			return fmt.Errorf("verifying consistency: a proof from size 0 is empty")
		}
		return nil
	}
	p := make(tlog.TreeProof, len(proof))
	for i, h := range proof {
		p[i] = tlog.Hash(h)
	}
	if err := tlog.CheckTree(p, int64(new.Size), tlog.Hash(new.Root), int64(old.Size), tlog.Hash(old.Root)); err != nil {
		return fmt.Errorf("verifying consistency of size %d with size %d: %w", old.Size, new.Size, err)
	}
	return nil
}

// VerifyInclusion checks that a leaf hash stands at seq in the tree of head.
func VerifyInclusion(head TreeHead, seq uint64, leaf Hash, proof []Hash) error {
	if head.Size > treeSizeMax {
		return fmt.Errorf("verifying inclusion: %w: size %d", ErrMalformed, head.Size)
	}
	if seq >= head.Size {
		return fmt.Errorf("verifying inclusion: seq %d is not in a tree of size %d", seq, head.Size)
	}
	p := make(tlog.RecordProof, len(proof))
	for i, h := range proof {
		p[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(p, int64(head.Size), tlog.Hash(head.Root), int64(seq), tlog.Hash(leaf)); err != nil {
		return fmt.Errorf("verifying inclusion of entry %d: %w", seq, err)
	}
	return nil
}

func checkSize(size uint64) error {
	if size > treeSizeMax {
		return fmt.Errorf("%w: size %d", ErrMalformed, size)
	}
	return nil
}
