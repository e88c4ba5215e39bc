package seal_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

func sampleKeyring(t testing.TB) *seal.Keyring {
	t.Helper()
	ring, err := seal.NewKeyring(reproducible(4))
	if err != nil {
		t.Fatal(err)
	}
	for n := range byte(3) {
		if _, err := ring.AddReading(newKey(t, 10+n)); err != nil {
			t.Fatal(err)
		}
	}
	return ring
}

func same(a, b *seal.Keyring) bool { return cmp.Equal(a, b, cmpopts.IgnoreUnexported(seal.Keyring{})) }

func TestKeyFileComesBack(t *testing.T) {
	fresh, err := seal.NewKeyring(reproducible(1))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys")
	for _, want := range []*seal.Keyring{fresh, sampleKeyring(t), fresh} {
		if err := want.Save(path); err != nil {
			t.Fatal(err)
		}
		got, warning, err := seal.LoadKeyring(path)
		if err != nil || warning != "" {
			t.Fatalf("loading: %q, %v", warning, err)
		}
		if !same(got, want) || got.DeviceID() != want.DeviceID() {
			t.Error("loaded other keys than were saved")
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
		}
	}
}

func TestKeyFileWarnsOfReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	ring := sampleKeyring(t)
	if err := ring.Save(path); err != nil {
		t.Fatal(err)
	}
	for mode, warned := range map[fs.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o660: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, warning, err := seal.LoadKeyring(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := warning != ""; got != warned {
			t.Errorf("mode %o: warning %q", mode, warning)
		}
	}
	if err := ring.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, warning, err := seal.LoadKeyring(path); err != nil || warning != "" {
		t.Errorf("saving did not close the file to others: %q, %v", warning, err)
	}
}

func TestKeyFileRefusesEveryChange(t *testing.T) {
	good, err := sampleKeyring(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x01
		if _, err := seal.DecodeKeyring(bad); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("byte %d flipped: %v, want ErrDamaged", i, err)
		}
		if _, err := seal.DecodeKeyring(good[:i]); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("cut to %d: %v, want ErrDamaged", i, err)
		}
	}
	if _, err := seal.DecodeKeyring(append(bytes.Clone(good), 0)); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("one byte more: %v, want ErrDamaged", err)
	}
	for _, secret := range [][]byte{sampleKeyring(t).Device[:8], sampleKeyring(t).Local[:8]} {
		_, err := seal.DecodeKeyring(append(bytes.Clone(good), 0))
		if strings.Contains(err.Error(), string(secret)) {
			t.Error("the error quotes a key")
		}
	}
}

func TestLoadingExplains(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name, content, says string
		is                  error
	}{
		{"empty", "", "0 bytes", seal.ErrDamaged},
		{"text", "hello, this is not it", "not a key file", seal.ErrDamaged},
		{"large", strings.Repeat("x", 1<<20), "bytes", seal.ErrDamaged},
		{"newer", newerKeyFile(t), "version 4, this program reads versions up to 3", seal.ErrNewer},
	} {
		path := filepath.Join(dir, tc.name)
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := seal.LoadKeyring(path)
		if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %v saying %q", tc.name, err, tc.is, tc.says)
		}
	}
	if _, _, err := seal.LoadKeyring(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want ErrNotExist", err)
	}
	if _, _, err := seal.LoadKeyring(dir); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a folder: %v, want ErrDamaged", err)
	}
}

// newerKeyFile is what a later version might leave: the same outer layer, other content.
func newerKeyFile(t testing.TB) string {
	t.Helper()
	inside := []byte("something later software understands")
	b, err := record.Marshal([]any{"healthpost keys", 4, inside, sum("hp:keyring:1\x00\x04" + string(inside))})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSaveKeepsTheOldKeysWhenItFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	old := sampleKeyring(t)
	if err := old.Save(path); err != nil {
		t.Fatal(err)
	}
	other, err := seal.NewKeyring(reproducible(77))
	if err != nil {
		t.Fatal(err)
	}
	// What a crash before the rename leaves behind is never read, and does not stand in the way.
	if err := os.WriteFile(path+".new", []byte("half a key fi"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, _, err := seal.LoadKeyring(path); err != nil || !same(got, old) {
		t.Fatalf("after a crash: %v", err)
	}
	if err := other.Save(path); err != nil {
		t.Fatal(err)
	}
	if got, warning, err := seal.LoadKeyring(path); err != nil || warning != "" || !same(got, other) {
		t.Fatalf("saving over leftovers: %q, %v", warning, err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("leftovers remain: %v", err)
	}
	// A folder in the place of the scratch file makes the write fail before the commit point.
	if err := os.MkdirAll(filepath.Join(path+".new", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := old.Save(path); err == nil {
		t.Fatal("saving did not fail")
	}
	if got, _, err := seal.LoadKeyring(path); err != nil || !same(got, other) {
		t.Errorf("after a failed save: %v", err)
	}
	if err := old.Save(filepath.Join(dir, "none", "keys")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("saving into no folder: %v, want ErrNotExist", err)
	}
	broken := *old
	broken.Device = seal.Key{}
	if err := broken.Save(path); err == nil {
		t.Error("saved a keyring without a device key")
	}
	if got, _, err := seal.LoadKeyring(path); err != nil || !same(got, other) {
		t.Errorf("after refusing: %v", err)
	}
}

func TestKeyringUnwraps(t *testing.T) {
	ring, dek := sampleKeyring(t), newKey(t, 1)
	current, ok := ring.CurrentReading()
	if !ok || current.ID() != ring.Current {
		t.Fatal("no current reading key")
	}
	for name, key := range map[string]seal.Key{"current": current, "old": newKey(t, 10)} {
		w, err := seal.WrapKey(reproducible(5), key, testComp, 1, dek)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ring.Unwrap(w); err != nil || got != dek {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, err := seal.WrapKeyTo(ring.ExchangeKey().PublicKey(), testComp, 1, dek)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ring.Unwrap(w); err != nil || got != dek {
		t.Errorf("to the device: %v", err)
	}
	foreign, err := seal.WrapKey(reproducible(5), newKey(t, 99), testComp, 1, dek)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Unwrap(foreign); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("for somebody else: %v, want ErrNoKey", err)
	}
	empty, err := seal.NewKeyring(reproducible(6))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := empty.CurrentReading(); ok {
		t.Error("a new box has a reading key")
	}
}

func TestKeyringIsBounded(t *testing.T) {
	ring := sampleKeyring(t)
	rand := reproducible(8)
	for {
		key, err := seal.NewKey(rand)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.AddReading(key); err != nil {
			if !errors.Is(err, seal.ErrTooLarge) {
				t.Fatal(err)
			}
			break
		}
	}
	if len(ring.Reading) != seal.ReadingKeysMax {
		t.Errorf("%d reading keys, want %d", len(ring.Reading), seal.ReadingKeysMax)
	}
	if _, err := ring.AddReading(newKey(t, 10)); err != nil {
		t.Errorf("adding a known key to a full ring: %v", err)
	}
	b, err := ring.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := seal.DecodeKeyring(b); err != nil || !same(got, ring) {
		t.Errorf("a full ring of %d bytes: %v", len(b), err)
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	root := newKey(t, 1)
	seen := map[seal.Key]string{root: "root"}
	for _, label := range []string{"", "rows", "search", "rows\x00"} {
		k := seal.Derive(root, label)
		if other, ok := seen[k]; ok {
			t.Errorf("%q and %q give the same key", label, other)
		}
		seen[k] = label
	}
	if seal.Derive(root, "rows") == seal.Derive(newKey(t, 2), "rows") {
		t.Error("two roots give the same key")
	}
}
