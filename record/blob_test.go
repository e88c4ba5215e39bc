package record_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
)

func chunksOf(n int) [][]byte {
	var out [][]byte
	for ; n > 0; n -= record.BlobChunkBytes {
		out = append(out, bytes.Repeat([]byte{byte(n)}, min(n, record.BlobChunkBytes)))
	}
	return out
}

// Chunks and their announcement belong together, and no other chunk passes.
func TestBlob(t *testing.T) {
	for _, size := range []int{1, record.BlobChunkBytes, record.BlobChunkBytes + 1, 5*record.BlobChunkBytes + 77, record.BlobChunksMax * record.BlobChunkBytes} {
		chunks := chunksOf(size)
		b, leaves, err := record.BlobOf(chunks)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if int(b.Bytes) != size || b.Chunks() != len(chunks) {
			t.Errorf("got %d bytes in %d chunks, want %d in %d", b.Bytes, b.Chunks(), size, len(chunks))
		}
		if err := b.VerifyLeaves(leaves); err != nil {
			t.Error(err)
		}
		for i, c := range chunks {
			if err := b.VerifyChunk(i, leaves[i], c); err != nil {
				t.Error(err)
			}
		}
		other := slices.Clone(chunks[0])
		other[0]++
		if err := b.VerifyChunk(0, leaves[0], other); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("a changed chunk: got %v, want %v", err, record.ErrMalformed)
		}
		leaves[0][0]++
		if err := b.VerifyLeaves(leaves); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("changed hashes: got %v, want %v", err, record.ErrMalformed)
		}
	}
}

func TestBlobOfRefuses(t *testing.T) {
	for name, chunks := range map[string][][]byte{"none": nil, "empty": {{}}, "short in the middle": {{1}, {2}},
		"too many": make([][]byte, record.BlobChunksMax+1), "too long": {make([]byte, record.BlobChunkBytes+1)}} {
		if _, _, err := record.BlobOf(chunks); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v, want %v", name, err, record.ErrMalformed)
		}
	}
}

// What a core announces is read back; anything else announces nothing.
func TestAnnouncements(t *testing.T) {
	want := []record.Blob{{Root: record.Hash{1}, Bytes: 1}, {Root: record.Hash{1}, Bytes: 2}, {Root: record.Hash{2}, Bytes: record.BlobChunksMax * record.BlobChunkBytes}}
	sound := record.EncodeBlobs(want)
	core := func(ext []byte) *record.Core {
		return &record.Core{Compartment: record.CompartmentID{1}, Ext: map[uint64][]byte{record.ExtBlobs: ext}}
	}
	if got := core(sound).Blobs(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	many := []record.Blob{}
	for i := range record.BlobsMax + 1 {
		many = append(many, record.Blob{Root: record.Hash{byte(i)}, Bytes: 1})
	}
	bad := map[string][]byte{"cut": sound[:len(sound)-1], "twice": append(slices.Clone(sound), record.EncodeBlobs(want[:1])...), "too many": record.EncodeBlobs(many),
		"nothing": record.EncodeBlobs([]record.Blob{{}}), "too large": record.EncodeBlobs([]record.Blob{{Bytes: 1 << 30}}), "long form": append(make([]byte, 32), 0x81, 0)}
	for name, ext := range bad {
		if got := core(ext).Blobs(); got != nil {
			t.Errorf("%s: got %v, want none", name, got)
		}
	}
	if got := (&record.Core{Ext: map[uint64][]byte{record.ExtBlobs: sound}}).Blobs(); got != nil {
		t.Errorf("without a compartment: got %v, want none", got)
	}
	if want[0].ID() == want[1].ID() {
		t.Error("one root with two sizes has one name")
	}
}

// FuzzBlobs: whatever an extension holds, what is read from it encodes back to it.
func FuzzBlobs(f *testing.F) {
	f.Add(record.EncodeBlobs([]record.Blob{{Root: record.Hash{1}, Bytes: 70_000}, {Root: record.Hash{2}, Bytes: 3}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, ext []byte) {
		c := record.Core{Compartment: record.CompartmentID{1}, Ext: map[uint64][]byte{record.ExtBlobs: ext}}
		blobs := c.Blobs()
		if len(blobs) > 0 && !bytes.Equal(record.EncodeBlobs(blobs), ext) {
			t.Errorf("%d attachments do not encode back", len(blobs))
		}
	})
}

// A record with the most attachments, written again for another epoch, still has a
// core that readers take.
func TestCoreHoldsAnnouncements(t *testing.T) {
	blobs := []record.Blob{}
	for i := range record.BlobsMax {
		blobs = append(blobs, record.Blob{Root: record.Hash{byte(i)}, Bytes: record.BlobChunksMax * record.BlobChunkBytes})
	}
	c := record.Core{Epoch: record.EpochID{1}, Lane: 1, N: 1 << 40, HLC: 1 << 62, Kind: record.KindClinical, Session: 1 << 40, Size: 1 << 40, Compartment: record.CompartmentID{1},
		BodyLen: record.BodyBytesMax, Ext: map[uint64][]byte{2: make([]byte, 32), 4: make([]byte, 32), 6: make([]byte, 8), record.ExtBlobs: record.EncodeBlobs(blobs)}}
	if _, err := record.DecodeCore(c.Encode()); err != nil {
		t.Errorf("%d bytes: %v", len(c.Encode()), err)
	}
}
