package node_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/test/fuzz"
)

func TestDisclosureIsReadInOneForm(t *testing.T) {
	for name, d := range map[string]node.Disclosure{
		"sealed":   {Proof: []byte("proof"), Key: seal.Key{1, 2, 3}, Body: []byte("body")},
		"readable": {Proof: []byte("proof"), Body: []byte{}},
	} {
		raw := d.Encode()
		got, err := node.DecodeDisclosure(raw)
		if err != nil || !bytes.Equal(got.Proof, d.Proof) || got.Key != d.Key || !bytes.Equal(got.Body, d.Body) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		for i := range len(raw) - len(d.Body) {
			if _, err := node.DecodeDisclosure(raw[:i]); !errors.Is(err, record.ErrMalformed) {
				t.Errorf("%s: cut to %d bytes: got %v", name, i, err)
			}
		}
	}
	long := node.Disclosure{Body: make([]byte, node.DisclosureBytesMax)}
	if _, err := node.DecodeDisclosure(long.Encode()); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("a file too long: got %v", err)
	}
}

func FuzzDecodeDisclosure(f *testing.F) {
	sealed := node.Disclosure{Proof: []byte("proof"), Key: seal.Key{1}, Body: []byte("body")}
	readable := node.Disclosure{Proof: []byte("proof"), Body: []byte("body")}
	f.Add(sealed.Encode())
	f.Add(readable.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { node.DecodeDisclosure(b) })
		d, err := node.DecodeDisclosure(b)
		if err == nil && !bytes.Equal(d.Encode(), b) {
			t.Errorf("%x was read and is written as %x", b, d.Encode())
		}
	})
}
