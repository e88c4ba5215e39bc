package store

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/healthpost/healthpost/record"
)

const (
	tileHeight = 8
	tileHashes = 1 << tileHeight

	tileLevelMax = 7 // 8 levels of 8 bits
)

// tiles are the hashes of the tiles that are not full, one list for each tile
// level. A list only grows at its end, so older states share it; a full one is
// replaced.
type tiles [][]record.Hash

// tileRow is a tile that became full.
type tileRow struct {
	level int
	index uint64
	data  []byte
}

// add takes in the subtrees that became complete when one of 1<<level entries was
// added, its own first, as Range gives them. What lies below it is not known.
func (t *tiles) add(size uint64, level int, made []record.Hash) []tileRow {
	next := append(tiles(nil), *t...)
	*t = next
	var full []tileRow
	if inner := level % tileHeight; inner != 0 { // a part of a tile, whose hashes are not known
		t.grow(level/tileHeight, make([]record.Hash, 1<<inner)...)
	}
	for i, h := range made {
		if (level+i)%tileHeight == 0 {
			t.grow((level+i)/tileHeight, h)
		}
	}
	for at := range *t {
		list := (*t)[at]
		if len(list) == tileHashes {
			full = append(full, tileRow{at, size >> (tileHeight * (at + 1)), encodeTile(list)})
			(*t)[at] = nil
		}
	}
	return full
}

// encodeTile writes a full tile: all its hashes, or where some are not known 1, a
// bit for each of the 256, and those that are known.
func encodeTile(list []record.Hash) []byte {
	data := make([]byte, 0, 1+tileHashes*32)
	known := make([]byte, 1+tileHashes/8)
	known[0] = 1
	for i, x := range list {
		if x != (record.Hash{}) {
			known[1+i/8] |= 1 << (i % 8)
			data = append(data, x[:]...)
		}
	}
	if len(data) == tileHashes*32 {
		return data
	}
	return append(known, data...)
}

func decodeTile(b []byte) ([]record.Hash, bool) {
	hashes := make([]record.Hash, tileHashes)
	if len(b) == tileHashes*32 {
		for i := range hashes {
			hashes[i] = record.Hash(b[32*i:])
		}
		return hashes, true
	}
	const head = 1 + tileHashes/8
	if len(b) < head || b[0] != 1 {
		return nil, false
	}
	rest := b[head:]
	for i := range hashes {
		if b[1+i/8]>>(i%8)&1 == 0 {
			continue
		}
		if len(rest) < 32 {
			return nil, false
		}
		hashes[i], rest = record.Hash(rest), rest[32:]
	}
	return hashes, len(rest) == 0 && len(b) == len(encodeTile(hashes))
}

// subtree is the root over a power of two of hashes.
func subtree(hashes []record.Hash) record.Hash {
	var r record.Range
	for _, h := range hashes {
		r.Append(h)
	}
	return r.Root()
}

// hash gives the stored hash at a level of the tree and its index there.
func (l lookup) hash(level int, index uint64) (record.Hash, error) {
	tileLevel, inner := level/tileHeight, level%tileHeight
	first := index << inner // in hashes of the tile level
	tile, at := first/tileHashes, first%tileHashes
	n := uint64(1) << inner
	hashes, err := l.tile(tileLevel, tile)
	if err != nil {
		return record.Hash{}, err
	}
	if at+n > uint64(len(hashes)) {
		return record.Hash{}, fmt.Errorf("reading tree: %w: level %d index %d is past the end", ErrRefused, level, index)
	}
	if l.st.absent > 0 && slices.Contains(hashes[at:at+n], record.Hash{}) {
		return l.sparseHash(level, index)
	}
	return subtree(hashes[at : at+n]), nil
}

// tile gives the hashes of a tile, full or not. One whose row is damaged is
// computed from what is below it.
func (l lookup) tile(level int, index uint64) ([]record.Hash, error) {
	hashes, err := l.storedTile(level, index)
	if !errors.Is(err, ErrDamaged) {
		return hashes, err
	}
	made, merr := l.makeTile(level, index)
	if merr != nil {
		return nil, err
	}
	return made, nil
}

func (l lookup) storedTile(level int, index uint64) ([]record.Hash, error) {
	if full := l.st.ledger.Edge.Size >> (tileHeight * (level + 1)); full <= index {
		if full == index && level < len(l.st.partial) {
			return l.st.partial[level], nil
		}
		return nil, nil
	}
	key := keyTile(level, index)
	b, ok, err := l.get(key)
	if err != nil {
		return nil, fmt.Errorf("reading tree: %w", err)
	}
	if ok && (l.st.absent > 0 || len(b) == tileHashes*32) {
		if hashes, ok := decodeTile(b); ok {
			return hashes, nil
		}
	}
	if !ok && l.st.absent > 0 {
		within, err := l.withinHoles(index<<(tileHeight*(level+1)), (index+1)<<(tileHeight*(level+1)))
		if err != nil || within {
			return make([]record.Hash, tileHashes), err
		}
	}
	return nil, damagedRow(key, "tile of the tree is missing")
}

// makeTile computes a full tile from the tiles or the leaves below it.
func (l lookup) makeTile(level int, index uint64) ([]record.Hash, error) {
	hashes := make([]record.Hash, tileHashes)
	for i := range hashes {
		h, err := l.below(level, index*tileHashes+uint64(i))
		if err != nil {
			return nil, err
		}
		hashes[i] = h
	}
	return hashes, nil
}

// below computes a hash of a tile from what is under it; zero where that is not
// known.
func (l lookup) below(level int, at uint64) (record.Hash, error) {
	if level > 0 && l.st.absent == 0 {
		hashes, err := l.tile(level-1, at)
		if err != nil {
			return record.Hash{}, err
		}
		return subtree(hashes), nil
	}
	if level == 0 {
		leaf, ok, err := l.get(keySeq(pEntry, at))
		if err != nil || ok {
			return record.LeafHash(leaf), err
		}
	}
	if l.st.absent > 0 {
		h, err := l.sparseBelow(level*tileHeight, at)
		if errors.Is(err, ErrHole) {
			return record.Hash{}, nil
		}
		if err == nil || !errors.Is(err, ErrNotFound) {
			return h, err
		}
	}
	return record.Hash{}, damagedEntry(at, "entry is missing")
}

// ReadHashes implements tlog.HashReader.
func (l lookup) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		level, n := tlog.SplitStoredHashIndex(i)
		h, err := l.hash(level, uint64(n))
		if err != nil {
			return nil, err
		}
		out = append(out, tlog.Hash(h))
	}
	return out, nil
}

func (l lookup) rootAt(size uint64) (record.Hash, error) {
	switch {
	case size > l.st.ledger.Edge.Size:
		return record.Hash{}, fmt.Errorf("computing root: %w: size %d of %d", ErrRefused, size, l.st.ledger.Edge.Size)
	case size == 0:
		return record.EmptyRoot, nil
	}
	h, err := tlog.TreeHash(int64(size), l)
	if err != nil {
		return record.Hash{}, fmt.Errorf("computing root of size %d: %w", size, err)
	}
	return record.Hash(h), nil
}

// edgeAt gives what is needed to append to the tree of an earlier size.
func (l lookup) edgeAt(size uint64) (record.Range, tiles, error) {
	var hs []record.Hash
	at := uint64(0)
	for level := 63; level >= 0; level-- {
		if size>>level&1 == 0 {
			continue
		}
		h, err := l.hash(level, at>>level)
		if err != nil {
			return record.Range{}, nil, err
		}
		hs = append(hs, h)
		at += 1 << level
	}
	edge, err := record.NewRange(size, hs)
	var t tiles
	for level := 0; err == nil && size>>(tileHeight*level) > 0 && level <= tileLevelMax; level++ {
		n := size >> (tileHeight * level)
		for i := n &^ (tileHashes - 1); i < n && err == nil; i++ {
			var h record.Hash
			if h, err = l.hash(tileHeight*level, i); err == nil {
				t.grow(level, h)
			}
		}
	}
	return edge, t, err
}

// Head is size and root of the ledger held here.
func (s *Store) Head() record.TreeHead { return s.shown.Load().state.ledger.Edge.Head() }

// RootAt is the root of the first size entries. ErrRefused past the end.
func (s *Store) RootAt(size uint64) (root record.Hash, err error) {
	err = State{s}.read(func(l lookup) error { root, err = l.rootAt(size); return err })
	return root, err
}

// Tile gives the first width hashes, 1 to 256, of a tile of 256 hashes, each over
// 256^level entries (C2SP tlog-tiles, height 8). ErrRefused when the ledger does
// not have as many yet.
func (s *Store) Tile(level int, index uint64, width int) (out []record.Hash, err error) {
	err = State{s}.read(func(l lookup) error {
		if level < 0 || level > tileLevelMax || index > 1<<48 || width < 1 || width > tileHashes {
			return fmt.Errorf("reading tile: %w: level %d, index %d, width %d", ErrRefused, level, index, width)
		}
		hashes, err := l.tile(level, index)
		if err == nil && width <= len(hashes) && slices.Contains(hashes[:width], record.Hash{}) {
			err = fmt.Errorf("reading tile: %w: level %d, index %d", ErrHole, level, index)
		}
		if err == nil && len(hashes) < width {
			err = fmt.Errorf("reading tile: %w: level %d, index %d is not that wide", ErrRefused, level, index)
		}
		if err == nil {
			out = append([]record.Hash(nil), hashes[:width]...)
		}
		return err
	})
	return out, err
}

// InclusionProof proves entry seq in the tree of a size (RFC 6962 section 2.1.1).
func (s *Store) InclusionProof(seq, size uint64) (proof []record.Hash, err error) {
	err = State{s}.read(func(l lookup) error {
		if size > l.st.ledger.Edge.Size || seq >= size {
			return fmt.Errorf("proving entry %d in size %d: %w", seq, size, ErrRefused)
		}
		p, err := tlog.ProveRecord(int64(size), int64(seq), l)
		proof = hashes(p)
		return err
	})
	return proof, err
}

// ConsistencyProof proves the tree of size old a prefix of that of size new (RFC
// 6962 section 2.1.2). It is empty for equal sizes and from size 0.
func (s *Store) ConsistencyProof(old, new uint64) (proof []record.Hash, err error) {
	err = State{s}.read(func(l lookup) error {
		if new > l.st.ledger.Edge.Size || old > new {
			return fmt.Errorf("proving size %d a prefix of %d: %w", old, new, ErrRefused)
		}
		if old == 0 || old == new {
			return nil
		}
		p, err := tlog.ProveTree(int64(new), int64(old), l)
		proof = hashes(p)
		return err
	})
	return proof, err
}

func hashes[T ~[]tlog.Hash](p T) []record.Hash {
	out := make([]record.Hash, len(p))
	for i, h := range p {
		out[i] = record.Hash(h)
	}
	return out
}
