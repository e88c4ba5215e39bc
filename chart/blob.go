package chart

import (
	"fmt"
	"strings"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// Limits of what a body says of one attachment.
const (
	ThumbSizeMax    = 2 << 10
	blobTypeSizeMax = 100
)

// BlobKey opens one attachment. It never prints itself.
type BlobKey [32]byte

// Format hides the key from every verb of fmt.
func (BlobKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(secret key)") }

// MarshalText hides the key from JSON and from loggers.
func (BlobKey) MarshalText() ([]byte, error) { return []byte("(secret key)"), nil }

// Blob is content of the body's resources that is kept apart from them: where its
// hash stands in a resource, it belongs there.
type Blob struct {
	record.Blob
	Hash  fhir.ContentHash // of the content
	Key   BlobKey
	Type  string // MIME type as this box found it; "" for one that it does not know
	Size  uint32 // of the content, in bytes
	Thumb []byte // JPEG of at most ThumbSizeMax bytes; nil for none
}

type blobArray struct {
	_     struct{} `cbor:",toarray"`
	Hash  []byte
	Root  []byte
	Bytes uint32
	Key   []byte
	Type  string
	Size  uint32
	Thumb []byte
}

func (b *Blob) array() blobArray {
	thumb := b.Thumb
	if thumb == nil {
		thumb = []byte{}
	}
	return blobArray{Hash: b.Hash[:], Root: b.Root[:], Bytes: b.Bytes, Key: b.Key[:], Type: b.Type, Size: b.Size, Thumb: thumb}
}

func (a *blobArray) blob() (Blob, error) {
	if len(a.Hash) != 32 || len(a.Root) != 32 || len(a.Key) != 32 || a.Thumb == nil {
		return Blob{}, fmt.Errorf("%w: an attachment", ErrBody)
	}
	b := Blob{Blob: record.Blob{Root: record.Hash(a.Root), Bytes: a.Bytes}, Hash: fhir.ContentHash(a.Hash), Key: BlobKey(a.Key), Type: a.Type, Size: a.Size}
	if len(a.Thumb) > 0 {
		b.Thumb = a.Thumb
	}
	return b, nil
}

func checkBlobs(blobs []Blob) error {
	if len(blobs) > record.BlobsMax {
		return fmt.Errorf("%w: %d attachments", ErrBody, len(blobs))
	}
	for i := range blobs {
		b := &blobs[i]
		odd := strings.ContainsFunc(b.Type, func(r rune) bool { return r <= ' ' || r > '~' })
		if len(b.Thumb) > ThumbSizeMax || len(b.Type) > blobTypeSizeMax || odd || b.Bytes == 0 || b.Chunks() > record.BlobChunksMax || b.Size > fhir.ContentSizeMax {
			return fmt.Errorf("%w: an attachment", ErrBody)
		}
		for k := range i {
			if blobs[k].Hash == b.Hash {
				return fmt.Errorf("%w: the same attachment twice", ErrBody)
			}
		}
	}
	return nil
}

// Announcements are what the core of a record with this body tells of its
// attachments.
func (b Body) Announcements() []record.Blob {
	var out []record.Blob
	for i := range b.Blobs {
		out = append(out, b.Blobs[i].Blob)
	}
	return out
}

// Blob finds the content that a hash in one of the version's resources stands for.
func (v Version) Blob(h fhir.ContentHash) (Blob, bool) {
	for _, b := range v.Blobs {
		if b.Hash == h {
			return b, true
		}
	}
	return Blob{}, false
}

// Attached is one place of a version's resource with the content that stands there.
type Attached struct {
	Blob
	Title string
}

// Attached lists the content of a version's resource that is kept apart.
func (v Version) Attached() []Attached {
	if len(v.Blobs) == 0 {
		return nil
	}
	var out []Attached
	for _, a := range v.Resource.Attachments() {
		if b, ok := v.Blob(a.Hash); ok {
			out = append(out, Attached{b, a.Title})
		}
	}
	return out
}

// Blob finds content by its hash in what any standing or past version says.
func (c *Chart) Blob(h fhir.ContentHash) (Blob, bool) {
	for i := range c.Lines {
		l := &c.Lines[i]
		for _, list := range [][]Version{l.Heads, l.Past} {
			for k := range list {
				if b, ok := list[k].Blob(h); ok {
					return b, true
				}
			}
		}
	}
	return Blob{}, false
}
