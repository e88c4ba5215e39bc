package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/test/fuzz"
)

// FuzzParcel: slots and blocks that nobody sealed do not open.
func FuzzParcel(f *testing.F) {
	priv, other := newExchange(f, 1), newExchange(f, 2)
	p, err := seal.NewParcel(reproducible(3), []*ecdh.PublicKey{other.PublicKey()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Slots(), p.Seal(1, testVisit), uint32(1))
	f.Add([]byte{}, []byte{}, uint32(0))
	f.Fuzz(func(t *testing.T, slots, box []byte, index uint32) {
		fuzz.Bounded(t, len(slots)+len(box), func() {
			if _, err := seal.OpenParcel(priv, slots); err == nil {
				t.Error("slots for somebody else opened")
			}
		})
		if plain, err := p.Open(index, box); err == nil && !bytes.Equal(p.Seal(index, plain), box) {
			t.Errorf("block %d opened to %d bytes that nobody sealed", index, len(plain))
		}
	})
}

// FuzzOpenBlob: chunks are those that were sealed, in their order, or nothing is
// given back; a size that somebody else claims costs no memory.
func FuzzOpenBlob(f *testing.F) {
	content := bytes.Repeat([]byte("photo"), 20_000)
	key, chunks, err := seal.SealBlob(reproducible(4), content)
	if err != nil {
		f.Fatal(err)
	}
	size := uint32(0)
	for _, c := range chunks {
		size += uint32(len(c))
	}
	f.Add(chunks[0], size, byte(0))
	f.Add([]byte{1}, uint32(1)<<31, byte(1))
	f.Fuzz(func(t *testing.T, chunk []byte, size uint32, at byte) {
		b := record.Blob{Bytes: size}
		give := func(i int) ([]byte, error) {
			if i == int(at) || i >= len(chunks) {
				return chunk, nil
			}
			return chunks[i], nil
		}
		fuzz.BoundedBy(t, fuzz.FixedBytes+record.BlobChunksMax*record.BlobChunkBytes, func() { seal.OpenBlob(key, b, give) })
		got, err := seal.OpenBlob(key, b, give)
		switch {
		case err != nil && !errors.Is(err, seal.ErrDamaged):
			t.Errorf("error without a family: %v", err)
		case err == nil && !bytes.Equal(got, content):
			t.Errorf("%d bytes that nobody sealed", len(got))
		}
	})
}

// FuzzOpenDisclosed opens with a key that somebody gives along.
func FuzzOpenDisclosed(f *testing.F) {
	key := newKey(f, 1)
	body, err := seal.Seal(reproducible(1), key, 0, testPos, testKind, testComp, testVisit)
	if err != nil {
		f.Fatal(err)
	}
	one, err := seal.Disclose(one(key), testPos, testKind, testComp, body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one[:], body)
	f.Fuzz(func(t *testing.T, k, b []byte) {
		if len(k) != len(seal.Key{}) {
			return
		}
		if got, err := seal.OpenDisclosed(seal.Key(k), testPos, testKind, testComp, b); err == nil && !bytes.Equal(got, testVisit) {
			t.Errorf("opened to %d bytes that nobody sealed", len(got))
		}
	})
}
