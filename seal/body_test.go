package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

var errDry = errors.New("no randomness left")

func TestSealedBodyOpens(t *testing.T) {
	key := newKey(t, 1)
	for _, plain := range [][]byte{{}, {0}, {0x80}, {0x80, 0}, []byte("a"), testVisit, testSave, make([]byte, 31), make([]byte, 32), make([]byte, 33), noise(1000), bytes.Repeat(testVisit, 200), make([]byte, seal.PlainBytesMax)} {
		for _, gen := range []uint64{0, 1, 127, 128, math.MaxUint64} {
			body, err := seal.Seal(reproducible(2), key, gen, testPos, testKind, testComp, plain)
			if err != nil {
				t.Fatalf("%d bytes, generation %d: %v", len(plain), gen, err)
			}
			got, err := seal.Open(only(gen, key), testPos, testKind, testComp, body)
			if err != nil {
				t.Fatalf("%d bytes, generation %d: %v", len(plain), gen, err)
			}
			if !bytes.Equal(got, plain) {
				t.Errorf("%d bytes, generation %d: got %d other bytes", len(plain), gen, len(got))
			}
			if g, err := seal.Generation(body); err != nil || g != gen {
				t.Errorf("Generation = %d, %v, want %d", g, err, gen)
			}
		}
	}
}

func TestSealedLengthTellsOnlyAMultipleOf32(t *testing.T) {
	key := newKey(t, 1)
	for n := range 200 {
		packed := append(seal.Packed{0}, noise(n)...)
		body, err := packed.Seal(reproducible(2), key, 1, testPos, testKind, testComp)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(body) - 1 - 8 - 16; got%32 != 0 || got <= len(packed) || got > len(packed)+32 {
			t.Errorf("%d packed bytes: padded to %d", len(packed), got)
		}
		if len(body) != packed.SealedLen(1) {
			t.Errorf("%d packed bytes: sealed to %d, SealedLen said %d", len(packed), len(body), packed.SealedLen(1))
		}
		if got, err := seal.Open(one(key), testPos, testKind, testComp, body); err != nil || !bytes.Equal(got, noise(n)) {
			t.Errorf("%d bytes: got %d bytes, %v", n, len(got), err)
		}
	}
}

func TestEveryFlippedByteIsRefused(t *testing.T) {
	key := newKey(t, 1)
	body, err := seal.Seal(reproducible(2), key, 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		for _, bit := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(body)
			bad[i] ^= bit
			got, err := seal.Open(only(1, key), testPos, testKind, testComp, bad)
			if !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrNoKey) {
				t.Fatalf("byte %d ^ %#x: got %d bytes, %v", i, bit, len(got), err)
			}
			if i > 0 && !errors.Is(err, seal.ErrDamaged) {
				t.Fatalf("byte %d ^ %#x: %v, want ErrDamaged", i, bit, err)
			}
		}
	}
	for n := range body {
		if _, err := seal.Open(only(1, key), testPos, testKind, testComp, body[:n]); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v, want ErrDamaged", n, err)
		}
		if _, err := seal.Open(only(1, key), testPos, testKind, testComp, append(bytes.Clone(body), body[:n]...)); n > 0 && !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("%d bytes too many: %v, want ErrDamaged", n, err)
		}
	}
}

func TestBodyIsBoundToItsPlace(t *testing.T) {
	key := newKey(t, 1)
	body, err := seal.Seal(reproducible(2), key, 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		t.Fatal(err)
	}
	epoch, lane, n := testPos, testPos, testPos
	epoch.Epoch[0]++
	lane.Lane++
	n.N++
	comp := testComp
	comp[15]++
	for name, open := range map[string]func() ([]byte, error){
		"epoch":       func() ([]byte, error) { return seal.Open(one(key), epoch, testKind, testComp, body) },
		"lane":        func() ([]byte, error) { return seal.Open(one(key), lane, testKind, testComp, body) },
		"n":           func() ([]byte, error) { return seal.Open(one(key), n, testKind, testComp, body) },
		"kind":        func() ([]byte, error) { return seal.Open(one(key), testPos, testKind+1, testComp, body) },
		"compartment": func() ([]byte, error) { return seal.Open(one(key), testPos, testKind, comp, body) },
		"key":         func() ([]byte, error) { return seal.Open(one(newKey(t, 3)), testPos, testKind, testComp, body) },
	} {
		if got, err := open(); !errors.Is(err, seal.ErrDamaged) || got != nil {
			t.Errorf("another %s: %d bytes, %v, want ErrDamaged", name, len(got), err)
		}
	}
	if _, err := seal.Open(only(2, key), testPos, testKind, testComp, body); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("generation without a key: %v, want ErrNoKey", err)
	}
}

func TestSaltMakesEveryBodyDifferent(t *testing.T) {
	key, rand := newKey(t, 1), reproducible(2)
	a, err := seal.Seal(rand, key, 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		t.Fatal(err)
	}
	b, err := seal.Seal(rand, key, 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a[9:41], b[9:41]) {
		t.Error("one position sealed twice gave the same bytes")
	}
}

func TestSealRefuses(t *testing.T) {
	key := newKey(t, 1)
	if _, err := seal.Seal(reproducible(2), seal.Key{}, 1, testPos, testKind, testComp, testVisit); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("zero key: %v, want ErrNoKey", err)
	}
	if _, err := seal.Seal(dry{}, key, 1, testPos, testKind, testComp, testVisit); !errors.Is(err, errDry) {
		t.Errorf("no randomness: %v, want its error", err)
	}
	if _, err := seal.Seal(reproducible(2), key, 1, testPos, testKind, testComp, make([]byte, seal.PlainBytesMax+1)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("too much plain: %v, want ErrTooLarge", err)
	}
	if _, err := seal.Seal(reproducible(2), key, 1, testPos, testKind, testComp, noise(record.BodyBytesMax)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("too much when sealed: %v, want ErrTooLarge", err)
	}
}

func TestOpenRefusesALongGeneration(t *testing.T) {
	key := newKey(t, 1)
	body, err := seal.Seal(reproducible(2), key, 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte{0x81, 0x00}, body[1:]...)
	if _, err := seal.Open(one(key), testPos, testKind, testComp, long); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("generation in more bytes than it needs: %v, want ErrDamaged", err)
	}
}

func TestKeysNeverPrintThemselves(t *testing.T) {
	key := newKey(t, 1)
	ring, err := seal.NewKeyring(reproducible(4))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.AddReading(key); err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{key, &key, []seal.Key{key}, ring, *ring, struct{ K seal.Key }{key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
			if got := fmt.Sprintf(verb, v); bytes.Contains([]byte(got), fmt.Appendf(nil, "%x", key[:4])) || bytes.Contains([]byte(got), fmt.Appendf(nil, "%d %d %d", key[0], key[1], key[2])) {
				t.Errorf("%s of %T shows the key: %s", verb, v, got)
			}
		}
	}
}
