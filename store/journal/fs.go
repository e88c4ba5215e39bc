package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is one file of the journal. Calls on one file do not overlap.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync returns when the file's bytes, and the size needed to read them, are
	// on the device (fdatasync).
	Sync() error
	Size() (int64, error)
	Close() error
}

// FS is the directory of a journal: the seam at which tests inject faults.
type FS interface {
	// Open opens a file for reading and writing; create makes it when absent.
	// Without create the error for an absent file is fs.ErrNotExist.
	Open(name string, create bool) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	Names() ([]string, error)
	// SyncDir makes created, renamed and removed names durable.
	SyncDir() error
}

// Dir is the FS of a real directory.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// Open implements FS.
func (d Dir) Open(name string, create bool) (File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(d.path(name), flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Rename implements FS.
func (d Dir) Rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

// Remove implements FS.
func (d Dir) Remove(name string) error { return os.Remove(d.path(name)) }

// Names implements FS.
func (d Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// SyncDir implements FS.
func (d Dir) SyncDir() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Sync() error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err == nil || !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

var errNotExist = fs.ErrNotExist
