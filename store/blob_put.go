package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// ErrBlobQuota: so much is kept of what one device announced that no more is taken.
var ErrBlobQuota = errors.New("too much is kept of one device's attachments")

// Limits of what attachments may take.
const (
	// blobFreeMin is the room, beyond what any write needs to find, that parts from
	// other boxes leave to records.
	blobFreeMin  = 256 << 20
	blobBatchMax = 48 // parts in one transaction: under a quarter of a frame
)

// SaveBlob keeps the sealed chunks of an attachment that a record of this box is
// about to announce, durable on return. Until then it is staged: now, in Unix
// seconds, says since when.
func (s *Store) SaveBlob(ctx context.Context, chunks [][]byte, now int64) (record.Blob, error) {
	b, leaves, err := record.BlobOf(chunks)
	if err != nil {
		return b, err
	}
	st := newBlobState(b)
	st.Staged = max(now, 1)
	var list []byte
	for _, h := range leaves {
		list = append(list, h[:]...)
	}
	for part := 0; part < b.Parts(); {
		last := min(part+blobBatchMax, b.Parts())
		err := s.blobWrite(ctx, last == b.Parts(), func(t *tx) error {
			for ; part < last; part++ {
				p := list
				if part > 0 {
					p = chunks[part-1]
				}
				if part > 0 || len(chunks) > 1 {
					t.put(keyBlobPart(b.ID(), part), p)
				}
				st.Have[part/8] |= 1 << (part % 8)
			}
			if last == b.Parts() {
				t.put(keyBlob(blobOnly, b.ID()), nil)
			}
			t.putBlob(&st)
			return nil
		})
		if err != nil {
			return b, fmt.Errorf("keeping an attachment: %w", err)
		}
	}
	return b, nil
}

// blobWrite runs one transaction; durable also makes all before it durable.
func (s *Store) blobWrite(ctx context.Context, durable bool, f func(*tx) error) error {
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	if err := f(t); err != nil {
		t.drop()
		return err
	}
	if len(t.rows) == 0 {
		t.drop()
		return nil
	}
	if durable {
		return t.commit()
	}
	return t.show()
}

// PutBlobPart keeps a part of an announced attachment after verifying it, durable
// on return; whole says that no part is missing any more, fresh that this one was.
// ErrRefused for what nobody announced and what does not have its hash, ErrBlobQuota
// and ErrFull where there is no room for it.
func (s *Store) PutBlobPart(ctx context.Context, id record.BlobID, part int, b []byte) (fresh, whole bool, err error) {
	err = s.read(func(l lookup) error { return l.blobFits(id, part, b) })
	if err == nil {
		err = s.roomForBlobs()
	}
	if err != nil {
		return false, false, fmt.Errorf("keeping part %d of attachment %s: %w", part, id.Short(), err)
	}
	err = s.blobWrite(ctx, true, func(t *tx) error {
		fresh, whole, err = t.putBlobPart(id, part, b)
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("keeping part %d of attachment %s: %w", part, id.Short(), err)
	}
	return fresh, whole, nil
}

// putBlobPart keeps a part that was verified. What it was verified against
// does not change while a record announces it.
func (t *tx) putBlobPart(id record.BlobID, part int, b []byte) (fresh, whole bool, err error) {
	st, ok, err := t.lookup().blob(id)
	if err != nil || !ok {
		return false, false, errors.Join(err, fmt.Errorf("%w: it was dropped", ErrRefused))
	}
	if st.Holds(part) {
		return false, st.Whole(), nil
	}
	had, err := t.lookup().blobCharge(st.Author)
	if err != nil || had+uint64(len(b)) > uint64(t.s.o.BlobBytesPerAuthor) {
		return false, false, errors.Join(err, ErrBlobQuota)
	}
	if err := t.chargeBlob(st.Author, len(b)); err != nil {
		return false, false, err
	}
	t.holdBlobPart(&st, part, b)
	return true, st.Whole(), nil
}

func (t *tx) holdBlobPart(st *BlobState, part int, b []byte) {
	t.put(keyBlobPart(st.ID(), part), b)
	st.Have[part/8] |= 1 << (part % 8)
	t.putBlob(st)
}

// takeBlobPart keeps a part from another store, staged or announced, whatever the
// quota says.
func (t *tx) takeBlobPart(id record.BlobID, part int, b []byte) error {
	st, ok, err := t.lookup().blob(id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: no record announces it", ErrRefused)
	}
	if err := t.lookup().partFits(&st, part, b); err != nil {
		return err
	}
	if st.RID != (record.RID{}) {
		if err := t.chargeBlob(st.Author, len(b)); err != nil {
			return err
		}
	}
	t.holdBlobPart(&st, part, b)
	return nil
}

// blobFits verifies a part against what a record announced.
func (l lookup) blobFits(id record.BlobID, part int, b []byte) error {
	st, ok, err := l.blob(id)
	if err != nil {
		return err
	}
	if !ok || st.RID == (record.RID{}) {
		return fmt.Errorf("%w: no record here announces it", ErrRefused)
	}
	return l.partFits(&st, part, b)
}

func (l lookup) partFits(st *BlobState, part int, b []byte) error {
	if part < 0 || part >= st.Parts() {
		return fmt.Errorf("%w: it has %d parts", ErrRefused, st.Parts())
	}
	if part == 0 {
		if _, err := st.Leaves(b); err != nil || st.Chunks() == 1 {
			return fmt.Errorf("%w: %w", ErrRefused, errors.Join(err, record.ErrMalformed))
		}
		return nil
	}
	leaf := st.Root
	if st.Chunks() > 1 {
		list, ok, err := l.get(keyBlobPart(st.ID(), 0))
		if err != nil {
			return err
		}
		if !ok || len(list) != st.PartLen(0) {
			return fmt.Errorf("%w: its list of hashes is not here", ErrRefused)
		}
		leaf = record.Hash(list[32*(part-1):])
	}
	if err := st.VerifyChunk(part-1, leaf, b); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// roomForBlobs is ErrFull while parts of other boxes would take room that records
// may need.
func (s *Store) roomForBlobs() error {
	free, err := s.Free()
	if err == nil && free < blobFreeMin {
		err = fmt.Errorf("%w: %d MiB left for attachments of other boxes", ErrFull, (free-blobFreeMin)>>20)
	}
	return err
}

// BlobRoom reports whether parts of other boxes would be taken.
func (s *Store) BlobRoom() bool { return s.roomForBlobs() == nil }

// BlobCharge is how many bytes of parts are kept of what a device announced, and
// the most that may be.
func (s *Store) BlobCharge(d record.DeviceID) (held, most uint64, err error) {
	err = s.read(func(l lookup) error { held, err = l.blobCharge(d); return err })
	return held, uint64(s.o.BlobBytesPerAuthor), err
}

// DropBlob takes a staged attachment away that no record announces. ErrRefused for
// any other.
func (s *Store) DropBlob(ctx context.Context, id record.BlobID) error {
	err := s.blobWrite(ctx, true, func(t *tx) error {
		st, ok, err := t.lookup().blob(id)
		if err != nil || !ok {
			return err
		}
		if st.RID != (record.RID{}) {
			return fmt.Errorf("%w: a record announces it", ErrRefused)
		}
		for part := range st.Parts() {
			t.unset(keyBlobPart(id, part))
		}
		t.unset(keyBlob(blobState, id))
		t.unset(keyBlob(blobOnly, id))
		return nil
	})
	if err != nil {
		return fmt.Errorf("dropping attachment %s: %w", id.Short(), err)
	}
	return nil
}

// StagedBlobs lists attachments that were staged at or before a moment, in Unix
// seconds, and that no record announces, at most max.
func (s *Store) StagedBlobs(before int64, max int) (ids []record.BlobID, err error) {
	only, err := s.BlobsOnlyHere(stagedLookMax)
	for _, id := range only {
		if len(ids) == max || err != nil {
			break
		}
		var b BlobState
		var ok bool
		if b, ok, err = s.Blob(id); err == nil && ok && b.RID == (record.RID{}) && b.Staged <= before {
			ids = append(ids, id)
		}
	}
	return ids, err
}

const stagedLookMax = 10_000

// PutBlobHolder notes that a device holds attachments durably, durable on return.
// What is not known here changes nothing.
func (s *Store) PutBlobHolder(ctx context.Context, peer record.DeviceID, ids []record.BlobID) error {
	err := s.blobWrite(ctx, true, func(t *tx) error {
		for _, id := range ids {
			known, err := t.has(keyBlob(blobState, id))
			if err != nil {
				return err
			}
			noted, err := t.has(keyBlobHolder(id, peer))
			if err != nil {
				return err
			}
			if !known || noted {
				continue
			}
			t.put(keyBlobHolder(id, peer), nil)
			t.unset(keyBlob(blobOnly, id))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("noting who holds attachments: %w", err)
	}
	return nil
}
