package store

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// blobs copies attachments: what was staged, then of each the parts that verify.
// Records that are here announced theirs already.
func (b *rebuild) blobs(ctx context.Context) error {
	err := b.copyRows(ctx, pBlob, func(t *tx, _ lookup, key, value []byte) error {
		if len(key) < 2+16 {
			return errSkip
		}
		switch key[1] {
		case blobState:
			st, err := decodeBlobState(value)
			if err != nil || st.RID != (record.RID{}) {
				return errSkip
			}
			st.Have = newBlobState(st.Blob).Have
			t.put(key, st.encode())
		case blobOnly, blobHolder:
			t.put(key, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.copyRows(ctx, pBlobPart, func(t *tx, _ lookup, key, value []byte) error {
		if len(key) != 1+16+4 {
			return errSkip
		}
		err := t.takeBlobPart(record.BlobID(key[1:17]), int(binary.BigEndian.Uint32(key[17:])), value)
		if errors.Is(err, ErrRefused) {
			b.rep.Lost++
			return errSkip
		}
		b.rep.Rows++
		return err
	})
}
