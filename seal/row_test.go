package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/seal"
)

func TestBlindNames(t *testing.T) {
	key := newKey(t, 1)
	want := seal.Blind(key, "name", []byte("amina"))
	if got := seal.Blind(key, "name", []byte("amina")); got != want {
		t.Error("one token has two names")
	}
	for what, got := range map[string][16]byte{
		"token":    seal.Blind(key, "name", []byte("aminb")),
		"label":    seal.Blind(key, "village", []byte("amina")),
		"key":      seal.Blind(newKey(t, 2), "name", []byte("amina")),
		"boundary": seal.Blind(key, "namea", []byte("mina")),
		"empty":    seal.Blind(key, "name", nil),
	} {
		if got == want {
			t.Errorf("another %s has the same name", what)
		}
	}
}

func TestRowOpensInItsPlaceOnly(t *testing.T) {
	key, place := newKey(t, 1), []byte("chart/0001")
	for _, plain := range [][]byte{{}, []byte("row"), testVisit, noise(10_000)} {
		row, err := seal.SealRow(reproducible(2), key, place, plain)
		if err != nil {
			t.Fatal(err)
		}
		if len(row) != len(plain)+40 {
			t.Errorf("%d bytes sealed to %d, want 40 more", len(plain), len(row))
		}
		if got, err := seal.OpenRow(key, place, row); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d, %v", len(plain), len(got), err)
		}
		if _, err := seal.OpenRow(key, []byte("chart/0002"), row); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("another place: %v, want ErrDamaged", err)
		}
		if _, err := seal.OpenRow(newKey(t, 3), place, row); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("another key: %v, want ErrDamaged", err)
		}
	}
	row, err := seal.SealRow(reproducible(2), key, place, []byte("a row"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range row {
		bad := bytes.Clone(row)
		bad[i] ^= 1
		if _, err := seal.OpenRow(key, place, bad); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("byte %d flipped: %v, want ErrDamaged", i, err)
		}
		if _, err := seal.OpenRow(key, place, row[:i]); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("cut to %d: %v, want ErrDamaged", i, err)
		}
	}
}

func TestSealRowRefuses(t *testing.T) {
	if _, err := seal.SealRow(reproducible(2), seal.Key{}, nil, nil); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("zero key: %v, want ErrNoKey", err)
	}
	if _, err := seal.SealRow(dry{}, newKey(t, 1), nil, nil); !errors.Is(err, errDry) {
		t.Errorf("no randomness: %v, want its error", err)
	}
	if _, err := seal.SealRow(reproducible(2), newKey(t, 1), nil, make([]byte, seal.PlainBytesMax+1)); !errors.Is(err, seal.ErrTooLarge) {
		t.Errorf("too long: %v, want ErrTooLarge", err)
	}
}
