package seal_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/seal"
)

// quick costs next to nothing, for tests alone.
var quick = seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1}

const goodPIN = "271828"

func newStaff(t testing.TB) seal.StaffKey {
	t.Helper()
	k, err := seal.NewStaffKey(reproducible(1), goodPIN, quick)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDefaultCostOfAPIN(t *testing.T) {
	want := seal.PINParams{MemoryKiB: 64 * 1024, Passes: 3, Threads: 1}
	if got := seal.DefaultPINParams(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStaffKeySignsAfterItsPIN(t *testing.T) {
	k := newStaff(t)
	priv, err := k.Unlock(goodPIN)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(k.Public, []byte("visit"), ed25519.Sign(priv, []byte("visit"))) {
		t.Error("the unlocked key does not match the public one")
	}
	for _, pin := range []string{"", "271829", "27182", "2718281", "2718281828459045", "271828 "} {
		if _, err := k.Unlock(pin); !errors.Is(err, seal.ErrWrongPIN) {
			t.Errorf("PIN of %d characters: %v, want ErrWrongPIN", len(pin), err)
		}
	}
	again, err := seal.NewStaffKey(reproducible(2), goodPIN, quick)
	if err != nil {
		t.Fatal(err)
	}
	if again.Salt == k.Salt || again.Public.Equal(k.Public) {
		t.Error("two people got the same salt or key")
	}
}

func TestChangePIN(t *testing.T) {
	k := newStaff(t)
	harder := quick
	harder.Passes++
	next, err := k.ChangePIN(reproducible(3), goodPIN, "314159", harder)
	if err != nil {
		t.Fatal(err)
	}
	if !next.Public.Equal(k.Public) || next.Salt == k.Salt || next.Params != harder {
		t.Error("want the same key under a new salt and cost")
	}
	if _, err := next.Unlock("314159"); err != nil {
		t.Errorf("new PIN: %v", err)
	}
	if _, err := next.Unlock(goodPIN); !errors.Is(err, seal.ErrWrongPIN) {
		t.Errorf("old PIN: %v, want ErrWrongPIN", err)
	}
	if _, err := k.ChangePIN(reproducible(3), "314159", "161803", quick); !errors.Is(err, seal.ErrWrongPIN) {
		t.Errorf("changed with a wrong PIN: %v, want ErrWrongPIN", err)
	}
	if _, err := k.ChangePIN(reproducible(3), goodPIN, "111111", quick); !errors.Is(err, seal.ErrWeakPIN) {
		t.Errorf("changed to a weak PIN: %v, want ErrWeakPIN", err)
	}
}

func TestWeakPINs(t *testing.T) {
	for _, pin := range []string{"", "1234", "12345", "1234567890123", "12a456", "１２３４５６", "-12345",
		"000000", "999999", "123456", "654321", "012345", "567890", "890123", "098765", "024680", "13579135",
		"121212", "123123", "12341234", "1212121", "112233", "998877", "123321", "1234321", "25802580"} {
		if err := seal.CheckPIN(pin); !errors.Is(err, seal.ErrWeakPIN) {
			t.Errorf("%q: %v, want ErrWeakPIN", pin, err)
		}
		if _, err := seal.NewStaffKey(reproducible(1), pin, quick); !errors.Is(err, seal.ErrWeakPIN) {
			t.Errorf("key under %q: %v, want ErrWeakPIN", pin, err)
		}
	}
	for _, pin := range []string{goodPIN, "314159", "100200", "739154", "84620175", "123457", "998876", "926535897932"} {
		if err := seal.CheckPIN(pin); err != nil {
			t.Errorf("%q: %v", pin, err)
		}
	}
}

func TestFewSixDigitPINsAreRefused(t *testing.T) {
	refused := 0
	pin := []byte("000000")
	for n := range 1_000_000 {
		for i, rest := len(pin)-1, n; i >= 0; i, rest = i-1, rest/10 {
			pin[i] = byte('0' + rest%10)
		}
		if seal.CheckPIN(string(pin)) != nil {
			refused++
		}
	}
	if refused < 1000 || refused > 2000 {
		t.Errorf("%d of a million PINs refused, want the 1,000 to 2,000 simple ones", refused)
	}
}

func TestStaffKeyEncoding(t *testing.T) {
	k := newStaff(t)
	b := k.Encode()
	back, err := seal.DecodeStaffKey(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := back.Unlock(goodPIN); err != nil {
		t.Errorf("after reading it back: %v", err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		got, err := seal.DecodeStaffKey(bad)
		if err != nil {
			if !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrNewer) {
				t.Fatalf("byte %d flipped: %v", i, err)
			}
			continue
		}
		if _, err := got.Unlock(goodPIN); err == nil {
			t.Fatalf("byte %d flipped: unlocked", i)
		}
	}
	for i := range b {
		if _, err := seal.DecodeStaffKey(b[:i]); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("cut to %d: %v, want ErrDamaged", i, err)
		}
	}
}

func TestCostOfAPINIsBounded(t *testing.T) {
	for _, p := range []seal.PINParams{{}, {64, 0, 1}, {64, 1, 0}, {7, 1, 1}, {15, 1, 2}, {1 << 20, 1, 1}, {1 << 31, 3, 1}, {64, 1 << 20, 1}, {2048, 1, 255}} {
		if _, err := seal.NewStaffKey(reproducible(1), goodPIN, p); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%+v: %v, want ErrDamaged", p, err)
		}
		k := newStaff(t)
		k.Params = p
		if _, err := k.Unlock(goodPIN); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("unlocking at %+v: %v, want ErrDamaged", p, err)
		}
		if _, err := seal.DecodeStaffKey(k.Encode()); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("reading %+v: %v, want ErrDamaged", p, err)
		}
	}
}
