package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ParcelExt ends the name of a parcel's file.
const ParcelExt = ".hpp"

// parcelStart begins every parcel, whatever its version.
const parcelStart = "HPP"

// ParcelPath is the file that a parcel goes to: path, or in a folder one that is
// named after the box.
func ParcelPath(path, box string) string {
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		return path
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, box)
	return filepath.Join(path, strings.Trim(name, "-")+ParcelExt)
}

// ParcelFile writes a file so that it has its name only when all of it is on the
// disk. A file that is no parcel is not replaced.
func ParcelFile(path string, write func(io.Writer) error) error {
	old, err := os.Open(path)
	switch {
	case err == nil:
		start := make([]byte, len(parcelStart))
		_, err := io.ReadFull(old, start)
		old.Close()
		if err != nil || string(start) != parcelStart {
			return fmt.Errorf("%s is there and is no parcel: choose another name", path)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("making the parcel: %w", err)
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("making the parcel: %w", err)
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	if err := syncNames(filepath.Dir(path)); err != nil {
		return fmt.Errorf("finishing the parcel: %w", err)
	}
	return nil
}

// parcelFilesMax bounds the files of one stick that are looked at.
const parcelFilesMax = 64

// ParcelFiles lists the parcels in a folder, and in no folder below it; a file is
// itself, whatever its name.
func ParcelFiles(path string) ([]string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("finding parcels: %w", err)
	}
	if !st.IsDir() {
		return []string{path}, nil
	}
	list, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("finding parcels: %w", err)
	}
	var out []string
	for _, e := range list {
		if e.Type().IsRegular() && strings.EqualFold(filepath.Ext(e.Name()), ParcelExt) && len(out) < parcelFilesMax {
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}

// OpenParcel opens a file for reading past places that the stick cannot read any
// more: they read as zeros.
func OpenParcel(path string) (f io.ReadCloser, size int64, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the parcel: %w", err)
	}
	st, err := file.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("opening the parcel: %w", err), file.Close())
	}
	return &patient{file: file, size: st.Size()}, st.Size(), nil
}

const (
	badPlaceBytes = 4 << 10
	badPlacesMax  = 4096 // of which each may take the stick seconds
)

// patient reads a file and passes over what cannot be read.
type patient struct {
	file io.ReaderAt
	size int64
	at   int64
	bad  int
}

func (p *patient) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.size-p.at)]
	n, err := p.file.ReadAt(b, p.at)
	p.at += int64(n)
	switch {
	case n > 0 || err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		return 0, io.EOF // shorter than it was
	}
	if p.bad++; p.bad > badPlacesMax {
		return 0, fmt.Errorf("reading the stick: %w", err)
	}
	b = b[:min(len(b), badPlaceBytes)]
	clear(b)
	p.at += int64(len(b))
	return len(b), nil
}

func (p *patient) Close() error {
	if c, ok := p.file.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// looksLikeParcel reads only how a file begins.
func looksLikeParcel(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, len(parcelStart))
	_, err = io.ReadFull(f, start)
	return err == nil && bytes.Equal(start, []byte(parcelStart))
}

// WriteParcelFile is WriteParcel into a file.
func (n *Node) WriteParcelFile(ctx context.Context, path string, q ParcelRequest) (rep ParcelWritten, err error) {
	err = ParcelFile(path, func(w io.Writer) error {
		rep, err = n.WriteParcel(ctx, w, q)
		return err
	})
	return rep, err
}
