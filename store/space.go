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
	return n - s.freeMin(), err
}

// freeMin is the free space that a write needs to find: the fixed part, and what
// a compaction may need at its height, which is as much as it reads.
func (s *Store) freeMin() int64 { return s.o.FreeBytesMin + s.headroom.Load() }

// measureHeadroom looks at the size of the tables, after every few MiB of writes.
func (s *Store) measureHeadroom() error {
	var size int64
	names, err := indexFiles(filepath.Join(s.dir, indexDir), tableName)
	for _, name := range names {
		if st, serr := os.Stat(filepath.Join(s.dir, indexDir, name)); serr == nil {
			size += st.Size()
		}
	}
	s.headroom.Store(min(size, headroomMax))
	return err
}

const (
	headroomMax   = 128 << 20
	headroomEvery = 4 << 20 // bytes written between two looks
)

// Full says whether writes are refused for want of space.
func (s *Store) Full() bool {
	n, err := s.Free()
	return err == nil && n < 0
}

// guard refuses a write before it is built. The index maps sparse files: a page
// fault on a full disk would kill the process, so it must never come to that.
// While the disk is full the index rests, so that nothing in the background needs
// space either, whatever other programs do to the disk.
func (s *Store) guard() error {
	n, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	need := s.freeMin()
	s.qmu.Lock()
	defer s.qmu.Unlock()
	if s.rest && n < need+need/16 || n < need {
		if !s.rest {
			s.rest = true
			s.wakeCommitter()
		}
		return fmt.Errorf("%w: %d MiB free, %d MiB needed", ErrFull, n>>20, need>>20)
	}
	if s.rest {
		s.rest = false
		s.wakeCommitter()
	}
	return nil
}

// restIndex closes the index, which writes its memtable out and ends compactions,
// and opens it without compactions, or with them again. Only the committer calls
// it, with nothing queued.
func (s *Store) restIndex(rest bool) error {
	if err := s.endCheckpoint(); err != nil {
		return err
	}
	return s.gate.exclusive(func() error {
		if err := s.db.Close(); err != nil {
			return fmt.Errorf("closing index: %w", err)
		}
		if err := s.writeCheckpoint(s.journal.Stats().SyncedLast, false); err != nil {
			return err
		}
		s.resting = rest
		if err := s.openIndex(); err != nil {
			return err
		}
		s.o.Log.Warn().Bool("resting", rest).Msg("index")
		return nil
	})
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
