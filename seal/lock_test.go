package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/test/fuzz"
)

const passphrase = "copper lantern mosquito harvest violin"

// secretsOf are the keys that a lock has to hide.
func secretsOf(k *seal.Keyring) [][]byte {
	list := [][]byte{k.Exchange[:], k.Local[:]}
	for _, r := range k.Reading {
		list = append(list, bytes.Clone(r[:]))
	}
	return list
}

func TestLockedKeysOpenWithTheirLockAlone(t *testing.T) {
	file, other := newKey(t, 40), newKey(t, 41)
	for _, by := range []seal.Opener{seal.Passphrase(passphrase), seal.FileKey(file)} {
		ring, path := sampleKeyring(t), filepath.Join(t.TempDir(), "keys")
		if err := ring.Lock(reproducible(9), by); err != nil {
			t.Fatal(err)
		}
		if err := ring.Save(path); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, secret := range secretsOf(ring) {
			if bytes.Contains(raw, secret) {
				t.Errorf("%s: key %d lies in the clear", by.Kind(), i)
			}
		}
		if !bytes.Contains(raw, ring.Device[:]) {
			t.Errorf("%s: the device's key, which a locked box signs with, is not there", by.Kind())
		}
		locked, _, err := seal.LoadKeyring(path)
		if err != nil || !locked.Locked() || locked.LockKind() != by.Kind() || locked.DeviceID() != ring.DeviceID() {
			t.Fatalf("%s: loaded %v, locked %t", by.Kind(), err, locked.Locked())
		}
		if !locked.Local.IsZero() || !locked.Exchange.IsZero() || len(locked.Reading) != 0 {
			t.Errorf("%s: a locked keyring has keys", by.Kind())
		}
		if err := locked.Save(path); err == nil {
			t.Errorf("%s: a locked keyring was written", by.Kind())
		}
		for _, wrong := range []seal.Opener{{}, seal.FileKey(other), seal.FileKey(seal.Key{})} {
			if _, err := locked.Open(wrong); !errors.Is(err, seal.ErrWrongLock) {
				t.Errorf("%s opened by another: %v", by.Kind(), err)
			}
		}
		whole, err := locked.Open(by)
		if err != nil || !same(whole, ring) || whole.Locked() {
			t.Fatalf("%s: opened %v", by.Kind(), err)
		}
		if again, err := whole.Encode(); err != nil || bytes.Equal(again, raw) || bytes.Contains(again, whole.Local[:]) {
			t.Errorf("%s: written again with the nonce of before, or in the clear: %v", by.Kind(), err)
		}
		if err := whole.TakeLockOff(); err != nil {
			t.Fatal(err)
		}
		plain, err := whole.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := seal.DecodeKeyring(plain); err != nil || back.Locked() || back.LockKind() != seal.NoLock || !same(back, ring) {
			t.Errorf("%s: without the lock: %v", by.Kind(), err)
		}
	}
}

func TestPassphrasesThatCouldBeGuessedAreRefused(t *testing.T) {
	for _, weak := range []string{"", "314159", "3141592653589793238462643", "password", "correct horse battery staple", "aaa aaa aaa aaa aaa aaa aaa aaa",
		"12 34 56 78 90 12 34 56 78 90 12", "a b c d e f g h i j k l m n o p q r", strings.Repeat("lantern ", 80)} {
		if err := seal.CheckPassphrase(weak); !errors.Is(err, seal.ErrWeakPassphrase) {
			t.Errorf("%q: %v", weak, err)
		}
		if ring := sampleKeyring(t); ring.Lock(reproducible(1), seal.Passphrase(weak)) == nil || ring.LockKind() != seal.NoLock {
			t.Errorf("%q locks", weak)
		}
	}
	for _, good := range []string{passphrase, "  Copper LANTERN mosquito\tharvest  violin ", "été château forêt rivière montagne", "nzuri samaki mlima bahari jua kubwa"} {
		if err := seal.CheckPassphrase(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if got := fmt.Sprintf("%v %+v %s %x", seal.Passphrase(passphrase), seal.Passphrase(passphrase), seal.Passphrase(passphrase), seal.FileKey(newKey(t, 1))); strings.Contains(got, "copper") || strings.Count(got, "(secret opener)") != 4 {
		t.Errorf("an opener prints itself: %s", got)
	}
}

func TestKeyFilesComeBackAndSayWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "box.key")
	if _, err := seal.LoadKeyFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	made, err := seal.MakeKeyFile(reproducible(3), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.MakeKeyFile(reproducible(4), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over another: %v", err)
	}
	if got, err := seal.LoadKeyFile(path); err != nil || got != made {
		t.Errorf("loading: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info, err)
	}
	for name, text := range map[string]string{"empty": "", "other": "hello\n", "short": "healthpost key file, keep it away from the box\nabcd\n"} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.LoadKeyFile(p); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := seal.LoadKeyFile(dir); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a folder: %v", err)
	}
}

func FuzzKeyFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "box.key")
	if _, err := seal.MakeKeyFile(reproducible(3), path); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.DecodeKeyFile(b) })
		if k, err := seal.DecodeKeyFile(b); err == nil && k.IsZero() {
			t.Fatal("a key file without a key")
		}
	})
}
