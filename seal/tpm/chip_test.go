package tpm_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/seal/tpm"
	"github.com/healthpost/healthpost/test/chip"
	"github.com/healthpost/healthpost/test/fuzz"
)

func bytesOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func sealed(t *testing.T, c *chip.TPM, secret, auth []byte) tpm.Object {
	t.Helper()
	o, err := tpm.At(c.Path).Seal(secret, auth)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := o.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, secret) || len(auth) > 0 && bytes.Contains(raw, auth) {
		t.Error("the object shows what it holds")
	}
	if o, err = tpm.DecodeObject(raw); err != nil {
		t.Fatal(err)
	}
	return o
}

// What one chip sealed it gives back after its power was cut; no other chip does.
func TestAnObjectOpensOnItsOwnChip(t *testing.T) {
	mine, other := chip.New(t), chip.New(t)
	auth := append(bytes.Repeat([]byte{9}, 3), make([]byte, 29)...) // zeros are cut off in many places
	free, held := sealed(t, mine, bytesOf(1), nil), sealed(t, mine, bytesOf(2), auth)
	mine.Off()
	if _, err := tpm.At(mine.Path).Unseal(free, nil); !errors.Is(err, tpm.ErrNoChip) {
		t.Errorf("without power: %v", err)
	}
	mine.On()
	for range 2 {
		if got, err := tpm.At(mine.Path).Unseal(free, nil); err != nil || !bytes.Equal(got, bytesOf(1)) {
			t.Errorf("by nobody: %v", err)
		}
		if got, err := tpm.At(mine.Path).Unseal(held, auth); err != nil || !bytes.Equal(got, bytesOf(2)) {
			t.Errorf("by its auth value: %v", err)
		}
	}
	for _, o := range []tpm.Object{free, held} {
		if _, err := tpm.At(other.Path).Unseal(o, auth); !errors.Is(err, tpm.ErrOtherChip) {
			t.Errorf("another chip: %v", err)
		}
	}
	if _, err := tpm.At(filepath.Join(t.TempDir(), "none")).Seal(bytesOf(1), nil); !errors.Is(err, tpm.ErrNoChip) {
		t.Errorf("no chip: %v", err)
	}
	for _, bad := range [][2][]byte{{bytesOf(1)[:31], nil}, {bytesOf(1), bytesOf(2)[:6]}} {
		if _, err := tpm.At(mine.Path).Seal(bad[0], bad[1]); err == nil {
			t.Errorf("sealed %d bytes under %d", len(bad[0]), len(bad[1]))
		}
	}
}

// Wrong ones count in the chip until it takes none, the right one too, also after a power cut. What has no
// auth value opens all the time.
func TestAChipCountsWrongOnes(t *testing.T) {
	c := chip.New(t)
	at := tpm.At(c.Path)
	free, held := sealed(t, c, bytesOf(1), nil), sealed(t, c, bytesOf(2), bytesOf(3))
	l, err := at.Lockout()
	if err != nil || l.Wrong != 0 || l.Max == 0 || l.Recovers == 0 {
		t.Fatalf("a new chip: %+v, %v", l, err)
	}
	for i := range l.Max {
		if _, err := at.Unseal(held, bytesOf(4)); !errors.Is(err, tpm.ErrWrongAuth) {
			t.Fatalf("wrong one %d of %d: %v", i+1, l.Max, err)
		}
		if i == 0 {
			if now, err := at.Lockout(); err != nil || now.Wrong != 1 {
				t.Errorf("after one: %+v, %v", now, err)
			}
		}
	}
	for range 2 {
		if _, err := at.Unseal(held, bytesOf(3)); !errors.Is(err, tpm.ErrLockout) {
			t.Errorf("the right one after too many wrong ones: %v", err)
		}
		if _, err := at.Unseal(free, nil); err != nil {
			t.Errorf("what has no auth value: %v", err)
		}
		c.Off()
		c.On()
	}
	c.Forgive()
	if _, err := at.Unseal(held, bytesOf(3)); err != nil {
		t.Errorf("after its owner forgave: %v", err)
	}
}

// A box has its power cut each evening: after a right auth value that counts as no wrong one.
func TestPowerCutsAreNoWrongOnes(t *testing.T) {
	c := chip.New(t)
	at := tpm.At(c.Path)
	held := sealed(t, c, bytesOf(2), bytesOf(3))
	l, err := at.Lockout()
	if err != nil {
		t.Fatal(err)
	}
	for i := range l.Max + 2 {
		if _, err := at.Unseal(held, bytesOf(3)); err != nil {
			t.Fatalf("after %d cuts: %v", i, err)
		}
		c.Off()
		c.On()
	}
	if l, err := at.Lockout(); err != nil || l.Wrong != 0 {
		t.Errorf("the chip counts %+v, %v", l, err)
	}
}

func FuzzDecodeObject(f *testing.F) {
	f.Add(bytes.Repeat([]byte{0x84}, 40))
	f.Add(append([]byte{0x84, 1, 0x58, 34}, append(bytes.Repeat([]byte{7}, 34), 0x42, 1, 2, 0x43, 3, 4, 5)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { tpm.DecodeObject(b) })
		o, err := tpm.DecodeObject(b)
		if err != nil {
			return
		}
		if again, err := o.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again: %x, %v, want %x", again, err, b)
		}
	})
}
