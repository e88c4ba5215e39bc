package store

import (
	"context"
	"errors"
	"math/bits"

	"github.com/healthpost/healthpost/record"
)

// ledger copies entries to their places, up to limit, the first damaged one, or
// the first that the rules do not take.
func (b *rebuild) ledger(ctx context.Context, limit uint64) error {
	for b.rep.Entries < limit {
		if err := ctx.Err(); err != nil {
			return err
		}
		passed, err := b.adoptHole(limit)
		if err != nil {
			return err
		}
		if passed {
			continue
		}
		entries, err := b.soundEntries(b.rep.Entries, limit)
		if err != nil || len(entries) == 0 {
			return err
		}
		n, err := b.adopt(entries)
		b.rep.Entries += uint64(n)
		if err != nil || n < len(entries) {
			return err
		}
	}
	return nil
}

// soundEntries reads some entries, up to the first that is damaged or that is not
// the one its tile says.
func (b *rebuild) soundEntries(from, to uint64) (out []record.Entry, err error) {
	err = b.src.read(func(l lookup) error {
		read := 0
		var tile []record.Hash
		for seq := from; seq < to && read < rebuildBytesMax; seq++ {
			e, err := l.entry(seq, true)
			if errors.Is(err, ErrHole) {
				return nil
			}
			if err != nil {
				return ignoreDamage(err)
			}
			if tile == nil || seq%tileHashes == 0 {
				if tile, err = l.storedTile(0, seq/tileHashes); err != nil && !errors.Is(err, ErrDamaged) {
					return err
				}
			}
			if full := seq < b.rep.Size&^(tileHashes-1); full && len(tile) == tileHashes && tile[seq%tileHashes] != (record.Hash{}) && tile[seq%tileHashes] != record.LeafHash(e.EncodeLeaf()) {
				return nil
			}
			read += len(e.Record.Body) + record.HeaderBytesMax
			out = append(out, e)
		}
		return nil
	})
	return out, err
}

// adopt appends entries under the rules and says how many passed.
func (b *rebuild) adopt(entries []record.Entry) (n int, err error) {
	recs := make([]record.Record, len(entries))
	for i := range entries {
		recs[i] = entries[i].Record
	}
	if err := b.dst.read(func(l lookup) error { return b.dst.checkAhead(l, recs) }); err != nil {
		return 0, err
	}
	err = b.write(func(t *tx) error {
		if err := b.adoptOpenings(t, entries); err != nil {
			return err
		}
		o := record.NewOrderer(lookup{t, t.state}, t.s.verified.has)
		o.Bare()
		for n = range entries {
			e := &entries[n]
			out, err := t.again(o, e)
			if err != nil {
				return err
			}
			if out.Verdict != record.Ordered {
				return t.apply(&o.Changes)
			}
			if made := o.Changes.Entries[n]; made.Time != e.Time || made.PrevSeq != e.PrevSeq {
				if n == 0 {
					return nil
				}
				return t.applyFirst(entries[:n])
			}
		}
		n = len(entries)
		return t.apply(&o.Changes)
	})
	return n, err
}

// applyFirst applies entries that passed before.
func (t *tx) applyFirst(entries []record.Entry) error {
	o := record.NewOrderer(lookup{t, t.state}, t.s.verified.has)
	o.Bare()
	for i := range entries {
		if _, err := t.again(o, &entries[i]); err != nil {
			return err
		}
	}
	return t.apply(&o.Changes)
}

// again judges an entry at its place, as far as those before it are held.
func (t *tx) again(o *record.Orderer, e *record.Entry) (record.Outcome, error) {
	if t.state.absent == 0 {
		return o.Add(e.Time, e.Record)
	}
	o.Sparse()
	return o.Place(e)
}

// adoptHole copies the hole that begins where the copy ends.
func (b *rebuild) adoptHole(limit uint64) (passed bool, err error) {
	var h holeRow
	err = b.src.read(func(l lookup) (err error) {
		h, passed, err = l.holeAt(b.rep.Entries)
		return err
	})
	if err = ignoreDamage(err); err != nil || !passed || h.From != b.rep.Entries || h.To > limit {
		return false, err
	}
	err = b.write(func(t *tx) error {
		edge := t.next.ledger.Edge.Clone()
		if err := t.addHole(&edge, &h.GapHashes); err != nil {
			return err
		}
		t.next.ledger.Edge = edge
		t.put(keyLedger, t.next.ledger.encode())
		return nil
	})
	if err == nil {
		b.rep.Entries = h.To
	}
	return err == nil, err
}

// adoptOpenings copies the beginnings of epochs and sessions whose places are in
// holes.
func (b *rebuild) adoptOpenings(t *tx, entries []record.Entry) error {
	if t.state.absent == 0 {
		return nil
	}
	var openings []record.Record
	err := b.src.read(func(l lookup) (err error) {
		openings, err = l.openingsOf(entries)
		return err
	})
	if err != nil {
		return ignoreDamage(err)
	}
	err = t.addOpenings(entries, openings)
	if errors.Is(err, ErrRefused) { // one that does not verify: the entry that needs it says so
		return nil
	}
	return err
}

// proven is the largest size up to that of the copy whose tree the damaged store's
// ledger row, or without it the checkpoints, prove to be a prefix.
func (b *rebuild) proven() (uint64, error) {
	size := b.rep.Entries
	for {
		ok, err := b.isPrefix(size)
		if err != nil || ok || size == 0 {
			return size, err
		}
		size &= size - 1 // without its smallest complete subtree
	}
}

func (b *rebuild) isPrefix(size uint64) (ok bool, err error) {
	root, err := b.dst.RootAt(size)
	if errors.Is(err, ErrHole) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = b.src.read(func(l lookup) error {
		for _, h := range []record.TreeHead{l.st.final.head, l.st.signed} {
			if h == (record.TreeHead{}) || h.Size > size {
				continue
			}
			if r, err := b.dst.RootAt(h.Size); err != nil || r != h.Root {
				return ignoreHole(err)
			}
		}
		edge := &l.st.ledger.Edge
		if size == 0 || size == edge.Size {
			ok = size == 0 || root == edge.Root()
			return nil
		}
		mine, err := b.edgeOf(size)
		if err != nil {
			return err
		}
		if ok = startsWith(edge, &mine); ok {
			return nil
		}
		proof, err := b.src.ConsistencyProof(size, edge.Size)
		if err != nil {
			return ignoreHole(ignoreDamage(err))
		}
		ok = record.VerifyConsistency(record.TreeHead{Size: size, Root: root}, edge.Head(), proof) == nil
		return nil
	})
	return ok, err
}

func (b *rebuild) edgeOf(size uint64) (edge record.Range, err error) {
	err = b.dst.read(func(l lookup) error {
		hashes, err := l.shape(0, size)
		if err == nil {
			edge, err = record.NewRange(size, hashes)
		}
		return err
	})
	return edge, err
}

func ignoreHole(err error) error {
	if errors.Is(err, ErrHole) {
		return nil
	}
	return err
}

// startsWith says whether the complete subtrees of a smaller tree are the first of
// those of a larger one.
func startsWith(edge, first *record.Range) bool {
	left := edge.Size
	for range first.Hashes { // take the largest subtrees off
		left &^= 1 << (bits.Len64(left) - 1)
	}
	if len(first.Hashes) > len(edge.Hashes) || edge.Size-left != first.Size {
		return false
	}
	for i := range first.Hashes {
		if first.Hashes[i] != edge.Hashes[i] {
			return false
		}
	}
	return true
}
