package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/store"
)

// TestWholeFileDamage cuts short, fills with zeros, swaps and deletes each file of
// a store. It opens, or opens for salvage and is rebuilt; it never panics, and
// nothing it shows afterwards is wrong.
func TestWholeFileDamage(t *testing.T) {
	r := rng(t)
	hub, golden, own := held(t)
	b := *golden
	golden.close()
	names := copyStore(t, t.TempDir(), golden.dir)
	for _, name := range names {
		for _, what := range []string{"cut", "zero", "delete", "swap"} {
			raw, err := os.ReadFile(filepath.Join(golden.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) == 0 || strings.HasSuffix(name, "LOCK") {
				continue
			}
			t.Run(what+"/"+strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
				b := b
				b.t, b.dir = t, t.TempDir()
				copyStore(t, b.dir, golden.dir)
				path := filepath.Join(b.dir, name)
				switch what {
				case "cut":
					err = os.Truncate(path, int64(r.IntN(len(raw))))
				case "zero":
					err = os.WriteFile(path, make([]byte, len(raw)), 0o600)
				case "delete":
					err = os.Remove(path)
				case "swap":
					other := filepath.Join(golden.dir, names[r.IntN(len(names))])
					var with []byte
					if with, err = os.ReadFile(other); err == nil {
						err = os.WriteFile(path, with, 0o600)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				s, err := store.Open(b.dir, b.o)
				if err == nil {
					b.s = s
					checkKept(t, b.s, own)
					b.close()
					return
				}
				t.Logf("opens with %v", err)
				if !errors.Is(err, store.ErrDamaged) && name != "FORMAT" {
					t.Errorf("%v, want damage", err)
				}
				readable := readableIn(t, &b, own)
				rep := b.rebuilt()
				t.Logf("%d of %d readable, %+v", len(readable), len(own), rep)
				checkKept(t, b.s, readable)
				b.pull(hub)
				checkKept(t, b.s, readable)
				checkKept(t, b.s, own[:len(own)-3])
				b.close()
			})
		}
	}
}
