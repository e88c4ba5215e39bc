package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const ballastFile = "ballast"

func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("asking for free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Free is the space left for writes in bytes, negative when writes are refused.
func (s *Store) Free() (int64, error) {
	n, err := freeBytes(s.dir)
	return n - s.o.FreeBytesMin, err
}

// Full says whether writes are refused for want of space.
func (s *Store) Full() bool {
	n, err := s.Free()
	return err == nil && n < 0
}

// guard refuses a write before it is built. The index maps sparse files: a page
// fault on a full disk would kill the process, so it must never come to that.
func (s *Store) guard() error {
	n, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	if n < s.o.FreeBytesMin {
		return fmt.Errorf("%w: %d MiB free, %d MiB needed", ErrFull, n>>20, s.o.FreeBytesMin>>20)
	}
	return nil
}

func releaseBallast(dir string) error {
	if err := os.Remove(filepath.Join(dir, ballastFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("releasing ballast: %w", err)
	}
	return nil
}

// makeBallast allocates the ballast when that leaves room for writes as well.
func makeBallast(dir string, ballast, freeMin int64) error {
	free, err := freeBytes(dir)
	if err != nil || ballast <= 0 || free < ballast+freeMin+freeMin/4 {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, ballastFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("making ballast: %w", err)
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, ballast)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		return errors.Join(fmt.Errorf("making ballast: %w", err), releaseBallast(dir))
	}
	return nil
}
