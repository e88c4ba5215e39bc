package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/seal"
)

func TestParcelOpensForItsReceiversOnly(t *testing.T) {
	var rings []*seal.Keyring
	var to []*ecdh.PublicKey
	for range 3 {
		k, err := seal.NewKeyring(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		rings = append(rings, k)
		to = append(to, k.ExchangeKey().PublicKey())
	}
	p, err := seal.NewParcel(rand.Reader, to[:2])
	if err != nil {
		t.Fatal(err)
	}
	plain := []byte("what is in a block")
	box := p.Seal(7, plain)
	for i, k := range rings {
		got, err := seal.OpenParcel(k.ExchangeKey(), p.Slots())
		if i == 2 {
			if !errors.Is(err, seal.ErrNoKey) {
				t.Errorf("another box opens it: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := got.Open(7, box); err != nil || !bytes.Equal(b, plain) {
			t.Errorf("receiver %d: got %q, %v", i, b, err)
		}
		if _, err := got.Open(8, box); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("a block in another block's place: got %v, want ErrDamaged", err)
		}
		box[3] ^= 1
		if _, err := got.Open(7, box); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("a changed block: got %v, want ErrDamaged", err)
		}
		box[3] ^= 1
	}
	if bytes.Contains(box, plain[:8]) {
		t.Error("the block shows what is in it")
	}
	if _, err := seal.NewParcel(rand.Reader, nil); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("a parcel for nobody: got %v, want ErrTooLarge", err)
	}
	if _, err := seal.OpenParcel(rings[0].ExchangeKey(), p.Slots()[:81]); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a cut slot: got %v, want ErrDamaged", err)
	}
}
