package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Rows of attachments. The announcement in a record's core makes the row of state,
// in the transaction that takes the record in; parts follow when they come, each
// verified against the announced root. Nothing else makes room for a part.
//
//	c id part(4)        part: the list of leaf hashes as part 0, then the chunks
//	C b id              state: bytes, root, author, rid, compartment, staged, bit of each part
//	C w bytes(4) id     parts are missing here; in the order of sizes
//	C n id              made here and not known to be anywhere else
//	C h id device       another device holds all of it
//	C a device          bytes of parts kept of what a device announced
const (
	pBlobPart = 'c'
	pBlob     = 'C'

	blobState   = 'b'
	blobMissing = 'w'
	blobOnly    = 'n'
	blobHolder  = 'h'
	blobAuthor  = 'a'
)

func keyBlob(kind byte, id record.BlobID) []byte { return append([]byte{pBlob, kind}, id[:]...) }

func keyBlobMissing(b record.Blob) []byte {
	id := b.ID()
	return append(binary.BigEndian.AppendUint32([]byte{pBlob, blobMissing}, b.Bytes), id[:]...)
}

func keyBlobHolder(id record.BlobID, d record.DeviceID) []byte {
	return append(keyBlob(blobHolder, id), d[:]...)
}

func keyBlobAuthor(d record.DeviceID) []byte { return append([]byte{pBlob, blobAuthor}, d[:]...) }

func keyBlobPart(id record.BlobID, part int) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{pBlobPart}, id[:]...), uint32(part))
}

// BlobState is what this replica has of an attachment.
type BlobState struct {
	record.Blob
	Author      record.DeviceID      // of the record that announced it first
	RID         record.RID           // of that record; zero while it is staged
	Compartment record.CompartmentID // of that record
	Staged      int64                // when SaveBlob took it in, Unix seconds; 0 when it came from another box
	Have        []byte               // bit part%8 of byte part/8 of each part that is here
}

// Holds reports whether a part is here.
func (b *BlobState) Holds(part int) bool { return b.Have[part/8]>>(part%8)&1 == 1 }

// Held is how many parts are here.
func (b *BlobState) Held() (n int) {
	for part := range b.Parts() {
		if b.Holds(part) {
			n++
		}
	}
	return n
}

// Whole reports whether every part is here.
func (b *BlobState) Whole() bool { return b.Held() == b.Parts() }

func newBlobState(b record.Blob) BlobState {
	s := BlobState{Blob: b, Have: make([]byte, (b.Parts()+7)/8)}
	if b.Chunks() == 1 {
		s.Have[0] = 1 // its list is its root
	}
	return s
}

const blobStateBytes = 4 + 32 + 32 + 32 + 16 + 8

func (b *BlobState) encode() []byte {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, blobStateBytes+len(b.Have)), b.Bytes)
	out = append(append(append(append(out, b.Root[:]...), b.Author[:]...), b.RID[:]...), b.Compartment[:]...)
	return append(binary.BigEndian.AppendUint64(out, uint64(b.Staged)), b.Have...)
}

func decodeBlobState(b []byte) (BlobState, error) {
	bad := fmt.Errorf("reading the state of an attachment: %w", record.ErrMalformed)
	if len(b) < blobStateBytes {
		return BlobState{}, bad
	}
	size := binary.BigEndian.Uint32(b)
	if size == 0 || size > record.BlobChunksMax*record.BlobChunkBytes {
		return BlobState{}, bad
	}
	s := newBlobState(record.Blob{Root: record.Hash(b[4:36]), Bytes: size})
	if len(b) != blobStateBytes+len(s.Have) {
		return BlobState{}, bad
	}
	s.Author, s.RID, s.Compartment = record.DeviceID(b[36:68]), record.RID(b[68:100]), record.CompartmentID(b[100:116])
	s.Staged = int64(binary.BigEndian.Uint64(b[116:]))
	copy(s.Have, b[blobStateBytes:])
	return s, nil
}

func (l lookup) blob(id record.BlobID) (BlobState, bool, error) {
	key := keyBlob(blobState, id)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return BlobState{}, false, err
	}
	s, err := decodeBlobState(b)
	if err == nil && s.ID() != id {
		err = record.ErrMalformed
	}
	if err != nil {
		return BlobState{}, false, damagedRow(key, err.Error())
	}
	return s, true, nil
}

// announced makes room for the attachments of a record that this transaction takes
// in. The first record that announces one is the one it is counted for.
func (t *tx) announced(r *record.Record) error {
	if t.next.erased.covers(r) {
		return t.dropBlobs(r)
	}
	for _, b := range r.Core.Blobs() {
		old, ok, err := t.lookup().blob(b.ID())
		if err != nil {
			return err
		}
		if ok && old.RID != (record.RID{}) {
			continue
		}
		e, known, err := t.lookup().epoch(r.Position().Epoch)
		if err != nil || !known {
			return err
		}
		if !ok {
			old = newBlobState(b)
		}
		if e.Device != old.Author {
			if err := t.chargeBlob(e.Device, t.lookup().blobBytes(&old)); err != nil {
				return err
			}
		}
		old.Author, old.RID, old.Compartment = e.Device, r.RID(), r.Core.Compartment
		t.putBlob(&old)
	}
	return nil
}

// putBlob writes the row of state and keeps the list of what is missing.
func (t *tx) putBlob(b *BlobState) {
	t.put(keyBlob(blobState, b.ID()), b.encode())
	if b.Whole() || b.Held() <= 1 { // announced, or with a first part at most
		t.next.blobs++
	}
	switch {
	case b.Whole():
		t.unset(keyBlobMissing(b.Blob))
	case b.RID != (record.RID{}):
		t.put(keyBlobMissing(b.Blob), nil)
	}
}

// blobBytes is the length of the parts that are here.
func (l lookup) blobBytes(b *BlobState) (n int) {
	for part := range b.Parts() {
		if b.Holds(part) && (part > 0 || b.Chunks() > 1) {
			n += b.PartLen(part)
		}
	}
	return n
}

// chargeBlob counts kept bytes for whom they are kept.
func (t *tx) chargeBlob(d record.DeviceID, n int) error {
	if n == 0 {
		return nil
	}
	had, err := t.lookup().blobCharge(d)
	if err != nil {
		return err
	}
	t.put(keyBlobAuthor(d), binary.BigEndian.AppendUint64(nil, uint64(max(int64(had)+int64(n), 0))))
	return nil
}

func (l lookup) blobCharge(d record.DeviceID) (uint64, error) {
	key := keyBlobAuthor(d)
	b, ok, err := l.get(key)
	if err == nil && ok && len(b) != 8 {
		err = damagedRow(key, "bytes kept of a device")
	}
	if err != nil || !ok {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// Blob tells what is here of an attachment that a record announced or that was
// staged.
func (s *Store) Blob(id record.BlobID) (b BlobState, ok bool, err error) {
	err = s.read(func(l lookup) error { b, ok, err = l.blob(id); return err })
	return b, ok, err
}

// BlobPart gives a part as it is sent. ErrNotFound when it is not here.
func (s *Store) BlobPart(id record.BlobID, part int) (p []byte, err error) {
	err = s.read(func(l lookup) error {
		var ok bool
		if p, ok, err = l.get(keyBlobPart(id, part)); err == nil && !ok {
			err = ErrNotFound
		}
		return err
	})
	return p, err
}

// MissingBlobs calls f for announced attachments of which parts are missing,
// smallest first, at most max, until f returns false. f may call the store.
func (s *Store) MissingBlobs(max int, f func(BlobState) bool) error {
	prefix := []byte{pBlob, blobMissing}
	var failed error
	err := s.pages(prefix, nil, len(prefix), max, func(key, _ []byte) bool {
		if len(key) != 4+16 {
			failed = damagedRow(append(prefix, key...), "list of missing attachments")
			return false
		}
		b, ok, err := s.Blob(record.BlobID(key[4:]))
		if err != nil {
			failed = err
			return false
		}
		return !ok || f(b)
	})
	if failed != nil {
		err = failed
	}
	return err
}

// BlobMark is another number whenever an attachment was announced or became whole.
func (s *Store) BlobMark() uint64 { return s.shown.Load().state.blobs }

// EachBlob calls f for every attachment that is known here, until it returns false.
func (s *Store) EachBlob(f func(BlobState) bool) error {
	var failed error
	err := s.pages([]byte{pBlob, blobState}, nil, 2, int(^uint(0)>>1), func(_, value []byte) bool {
		st, err := decodeBlobState(value)
		if err != nil {
			failed = err
			return false
		}
		return f(st)
	})
	return errors.Join(err, failed)
}

// BlobsOnlyHere lists attachments that this box made and no other is known to
// hold, at most max.
func (s *Store) BlobsOnlyHere(max int) (ids []record.BlobID, err error) {
	prefix := []byte{pBlob, blobOnly}
	err = s.pages(prefix, nil, len(prefix), max, func(key, _ []byte) bool {
		if len(key) == 16 {
			ids = append(ids, record.BlobID(key))
		}
		return true
	})
	return ids, err
}

// BlobHolders are the devices that said they hold all of an attachment durably.
func (s *Store) BlobHolders(id record.BlobID) (list []record.DeviceID, err error) {
	prefix := keyBlob(blobHolder, id)
	err = s.pages(prefix, nil, len(prefix), blobHoldersMax, func(key, _ []byte) bool {
		if len(key) == 32 {
			list = append(list, record.DeviceID(key))
		}
		return true
	})
	return list, err
}

const blobHoldersMax = 64 // of one attachment, as shown
