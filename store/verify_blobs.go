package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// blobCheck is what verification knows of attachments: the ids that entries
// announce, the parts found of each id, and the attachment under way.
type blobCheck struct {
	announced map[record.BlobID]announcement // guarded by verifier.mu
	sound     map[record.BlobID][]byte       // bits of the parts that verify

	id    record.BlobID
	state BlobState
	known bool
	list  []record.Hash
}

type announcement struct {
	record.Blob
	rid         record.RID
	device      record.DeviceID
	compartment record.CompartmentID
}

// announces notes what a checked entry announces.
func (v *verifier) announces(c *checked) {
	r := &c.entry.Record
	for _, b := range r.Core.Blobs() {
		v.mu.Lock()
		if _, ok := v.blob.announced[b.ID()]; !ok {
			v.blob.announced[b.ID()] = announcement{b, r.RID(), c.signer, r.Core.Compartment}
		}
		v.mu.Unlock()
	}
}

// blobs checks every part of every attachment against the announced root, that
// every part that the state speaks of is there, and that every attachment that an
// entry announces has a state. A part that is lost or damaged is noted as missing,
// so that peers give it again.
func (v *verifier) blobs(ctx context.Context) error {
	v.blob.sound = map[record.BlobID][]byte{}
	if err := v.sweep(ctx, pBlobPart, v.blobPart); err != nil {
		return err
	}
	if err := v.sweep(ctx, pBlob, v.blobRow); err != nil {
		return err
	}
	for id, a := range v.blob.announced {
		st := newBlobState(a.Blob)
		st.Author, st.RID, st.Compartment = a.device, a.rid, a.compartment
		key := keyBlob(blobState, id)
		d := damagedRow(key, "state of an attachment is missing")
		d.RID, d.Device = a.rid, a.device
		if err := v.note(lost(d, key, st.encode())); err != nil {
			return err
		}
	}
	return nil
}

// blobPart checks one part. Those of one attachment follow one another, its list of
// hashes first.
func (v *verifier) blobPart(l lookup, key, value []byte) error {
	c := &v.blob
	if len(key) != 1+16+4 {
		return strayRow(key)
	}
	part := int(binary.BigEndian.Uint32(key[17:]))
	if id := record.BlobID(key[1:17]); id != c.id || !c.known || part < c.state.Parts() && !c.state.Holds(part) {
		st, ok, err := l.blob(id) // again where it may have come since
		if err != nil {
			return err
		}
		if id != c.id {
			c.list = nil
		}
		c.id, c.state, c.known = id, st, ok
	}
	if !c.known || part >= c.state.Parts() || !c.state.Holds(part) || part == 0 && c.state.Chunks() == 1 {
		return strayRow(key)
	}
	if !v.blobSound(part, value) {
		return nil // the state speaks of it: blobRow notes that it is lost
	}
	if c.sound[c.id] == nil {
		c.sound[c.id] = newBlobState(c.state.Blob).Have
	}
	c.sound[c.id][part/8] |= 1 << (part % 8)
	return nil
}

func (v *verifier) blobSound(part int, value []byte) bool {
	c := &v.blob
	var err error
	switch {
	case part == 0:
		c.list, err = c.state.Leaves(value)
		return err == nil
	case c.state.Chunks() == 1:
		return c.state.VerifyChunk(0, c.state.Root, value) == nil
	case len(c.list) == 0:
		return false
	}
	return c.state.VerifyChunk(part-1, c.list[part-1], value) == nil
}

// blobRow checks a row of state or of a list.
func (v *verifier) blobRow(l lookup, key, value []byte) error {
	if len(key) < 2 {
		return strayRow(key)
	}
	rest := key[2:]
	switch key[1] {
	case blobState:
		if len(rest) == 16 {
			return v.blobState(l, key, value)
		}
	case blobMissing:
		if len(rest) == 20 {
			return knownBlob(l, key, record.BlobID(rest[4:]), func(b *BlobState) bool { return !b.Whole() })
		}
	case blobOnly:
		if len(rest) == 16 {
			return knownBlob(l, key, record.BlobID(rest), nil)
		}
	case blobHolder:
		if len(rest) == 48 {
			return knownBlob(l, key, record.BlobID(rest[:16]), nil)
		}
	case blobAuthor:
		if len(rest) == 32 && len(value) == 8 {
			return nil
		}
	}
	return strayRow(key)
}

// knownBlob: a row of a list is about an attachment that is known here.
func knownBlob(l lookup, key []byte, id record.BlobID, fits func(*BlobState) bool) error {
	b, ok, err := l.blob(id)
	if err == nil && (!ok || fits != nil && !fits(&b)) {
		err = strayRow(key)
	}
	return err
}

func (v *verifier) blobState(l lookup, key, value []byte) error {
	st, err := decodeBlobState(value)
	if err != nil || st.ID() != record.BlobID(key[2:]) {
		return damagedRow(key, "state of an attachment")
	}
	delete(v.blob.announced, st.ID())
	right := st
	right.Have = newBlobState(st.Blob).Have
	copy(right.Have, v.blob.sound[st.ID()])
	for part := range st.Parts() {
		if !st.Holds(part) || right.Holds(part) {
			continue
		}
		if now, ok, err := l.get(keyBlobPart(st.ID(), part)); err == nil && ok && v.blobCame(l, &st, part, now) {
			right.Have[part/8] |= 1 << (part % 8)
			continue
		}
		d := damagedRow(keyBlobPart(st.ID(), part), fmt.Sprintf("part %d of an attachment is lost or does not have its hash", part))
		d.RID, d.Device = st.RID, st.Author
		if err := v.note(&fixable{DamageError: d, key: key, value: right.encode()}); err != nil {
			return err
		}
	}
	if missing := keyBlobMissing(st.Blob); !st.Whole() && st.RID != (record.RID{}) {
		if _, ok, err := l.get(missing); err != nil || !ok {
			return lost(damagedRow(missing, "list of missing attachments"), missing, nil)
		}
	}
	return nil
}

// blobCame looks at a part that came after the parts were read.
func (v *verifier) blobCame(l lookup, st *BlobState, part int, value []byte) bool {
	v.blob.state, v.blob.list = *st, nil
	if list, ok, err := l.get(keyBlobPart(st.ID(), 0)); err == nil && ok {
		v.blob.list, err = st.Leaves(list)
		if err != nil {
			v.blob.list = nil
		}
	}
	return v.blobSound(part, value)
}
