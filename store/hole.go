package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// A hole is a run of entries of which this replica holds no record, only the hashes
// of the fewest perfect subtrees that make it up. A hash of the tree at a level of
// the tiles (8, 16, ...) is known, and in its tile, unless its entries lie inside
// one of those subtrees; a hash between those levels is made of the ones below it or
// is that of a subtree of a hole. So the roots at every end of a hole can be
// computed, and every entry that is held can be proven.

// Hole is a run of entries [From, To) that are not held.
type Hole = record.Hole

// holeRow is a hole at rest; its key has the first entry.
type holeRow struct{ record.GapHashes }

func keyHole(from uint64) []byte { return keySeq(pHole, from) }

func (h *holeRow) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+32*len(h.Hashes)), h.To)
	for _, x := range h.Hashes {
		b = append(b, x[:]...)
	}
	return b
}

func decodeHoleRow(key, b []byte) (h holeRow, err error) {
	if len(key) != 9 || len(b) < 8 || len(b)%32 != 8 {
		return h, damagedRow(key, "hole")
	}
	h.From, h.To = binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(b)
	for p := b[8:]; len(p) > 0; p = p[32:] {
		h.Hashes = append(h.Hashes, record.Hash(p))
	}
	if err := h.Check(); err != nil {
		return h, damagedRow(key, err.Error())
	}
	return h, nil
}

// piece is the hash of a subtree of the hole.
func (h *holeRow) piece(level int, index uint64) (record.Hash, bool) {
	for i, s := range record.GapShape(h.From, h.To) {
		if s.Level == level && s.Index == index {
			return h.Hashes[i], true
		}
	}
	return record.Hash{}, false
}

// snapshot is what a lookup reads from, without a transaction's own rows.
func (l lookup) snapshot() *view {
	if t, ok := l.rows.(*tx); ok {
		return t.view
	}
	return l.rows.(*view)
}

// holeAt finds the hole that an entry lies in.
func (l lookup) holeAt(seq uint64) (h holeRow, ok bool, err error) {
	err = l.snapshot().scan([]byte{pHole}, keyHole(seq), true, func(key, value []byte) (bool, error) {
		h, err = decodeHoleRow(key, value)
		ok = err == nil && seq < h.To
		return false, err
	})
	return h, ok, err
}

// withinHoles says whether all entries [from, to) are in holes.
func (l lookup) withinHoles(from, to uint64) (bool, error) {
	for from < to {
		h, ok, err := l.holeAt(from)
		if err != nil || !ok {
			return false, err
		}
		from = h.To
	}
	return true, nil
}

// eachHole calls f for the holes that reach past an entry, in order, until f
// returns false.
func (l lookup) eachHole(from uint64, f func(h *holeRow) (bool, error)) error {
	first, ok, err := l.holeAt(from)
	if err != nil {
		return err
	}
	if ok {
		from = first.From
	}
	return l.snapshot().scan([]byte{pHole}, keyHole(from), false, func(key, value []byte) (bool, error) {
		h, err := decodeHoleRow(key, value)
		if err != nil {
			return false, err
		}
		return f(&h)
	})
}

// loadHoles counts what is not held.
func loadHoles(l lookup) error {
	last := uint64(0)
	return l.eachHole(0, func(h *holeRow) (bool, error) {
		if h.From < last || h.To > l.Size() {
			return false, damagedRow(keyHole(h.From), "hole overlaps another or the ledger's end")
		}
		last = h.To
		l.st.absent += h.To - h.From
		return true, nil
	})
}

// pastHoles takes the holes at the end of a tree into it.
func (l lookup) pastHoles(edge *record.Range) error {
	for {
		h, ok, err := l.holeAt(edge.Size)
		if err != nil || !ok || h.From != edge.Size {
			return err
		}
		if err := edge.AppendGap(&h.GapHashes); err != nil {
			return err
		}
	}
}

// sparseHash is hash where its tile does not know all of it.
func (l lookup) sparseHash(level int, index uint64) (record.Hash, error) {
	if level%tileHeight == 0 { // it would be in its tile
		return record.Hash{}, holeOf(level, index)
	}
	return l.sparseBelow(level, index)
}

func holeOf(level int, index uint64) error {
	return fmt.Errorf("reading tree: %w: level %d index %d", ErrHole, level, index)
}

// sparseBelow is the hash of a subtree that is one of a hole's, or made of the two
// below it. ErrHole when it is not known, ErrNotFound for an entry that is in no
// hole.
func (l lookup) sparseBelow(level int, index uint64) (record.Hash, error) {
	s := record.Subtree{Level: level, Index: index}
	h, ok, err := l.holeAt(s.From())
	if err != nil {
		return record.Hash{}, err
	}
	if ok && s.To() <= h.To {
		if hash, ok := h.piece(level, index); ok {
			return hash, nil
		}
		return record.Hash{}, holeOf(level, index)
	}
	if level == 0 {
		return record.Hash{}, ErrNotFound
	}
	left, err := l.hash(level-1, 2*index)
	if err != nil {
		return record.Hash{}, err
	}
	right, err := l.hash(level-1, 2*index+1)
	if err != nil {
		return record.Hash{}, err
	}
	return subtree([]record.Hash{left, right}), nil
}

// gapAt gives a run of entries as hashes.
func (l lookup) gapAt(from, to uint64) (g record.GapHashes, err error) {
	g = record.GapHashes{From: from, To: to}
	g.Hashes, err = l.shape(from, to)
	return g, err
}

func (l lookup) shape(from, to uint64) ([]record.Hash, error) {
	shape := record.GapShape(from, to)
	out := make([]record.Hash, 0, len(shape))
	for _, s := range shape {
		h, err := l.hash(s.Level, s.Index)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

// Holes lists the runs of entries that are not held, in order, at most max.
// Neighbouring ones may touch.
func (s *Store) Holes(max int) ([]Hole, error) {
	var out []Hole
	err := s.read(func(l lookup) error {
		if l.st.absent == 0 || max <= 0 {
			return nil
		}
		return l.eachHole(0, func(h *holeRow) (bool, error) {
			out = append(out, Hole{From: h.From, To: h.To})
			return len(out) < max, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing holes: %w", err)
	}
	return out, nil
}

// HolesBefore is Holes from the newest to the oldest, beginning before a size.
func (s *Store) HolesBefore(size uint64, max int) ([]Hole, error) {
	var out []Hole
	err := s.read(func(l lookup) error {
		if l.st.absent == 0 || max <= 0 || size == 0 {
			return nil
		}
		return l.snapshot().scan([]byte{pHole}, keyHole(size-1), true, func(key, value []byte) (bool, error) {
			h, err := decodeHoleRow(key, value)
			out = append(out, Hole{From: h.From, To: h.To})
			return len(out) < max, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing holes: %w", err)
	}
	return out, nil
}

// HasHoles says whether entries of the ledger are not held.
func (s *Store) HasHoles() bool { return s.Absent() > 0 }

// Absent is how many entries of the ledger are not held.
func (s *Store) Absent() uint64 { return s.shown.Load().state.absent }

// keyMissing names an entry that a later one of its compartment points back to and
// that lies in a hole.
func keyMissing(c record.CompartmentID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{pMissing}, c[:]...), seq)
}

// MissingOf says whether entries of a compartment are known not to be held: a
// later entry that is held points back to one in a hole. What came after the last
// one held, of a compartment outside of this device's profile, nobody here knows.
func (s *Store) MissingOf(c record.CompartmentID) (missing bool, err error) {
	err = s.read(func(l lookup) error {
		if l.st.absent == 0 {
			return nil
		}
		return l.snapshot().scan(append([]byte{pMissing}, c[:]...), nil, false, func([]byte, []byte) (bool, error) {
			missing = true
			return false, nil
		})
	})
	if err != nil {
		return false, fmt.Errorf("looking for missing entries: %w", err)
	}
	return missing, nil
}

// Missing lists the compartments of which MissingOf is true, at most max.
func (s *Store) Missing(max int) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) error {
		from := []byte{pMissing}
		for l.st.absent > 0 && len(out) < max && from != nil {
			next := []byte(nil)
			err := l.snapshot().scan([]byte{pMissing}, from, false, func(key, _ []byte) (bool, error) {
				if len(key) != 25 {
					return false, damagedRow(key, "missing entry")
				}
				c := record.CompartmentID(key[1:17])
				out = append(out, c)
				next = keyMissing(c, ^uint64(0)) // behind the last one of it
				return false, nil
			})
			if err != nil {
				return err
			}
			from = next
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing missing entries: %w", err)
	}
	return out, nil
}

// GapsOf lists runs [from, to) of entries from one on in which entries of a compartment
// are, or may be, that are not held, in order, at most max: before each that a later one
// points back to, as far as the one held before it, and what is behind the last one
// held. No entry of the compartment that is held is in one.
func (s *Store) GapsOf(c record.CompartmentID, from uint64, max int) (out []Hole, err error) {
	err = s.read(func(l lookup) error {
		if l.st.absent == 0 || max <= 0 {
			return nil
		}
		err := l.snapshot().scan(append([]byte{pMissing}, c[:]...), keyMissing(c, from), false, func(key, _ []byte) (bool, error) {
			if len(key) != 25 {
				return false, damagedRow(key, "missing entry")
			}
			h := Hole{To: binary.BigEndian.Uint64(key[17:]) + 1}
			h.From, err = l.behind(c, from, h.To)
			out = append(out, h)
			return len(out) < max, err
		})
		if err != nil || len(out) == max {
			return err
		}
		tail := Hole{To: l.Size()}
		if tail.From, err = l.behind(c, from, tail.To); err == nil && tail.From < tail.To {
			out = append(out, tail)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing what is missing of a compartment: %w", err)
	}
	return out, nil
}

// behind is the first place behind the last entry of a compartment that is held
// before a place, and not before from.
func (l lookup) behind(c record.CompartmentID, from, before uint64) (uint64, error) {
	at := from
	err := l.snapshot().scan(append([]byte{pScope}, c[:]...), keyScope(c, before-1), true, func(key, _ []byte) (bool, error) {
		if len(key) != 25 {
			return false, damagedRow(key, "compartment index")
		}
		at = max(at, binary.BigEndian.Uint64(key[17:])+1)
		return false, nil
	})
	return at, err
}

// CompartmentSeqs gives the seqs of the entries of a compartment from one on, in
// order, at most max. On a replica with holes those that are held.
func (s *Store) CompartmentSeqs(c record.CompartmentID, from uint64, max int) ([]uint64, error) {
	var out []uint64
	err := s.read(func(l lookup) error {
		if max <= 0 {
			return nil
		}
		return l.snapshot().scan(append([]byte{pScope}, c[:]...), keyScope(c, from), false, func(key, _ []byte) (bool, error) {
			if len(key) != 25 {
				return false, damagedRow(key, "compartment index")
			}
			out = append(out, binary.BigEndian.Uint64(key[17:]))
			return len(out) < max, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing a compartment: %w", err)
	}
	return out, nil
}

// RangeProof gives the hashes by which entries [from, to) are verified in the tree
// of a size: see record.VerifyRange. ErrRefused past the end; ErrHole where this
// replica does not know them itself.
func (s *Store) RangeProof(from, to, size uint64) (left, right []record.Hash, err error) {
	err = s.read(func(l lookup) error {
		if size > l.Size() || to > size || from > to {
			return fmt.Errorf("proving entries %d to %d in size %d: %w", from, to, size, ErrRefused)
		}
		var rerr error
		left, err = l.shape(0, from)
		right, rerr = l.shape(to, size)
		return errors.Join(err, rerr)
	})
	return left, right, err
}
