package node

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/fuzz"
)

func staffKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// cosignedBytes is what one box writes for a person.
func cosignedBytes(t testing.TB, key ed25519.PrivateKey) (b []byte, by record.DeviceID, c record.CompartmentID) {
	t.Helper()
	by, c = record.DeviceID{1}, record.CompartmentID{2}
	n := &Node{author: store.Author{Device: by}}
	b, err := n.cosign(&signedIn{key: key}, record.KindConsent, c, []byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return b, by, c
}

// TestCosignedIsSigned: the person's signature is about this text, of this kind, in this
// chart, on this box, and nothing else; what has none is given as it is.
func TestCosignedIsSigned(t *testing.T) {
	key := staffKey(7)
	b, by, c := cosignedBytes(t, key)
	plain, staff, err := decodeCosigned(b, by, record.KindConsent, c)
	if err != nil || !bytes.Equal(plain, []byte{1, 2, 3}) || !staff.Equal(key.Public()) {
		t.Fatalf("read %x by %x, %v", plain, staff, err)
	}
	for name, read := range map[string]func() error{
		"another box":  func() error { _, _, err := decodeCosigned(b, record.DeviceID{9}, record.KindConsent, c); return err },
		"another kind": func() error { _, _, err := decodeCosigned(b, by, record.KindCard, c); return err },
		"another chart": func() error {
			_, _, err := decodeCosigned(b, by, record.KindConsent, record.CompartmentID{9})
			return err
		},
	} {
		if err := read(); !errors.Is(err, chart.ErrBody) {
			t.Errorf("for %s: %v", name, err)
		}
	}
	for i := 1; i < len(b); i++ {
		changed := bytes.Clone(b)
		changed[i] ^= 1
		if _, _, err := decodeCosigned(changed, by, record.KindConsent, c); !errors.Is(err, chart.ErrBody) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if plain, staff, err := decodeCosigned([]byte{1, 9}, by, record.KindConsent, c); err != nil || staff != nil || !bytes.Equal(plain, []byte{1, 9}) {
		t.Errorf("without a signature: %x by %x, %v", plain, staff, err)
	}
}

func FuzzDecodeCosigned(f *testing.F) {
	b, by, c := cosignedBytes(f, staffKey(7))
	f.Add(b)
	f.Add([]byte{cosignedVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() {
			plain, staff, err := decodeCosigned(b, by, record.KindConsent, c)
			if err == nil && staff == nil && !bytes.Equal(plain, b) || err != nil && !errors.Is(err, chart.ErrBody) {
				t.Errorf("%d bytes of %d, %v", len(plain), len(b), err)
			}
		})
	})
}
