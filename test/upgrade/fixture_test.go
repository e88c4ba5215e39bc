package upgrade_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Fixture is what fixture.json says of an archive.
type Fixture struct {
	Made  string     `json:"made"` // the program's own word
	Size  uint64     `json:"size"` // of the ledger that all held
	Root  string     `json:"root"`
	Boxes []KeptBox  `json:"boxes"`
	Saved []KeptSave `json:"saved"`
	Proof string     `json:"proof"` // of the first save, a file beside the boxes' folders
	Keys  string     `json:"keys"`  // of the region
}

// KeptBox is one box of a fixture.
type KeptBox struct {
	Name   string   `json:"name"`
	Role   string   `json:"role"`
	Dir    string   `json:"dir"`
	Export []string `json:"export"` // what it exported last, line by line, in order
	Own    int      `json:"own"`    // its records that nobody else held when it was stopped
}

// KeptSave is a visit that was saved, and where it was then.
type KeptSave struct {
	Box     string `json:"box"`
	Patient string `json:"patient"`
	Record  string `json:"record"`
	Marker  string `json:"marker"`
	State   string `json:"state"`
}

const fixtureFile = "fixture.json"

// pack writes a folder as an archive whose bytes follow from its content alone.
// Sockets, locks and reserved space are of no program that reads it.
func pack(dir, to string) error {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "ballast" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(raw)), Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	})
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// unpack gives a fixture and the folder that it is in now.
func unpack(t *testing.T, archive string) (Fixture, string) {
	t.Helper()
	dir := t.TempDir()
	if err := extract(archive, dir); err != nil {
		t.Fatalf("taking %s apart: %v", archive, err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, fixtureFile))
	if err != nil {
		t.Fatal(err)
	}
	var f Fixture
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
	return f, dir
}

func extract(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return err
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(h.Name) || strings.Contains(h.Name, "..") {
			return fmt.Errorf("a file called %q", h.Name)
		}
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return err
		}
		if err := write(to, r); err != nil {
			return err
		}
	}
}

// write leaves out runs of zeros, as the program does that preallocates them.
func write(to string, from io.Reader) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	var size int64
	zero, page := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(from, page)
		if n > 0 && !bytes.Equal(page[:n], zero[:n]) {
			if _, err := f.WriteAt(page[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Close()
}
