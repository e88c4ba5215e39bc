package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// MendBlob reads every part of an attachment that should be here and notes those that
// are lost or do not verify as missing, so that peers give them again, durable on
// return. lost counts them.
func (s *Store) MendBlob(ctx context.Context, id record.BlobID) (lost int, err error) {
	err = s.blobWrite(ctx, true, func(t *tx) error {
		l := t.lookup()
		st, ok, err := l.blob(id)
		if err != nil || !ok {
			return err
		}
		if err := t.listAgain(&st); err != nil {
			return err
		}
		for part := range st.Parts() {
			if !st.Holds(part) || part == 0 && st.Chunks() == 1 {
				continue
			}
			p, ok, err := l.get(keyBlobPart(id, part))
			if err == nil && ok {
				err = l.partFits(&st, part, p)
			}
			if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrRefused) {
				return err
			}
			if err == nil && ok {
				continue
			}
			lost++
			st.Have[part/8] &^= 1 << (part % 8)
			t.unset(keyBlobPart(id, part))
			if st.RID != (record.RID{}) {
				if err := t.chargeBlob(st.Author, -st.PartLen(part)); err != nil {
					return err
				}
			}
		}
		if lost > 0 {
			t.putBlob(&st)
			t.next.blobs++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("mending attachment %s: %w", id.Short(), err)
	}
	return lost, nil
}

// listAgain makes the list of hashes anew where it is damaged and all chunks are not.
func (t *tx) listAgain(st *BlobState) error {
	l := t.lookup()
	key := keyBlobPart(st.ID(), 0)
	list, ok, err := l.get(key)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err == nil && ok && l.partFits(st, 0, list) == nil || st.Chunks() == 1 {
		return nil
	}
	var leaves []record.Hash
	list = nil
	for part := 1; part < st.Parts(); part++ {
		p, ok, err := l.get(keyBlobPart(st.ID(), part))
		if err != nil || !ok {
			return ignoreDamage(err)
		}
		h := record.LeafHash(p)
		leaves, list = append(leaves, h), append(list, h[:]...)
	}
	if st.VerifyLeaves(leaves) == nil {
		t.put(key, list)
		st.Have[0] |= 1
		t.putBlob(st)
	}
	return nil
}
