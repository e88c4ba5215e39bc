package peersync

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// In a parcel nobody can ask for attachments. It brings those that its writer made and
// does not know to be elsewhere, a part in a CHUNK each, and names in HELD what the
// writer holds of its receivers. They come after all records and are not written twice.

const (
	parcelBlobsMax  = 1024
	parcelBlobBytes = 64 << 20 // of one parcel
)

func (p *parcelWriter) attachments() error {
	blobs := p.o.Session.Blobs
	if blobs == nil || !p.o.Pending {
		return nil
	}
	held, err := blobs.HeldOf(p.o.For, parcelBlobsMax)
	if err != nil {
		return local("listing attachments", err)
	}
	for len(held) > 0 {
		f, err := encode(TypeHeld, heldMessage{Held: blobIDs(&held), Lacked: [][]byte{}, Offered: [][]byte{}})
		if err == nil {
			err = p.put(f)
		}
		if err != nil {
			return err
		}
	}
	ids, err := blobs.Unconfirmed(parcelBlobsMax)
	if err != nil || len(ids) == 0 {
		return err
	}
	if err := p.endBlock(); err != nil {
		return err
	}
	p.once = true
	defer func() { p.once = false }()
	left := parcelBlobBytes
	for _, id := range ids {
		b, have, ok, err := blobs.Blob(id)
		if err != nil {
			return local("reading an attachment", err)
		}
		if size := int(b.Bytes) + b.PartLen(0); ok && allParts(b, have) && size <= left {
			left -= size
			if err := p.attachment(id, b); err != nil {
				return err
			}
		}
	}
	return p.endBlock()
}

func (p *parcelWriter) attachment(id record.BlobID, b record.Blob) error {
	for part := range b.Parts() {
		if part == 0 && b.Chunks() == 1 {
			continue
		}
		if err := p.ctx.Err(); err != nil {
			return err
		}
		data, err := p.o.Session.Blobs.Part(id, part)
		if errors.Is(err, ErrNoPart) {
			return nil
		}
		if err != nil {
			return local("reading a part of an attachment", err)
		}
		if err := p.put(Frame{Type: TypeChunk, Payload: appendChunk(id, part, 0, data)}); err != nil {
			return err
		}
	}
	p.wrote.Attachments++
	return nil
}

// endBlock ends the block under way, where it holds anything.
func (p *parcelWriter) endBlock() error {
	if len(p.frames) == len(p.head) {
		return nil
	}
	return p.flush()
}

func appendChunk(id record.BlobID, part, at int, data []byte) []byte {
	p := make([]byte, 0, len(id)+2*binary.MaxVarintLen32+len(data))
	p = binary.AppendUvarint(append(p, id[:]...), uint64(part))
	return append(binary.AppendUvarint(p, uint64(at)), data...)
}

// parcelBlobs takes a frame about attachments. What no record here announces is left.
func (s *Session) parcelBlobs(ctx context.Context, f Frame) error {
	if s.o.Blobs == nil {
		return nil
	}
	if f.Type == TypeHeld {
		m, err := decodeHeld(f.Payload)
		if err != nil || len(m.Held) == 0 {
			return err
		}
		return s.noteHolder(ctx, m.Held)
	}
	id, part, at, data, err := readChunk(f.Payload)
	if err != nil {
		return err
	}
	b, have, ok, err := s.o.Blobs.Blob(id)
	switch {
	case err != nil:
		return local("reading an attachment", err)
	case !ok:
		return nil
	case part >= uint64(b.Parts()) || at != 0 || len(data) != b.PartLen(int(part)):
		return misbehaved("part of an attachment in a parcel that is not whole")
	case hasPart(have, int(part)):
		return nil
	}
	whole, err := s.o.Blobs.PutPart(ctx, s.peer, id, int(part), data)
	if errors.Is(err, ErrNoRoom) {
		return nil
	}
	if err != nil {
		return s.replicaError(ctx, "keeping a part of an attachment", err)
	}
	if whole {
		s.tally.attachments++
	}
	return nil
}
