package rig

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// CopyBox copies a stopped box's folder.
func CopyBox(t testing.TB, box *Box) *Box {
	t.Helper()
	b := &Box{T: t, Name: box.Name + " copied", Role: box.Role, Dir: filepath.Join(t.TempDir(), "box"), LogFile: box.LogFile, Settings: box.Settings}
	err := filepath.WalkDir(box.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(box.Dir, path)
		if err != nil {
			return err
		}
		to := filepath.Join(b.Dir, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case !d.Type().IsRegular() || d.Name() == "ballast":
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, raw, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ReplaceWith puts the folder of a copy in the place of a stopped box's folder.
func ReplaceWith(t testing.TB, b, image *Box) {
	t.Helper()
	if err := os.RemoveAll(b.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(image.Dir, b.Dir); err != nil {
		t.Fatal(err)
	}
}

// TwinOf is a copy of a stopped box that can run: the same keys, other ports.
func TwinOf(t testing.TB, b *Box, name string, wrap ...string) *Box {
	t.Helper()
	c := CopyBox(t, b)
	c.Name, c.Wrap = name, wrap
	c.TakePorts()
	c.ends()
	c.Configure(b.Dial)
	c.pages.page = NewPage(c) // its staff are there already: sign in
	return c
}

// OtherMachine is TwinOf on a board with another machine id.
func OtherMachine(t testing.TB, b *Box, name string) *Box {
	t.Helper()
	id := filepath.Join(t.TempDir(), "machine-id")
	if err := os.WriteFile(id, []byte("0123456789abcdef0123456789abcdef\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return TwinOf(t, b, name, "unshare", "-m", "sh", "-c", "mount --bind "+id+" /etc/machine-id && exec \"$@\"", "sh")
}
