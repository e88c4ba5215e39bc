package seal_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

func newExchange(t testing.TB, n byte) *ecdh.PrivateKey {
	t.Helper()
	ring, err := seal.NewKeyring(reproducible(n))
	if err != nil {
		t.Fatal(err)
	}
	return ring.ExchangeKey()
}

func TestWrapOpensForItsRecipientOnly(t *testing.T) {
	dek, region := newKey(t, 1), newKey(t, 2)
	box := newExchange(t, 3)
	shared, err := seal.WrapKey(reproducible(4), region, testComp, 7, dek)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := seal.WrapKeyTo(box.PublicKey(), testComp, 7, dek)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(shared.Box), 56; got != want {
		t.Errorf("box under a shared key: %d bytes, want %d", got, want)
	}
	if got, want := len(direct.Box), 80; got != want {
		t.Errorf("box for a device: %d bytes, want %d", got, want)
	}
	if got, err := seal.UnwrapKey(region, shared); err != nil || got != dek {
		t.Errorf("UnwrapKey: other key, %v", err)
	}
	if got, err := seal.UnwrapKeyWith(box, direct); err != nil || got != dek {
		t.Errorf("UnwrapKeyWith: other key, %v", err)
	}
	if _, err := seal.UnwrapKey(newKey(t, 5), shared); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("another region's key: %v, want ErrNoKey", err)
	}
	if _, err := seal.UnwrapKeyWith(newExchange(t, 6), direct); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("another device's key: %v, want ErrNoKey", err)
	}
}

func TestWrapIsBoundToWhatItSays(t *testing.T) {
	dek, region := newKey(t, 1), newKey(t, 2)
	device := newExchange(t, 3)
	shared, err := seal.WrapKey(reproducible(4), region, testComp, 7, dek)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := seal.WrapKeyTo(device.PublicKey(), testComp, 7, dek)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		wrap seal.Wrap
		open func(seal.Wrap) (seal.Key, error)
	}{
		{"shared", shared, func(w seal.Wrap) (seal.Key, error) { return seal.UnwrapKey(region, w) }},
		{"direct", direct, func(w seal.Wrap) (seal.Key, error) { return seal.UnwrapKeyWith(device, w) }},
	} {
		for i := range tc.wrap.Box {
			w := tc.wrap
			w.Box = bytes.Clone(w.Box)
			w.Box[i] ^= 1
			if _, err := tc.open(w); !errors.Is(err, seal.ErrDamaged) {
				// The top bit of an X25519 key is ignored by RFC 7748, but HPKE binds the bytes.
				t.Errorf("%s: byte %d flipped: %v, want ErrDamaged", tc.name, i, err)
			}
			w.Box = w.Box[:i]
			if _, err := tc.open(w); !errors.Is(err, seal.ErrDamaged) {
				t.Errorf("%s: cut to %d: %v, want ErrDamaged", tc.name, i, err)
			}
		}
		w := tc.wrap
		w.Generation++
		if _, err := tc.open(w); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: another generation: %v, want ErrDamaged", tc.name, err)
		}
		w = tc.wrap
		w.Compartment[0]++
		if _, err := tc.open(w); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: another compartment: %v, want ErrDamaged", tc.name, err)
		}
	}
}

func TestWrapRefusesZeroKeys(t *testing.T) {
	key := newKey(t, 1)
	for _, tc := range [][2]seal.Key{{{}, key}, {key, {}}} {
		if _, err := seal.WrapKey(reproducible(2), tc[0], testComp, 1, tc[1]); !errors.Is(err, seal.ErrNoKey) {
			t.Errorf("zero key: %v, want ErrNoKey", err)
		}
	}
	if _, err := seal.WrapKey(dry{}, key, testComp, 1, key); !errors.Is(err, errDry) {
		t.Errorf("no randomness: %v, want its error", err)
	}
}

func sampleWraps(t testing.TB, n int) []seal.Wrap {
	t.Helper()
	rand := reproducible(9)
	wraps := make([]seal.Wrap, n)
	for i := range wraps {
		w, err := seal.WrapKey(rand, newKey(t, 2), record.CompartmentID{byte(i * 7), byte(i)}, uint64(n-i), newKey(t, byte(i)))
		if err != nil {
			t.Fatal(err)
		}
		wraps[i] = w
	}
	return wraps
}

func TestWrapsListIsCanonical(t *testing.T) {
	wraps := sampleWraps(t, 50)
	want, err := seal.EncodeWraps(wraps)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(wraps)
	got, err := seal.EncodeWraps(wraps)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("another order gave other bytes (%v)", err)
	}
	back, err := seal.DecodeWraps(want)
	if err != nil || len(back) != len(wraps) {
		t.Fatalf("read %d wraps, %v, want %d", len(back), err, len(wraps))
	}
	for i := range want {
		for _, bad := range [][]byte{want[:i], append(bytes.Clone(want), want[:i+1]...)} {
			if _, err := seal.DecodeWraps(bad); !errors.Is(err, seal.ErrDamaged) {
				t.Fatalf("%d of %d bytes: %v, want ErrDamaged", len(bad), len(want), err)
			}
		}
	}
}

func TestWrapsListRefuses(t *testing.T) {
	w := sampleWraps(t, 2)
	big := w[0]
	big.Box = make([]byte, seal.WrapBoxBytesMax+1)
	for name, wraps := range map[string][]seal.Wrap{
		"none":      {},
		"two alike": {w[0], w[1], w[0]},
		"no box":    {{Compartment: testComp}},
		"big box":   {big},
		"too many":  sampleWraps(t, seal.WrapsMax+1),
	} {
		if _, err := seal.EncodeWraps(wraps); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	good, err := seal.EncodeWraps(w)
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(good)
	newer[1] = 2
	if _, err := seal.DecodeWraps(newer); !errors.Is(err, seal.ErrNewer) {
		t.Errorf("version 2: %v, want ErrNewer", err)
	}
	swapped := bytes.Clone(good[:3])
	each := (len(good) - 3) / 2
	swapped = append(append(swapped, good[3+each:]...), good[3:3+each]...)
	if _, err := seal.DecodeWraps(swapped); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("out of order: %v, want ErrDamaged", err)
	}
}

func TestSealToOpensWith(t *testing.T) {
	priv, info := newExchange(t, 3), []byte("region key")
	for _, plain := range [][]byte{{}, []byte("k"), noise(seal.SealToBytesMax)} {
		box, err := seal.SealTo(priv.PublicKey(), info, plain)
		if err != nil {
			t.Fatal(err)
		}
		if len(box) != len(plain)+48 {
			t.Errorf("%d bytes sealed to %d, want 48 more", len(plain), len(box))
		}
		if got, err := seal.OpenWith(priv, info, box); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened %d bytes, %v, want %d", len(got), err, len(plain))
		}
		if _, err := seal.OpenWith(priv, []byte("another use"), box); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("another info: %v, want ErrDamaged", err)
		}
		if _, err := seal.OpenWith(newExchange(t, 4), info, box); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("another key: %v, want ErrDamaged", err)
		}
	}
	if _, err := seal.SealTo(priv.PublicKey(), info, noise(seal.SealToBytesMax+1)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("too long: %v, want ErrTooLarge", err)
	}
	low, err := ecdh.X25519().NewPublicKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.SealTo(low, info, []byte("secret")); err == nil {
		t.Error("sealed to a point that gives everybody the same secret")
	}
	if _, err := seal.OpenWith(priv, info, make([]byte, 64)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("low-order sender: %v, want ErrDamaged", err)
	}
}
