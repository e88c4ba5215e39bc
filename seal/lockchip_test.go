package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/test/fuzz"
)

// withChip locks a keyring by a chip that is a variable.
func withChip(t testing.TB, kind seal.LockKind) (ring *seal.Keyring, secret seal.Key, raw []byte) {
	t.Helper()
	ring = sampleKeyring(t)
	err := ring.LockWithChip(reproducible(9), kind, seal.Passphrase(passphrase), func(s seal.Key) ([]byte, error) {
		secret = s
		if kind == seal.TPMPINLock {
			return nil, nil
		}
		return []byte("what the chip sealed"), nil
	})
	if err == nil {
		raw, err = ring.Encode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return ring, secret, raw
}

func TestKeysUnderAChipOpenByItOrByTheirPassphrase(t *testing.T) {
	for _, kind := range []seal.LockKind{seal.TPMLock, seal.TPMPINLock} {
		ring, secret, raw := withChip(t, kind)
		for i, hidden := range append(secretsOf(ring), secret[:], []byte("mosquito")) {
			if bytes.Contains(raw, hidden) {
				t.Errorf("%s: secret %d lies in the clear", kind, i)
			}
		}
		locked, err := seal.DecodeKeyring(raw)
		if err != nil || !locked.Locked() || locked.LockKind() != kind || (string(locked.ChipObject()) == "what the chip sealed") != (kind == seal.TPMLock) {
			t.Fatalf("%s: loaded %v", kind, err)
		}
		if _, _, ok := locked.LockSecret(); ok {
			t.Errorf("%s: a locked keyring knows its secret", kind)
		}
		other := newKey(t, 41)
		for _, wrong := range []seal.Opener{{}, seal.ChipSecret(other), seal.ChipSecret(seal.Key{}), seal.FileKey(secret)} {
			if _, err := locked.Open(wrong); !errors.Is(err, seal.ErrWrongLock) {
				t.Errorf("%s: opened by another: %v", kind, err)
			}
		}
		ways := []seal.Opener{seal.ChipSecret(secret)}
		if kind == seal.TPMPINLock { // each passphrase costs
			ways = append(ways, seal.Passphrase(passphrase))
			if _, err := locked.Open(seal.Passphrase("lantern copper mosquito harvest violin")); !errors.Is(err, seal.ErrWrongLock) {
				t.Errorf("opened by another passphrase: %v", err)
			}
		}
		for _, by := range ways {
			whole, err := locked.Open(by)
			if err != nil || !same(whole, ring) {
				t.Fatalf("%s by a %s: %v", kind, by.Kind(), err)
			}
			if got, of, ok := whole.LockSecret(); !ok || got != secret || of != locked.LockID() {
				t.Errorf("%s by a %s: its secret is lost", kind, by.Kind())
			}
			again, err := whole.Encode()
			if err != nil {
				t.Fatal(err)
			}
			back, err := seal.DecodeKeyring(again)
			if err == nil {
				_, err = back.Open(seal.ChipSecret(secret))
			}
			if err != nil || bytes.Equal(again, raw) {
				t.Errorf("%s: written again: %v", kind, err)
			}
		}
	}
}

// A chip is never the only way, and what it could not seal locks nothing.
func TestAChipLocksOnlyWithAPassphrase(t *testing.T) {
	keep := func(seal.Key) ([]byte, error) { return []byte("object"), nil }
	broken := errors.New("the chip is gone")
	for what, lock := range map[string]func(*seal.Keyring) error{
		"a chip alone": func(k *seal.Keyring) error { return k.Lock(reproducible(1), seal.ChipSecret(newKey(t, 3))) },
		"a weak one": func(k *seal.Keyring) error {
			return k.LockWithChip(reproducible(1), seal.TPMLock, seal.Passphrase("314159"), keep)
		},
		"a key file": func(k *seal.Keyring) error {
			return k.LockWithChip(reproducible(1), seal.TPMLock, seal.FileKey(newKey(t, 3)), keep)
		},
		"no chip": func(k *seal.Keyring) error {
			return k.LockWithChip(reproducible(1), seal.KeyFileLock, seal.Passphrase(passphrase), keep)
		},
		"a chip's fault": func(k *seal.Keyring) error {
			return k.LockWithChip(reproducible(1), seal.TPMLock, seal.Passphrase(passphrase), func(seal.Key) ([]byte, error) { return nil, broken })
		},
		"a chip's silence": func(k *seal.Keyring) error {
			return k.LockWithChip(reproducible(1), seal.TPMLock, seal.Passphrase(passphrase), func(seal.Key) ([]byte, error) { return nil, nil })
		},
	} {
		if ring := sampleKeyring(t); lock(ring) == nil || ring.LockKind() != seal.NoLock {
			t.Errorf("%s locks", what)
		}
	}
}

func newMember(t testing.TB) seal.MemberLock {
	t.Helper()
	m, err := seal.NewMemberLock(reproducible(2), seal.LockID{7}, 3, seal.PINParams{MemoryKiB: 64, Passes: 1, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	m.Object = []byte("what the chip sealed")
	return m
}

func TestAPINMakesAnAuthValue(t *testing.T) {
	m := newMember(t)
	one, err := m.Auth("314159")
	two, err2 := m.Auth("314158")
	again, err3 := m.Auth("314159")
	if err := errors.Join(err, err2, err3); err != nil || one == two || one != again || bytes.Contains(m.Encode(), one[:]) {
		t.Errorf("auth values: %v", err)
	}
	if _, err := m.Auth("3141592653589"); !errors.Is(err, seal.ErrWrongPIN) {
		t.Errorf("a PIN of 13 digits: %v", err)
	}
}

func FuzzDecodeMemberLock(f *testing.F) {
	f.Add(newMember(f).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.DecodeMemberLock(b) })
		m, err := seal.DecodeMemberLock(b)
		if err != nil {
			return
		}
		if again := m.Encode(); !bytes.Equal(again, b) {
			t.Fatalf("written again: %x, want %x", again, b)
		}
	})
}
