package record

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// An attachment is too large for a body. It is sealed in chunks under a key of its
// own, which stands in the sealed body, and the record's core announces it:
//
//	ext[8] = (root(32) uvarint(bytes))*      one to BlobsMax, no two alike
//
// bytes is the length of all chunks as they are sealed and root the RFC 6962 tree
// hash over them, so that who holds no key can tell a chunk that belongs to it from
// any other. Every chunk but the last has BlobChunkBytes. Whoever reads the ledger
// learns how many attachments a record has, how large they are, and when the same
// one is announced twice.

// ExtBlobs is the extension of a core that announces attachments. Who does not
// know it leaves them where they are.
const ExtBlobs = 8

// Limits of attachments.
const (
	BlobChunkBytes = 16 << 10 // sealed
	BlobChunksMax  = 656      // of one: 10.25 MiB
	BlobsMax       = 6        // of one record
)

// Blob is one announced attachment.
type Blob struct {
	Root  Hash
	Bytes uint32 // of all chunks, sealed
}

// BlobID names an announced attachment: the beginning of a hash of root and size,
// so that a size that somebody else claims for a root is another attachment.
type BlobID [16]byte

// ID names the attachment.
func (b Blob) ID() BlobID {
	h := sha256.New()
	h.Write([]byte("hp:blob:1\x00"))
	h.Write(b.Root[:])
	h.Write(binary.BigEndian.AppendUint32(nil, b.Bytes))
	return BlobID(h.Sum(nil)[:16])
}

func (id BlobID) String() string { return hex.EncodeToString(id[:]) }

// Short is the beginning of String, for logs.
func (id BlobID) Short() string { return id.String()[:8] }

// Chunks is how many there are.
func (b Blob) Chunks() int { return int((uint64(b.Bytes) + BlobChunkBytes - 1) / BlobChunkBytes) }

// ChunkLen is the length of chunk i.
func (b Blob) ChunkLen(i int) int {
	if i == b.Chunks()-1 {
		return int(b.Bytes) - i*BlobChunkBytes
	}
	return BlobChunkBytes
}

// BlobOf is the announcement of sealed chunks. ErrMalformed when they cannot be
// those of one attachment.
func BlobOf(chunks [][]byte) (Blob, []Hash, error) {
	var b Blob
	leaves := make([]Hash, 0, len(chunks))
	if len(chunks) == 0 || len(chunks) > BlobChunksMax {
		return b, nil, fmt.Errorf("announcing an attachment: %w: %d chunks", ErrMalformed, len(chunks))
	}
	for i, c := range chunks {
		if len(c) == 0 || len(c) > BlobChunkBytes || i < len(chunks)-1 && len(c) < BlobChunkBytes {
			return b, nil, fmt.Errorf("announcing an attachment: %w: chunk of %d bytes", ErrMalformed, len(c))
		}
		b.Bytes += uint32(len(c))
		leaves = append(leaves, LeafHash(c))
	}
	b.Root = blobRoot(leaves)
	return b, leaves, nil
}

func blobRoot(leaves []Hash) Hash {
	var r Range
	for _, h := range leaves {
		r.Append(h)
	}
	return r.Root()
}

// VerifyLeaves checks that these are the leaf hashes of all chunks. The error
// wraps ErrMalformed.
func (b Blob) VerifyLeaves(leaves []Hash) error {
	if len(leaves) != b.Chunks() || blobRoot(leaves) != b.Root {
		return fmt.Errorf("verifying the hashes of an attachment: %w: they have another root", ErrMalformed)
	}
	return nil
}

// VerifyChunk checks chunk i against its leaf hash. The error wraps ErrMalformed.
func (b Blob) VerifyChunk(i int, leaf Hash, chunk []byte) error {
	if i < 0 || i >= b.Chunks() || len(chunk) != b.ChunkLen(i) || LeafHash(chunk) != leaf {
		return fmt.Errorf("verifying chunk %d of an attachment: %w: it does not have its hash", i, ErrMalformed)
	}
	return nil
}

// EncodeBlobs gives the extension that announces these.
func EncodeBlobs(blobs []Blob) []byte {
	var b []byte
	for _, x := range blobs {
		b = append(b, x.Root[:]...)
		b = binary.AppendUvarint(b, uint64(x.Bytes))
	}
	return b
}

// Blobs are the attachments that a record announces; none where the extension is
// not what it should be.
func (c *Core) Blobs() []Blob {
	b := c.Ext[ExtBlobs]
	if len(b) == 0 || c.Compartment.IsZero() {
		return nil
	}
	var out []Blob
	for len(b) > 0 {
		if len(b) < 33 || len(out) == BlobsMax {
			return nil
		}
		n, w := binary.Uvarint(b[32:])
		if w <= 0 || w > 1 && b[31+w] == 0 || n == 0 || n > BlobChunksMax*BlobChunkBytes {
			return nil
		}
		x := Blob{Hash(b[:32]), uint32(n)}
		if slices.Contains(out, x) {
			return nil
		}
		out = append(out, x)
		b = b[32+w:]
	}
	return out
}

// Parts is how many pieces of an attachment are kept and sent: its list of leaf
// hashes as part 0, then the chunks. The list of a single chunk says nothing that
// the root does not, and is never sent.
func (b Blob) Parts() int { return b.Chunks() + 1 }

// PartLen is the length of a part.
func (b Blob) PartLen(part int) int {
	if part == 0 {
		return 32 * b.Chunks()
	}
	return b.ChunkLen(part - 1)
}

// Leaves reads part 0, verified.
func (b Blob) Leaves(part []byte) ([]Hash, error) {
	if len(part) != b.PartLen(0) {
		return nil, fmt.Errorf("reading the hashes of an attachment: %w: %d bytes", ErrMalformed, len(part))
	}
	leaves := make([]Hash, 0, b.Chunks())
	for p := part; len(p) > 0; p = p[32:] {
		leaves = append(leaves, Hash(p[:32]))
	}
	return leaves, b.VerifyLeaves(leaves)
}
