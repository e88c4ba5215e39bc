package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

func TestBlobRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 1023, 1024, 16367, 16368, 16369, 300_000, seal.BlobPlainMax} {
		plain := make([]byte, size)
		rand.Read(plain)
		key, chunks, err := seal.SealBlob(rand.Reader, plain)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := record.BlobOf(chunks)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got, err := seal.OpenBlob(key, b, func(i int) ([]byte, error) { return chunks[i], nil })
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	if _, _, err := seal.SealBlob(rand.Reader, make([]byte, seal.BlobPlainMax+1)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, seal.ErrTooLarge)
	}
}

// A chunk changed, exchanged, cut off or opened with another key is noticed.
func TestBlobDamage(t *testing.T) {
	plain := bytes.Repeat([]byte("picture"), 9000)
	key, chunks, err := seal.SealBlob(rand.Reader, plain)
	if err != nil {
		t.Fatal(err)
	}
	other, strangers, err := seal.SealBlob(rand.Reader, plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(chunks[0], strangers[0]) {
		t.Error("one content sealed twice gives the same bytes")
	}
	changed := bytes.Clone(chunks[1])
	changed[7] ^= 1
	for name, x := range map[string]struct {
		key    seal.Key
		chunks [][]byte
	}{
		"changed": {key, [][]byte{chunks[0], changed, chunks[2], chunks[3]}}, "exchanged": {key, [][]byte{chunks[1], chunks[0], chunks[2], chunks[3]}},
		"cut off": {key, chunks[:3]}, "another key": {other, chunks}, "a stranger's": {key, [][]byte{strangers[0], chunks[1], chunks[2], chunks[3]}},
	} {
		b, _, err := record.BlobOf(x.chunks)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.OpenBlob(x.key, b, func(i int) ([]byte, error) { return x.chunks[i], nil }); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, seal.ErrDamaged)
		}
	}
}
