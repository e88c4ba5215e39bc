package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	names, err := indexFiles(s.indexPath(), tableName)
	for _, name := range names {
		if st, serr := os.Stat(filepath.Join(s.indexPath(), name)); serr == nil {
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

// restBelow is the free space under which the index rests: well before writes are
// refused, so that nothing compacts when it comes to that.
func restBelow(need int64) int64 { return need + need/2 }

// guard refuses a write before it is built. The index maps sparse files: a page
// fault on a full disk would kill the process, so it must never come to that.
// While the disk is nearly full the index rests: it does not compact and its log
// is allocated. Once writes are refused nothing is done to the index, neither in
// the background nor here, whatever other programs do to the disk.
func (s *Store) guard() error {
	n, err := freeBytes(s.dir)
	if err != nil {
		return err
	}
	need := s.freeMin()
	s.qmu.Lock()
	defer s.qmu.Unlock()
	if rest := n < restBelow(need) || s.rest && n < restBelow(need)+need/4; rest != s.rest {
		s.rest = rest
		s.wakeCommitter()
	}
	if s.refusing = n < need || s.refusing && n < need+need/16; s.refusing {
		return fmt.Errorf("%w: %d MiB free, %d MiB needed", ErrFull, n>>20, need>>20)
	}
	return nil
}

// restIndex closes the index, which writes its memtable out and ends compactions,
// and opens it without compactions, or with them again. Only the committer calls
// it, with nothing queued. Without ample room for that the index stays as it is.
func (s *Store) restIndex(rest bool) error {
	if free, err := freeBytes(s.dir); err != nil || free < 3*s.memTable+openBytes {
		return err
	}
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
		s.resting, s.applied = rest, 0
		if err := s.openIndex(); err != nil {
			return err
		}
		s.o.Log.Warn().Bool("resting", rest).Msg("index")
		return s.makeReserve()
	})
}

// openBytes is what opening and closing the index write whatever it holds: first
// pages of its logs, its manifest, the checkpoint.
const openBytes = 1 << 20

// logBytes is what the memtable logs hold, which becomes tables of about that
// size when the index is closed or opened.
func (s *Store) logBytes() (int64, error) {
	dir := s.indexPath()
	names, err := indexFiles(dir, isLog)
	var size int64
	for _, name := range names {
		b, rerr := readLog(filepath.Join(dir, name))
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) { // flushed meanwhile
			return 0, rerr
		}
		size += int64(len(b))
	}
	return size, err
}

// readLog reads a memtable log up to its last byte that is not zero. Badger makes
// it sparse, twice as long as a memtable.
func readLog(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	end, err := dataEnd(f)
	if err != nil {
		return nil, err
	}
	b := make([]byte, end)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return trimZeros(b[:n]), nil
}

// dataEnd is where the last written part of a file ends, or the file where the
// file system does not tell.
func dataEnd(f *os.File) (int64, error) {
	const seekData, seekHole = 3, 4
	end := int64(0)
	for {
		from, err := f.Seek(end, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return end, nil
		}
		if err == nil {
			end, err = f.Seek(from, seekHole)
		}
		if err != nil {
			return f.Seek(0, io.SeekEnd)
		}
	}
}

var zeros [4 << 10]byte

func trimZeros(b []byte) []byte {
	for len(b) >= len(zeros) && bytes.Equal(b[len(b)-len(zeros):], zeros[:]) {
		b = b[:len(b)-len(zeros)]
	}
	return bytes.TrimRight(b, "\x00")
}

// roomToClose says whether the index finds the space that its closing takes. The
// logs, three of at most two memtables each, are read only where that is in
// question.
func (s *Store) roomToClose() (bool, error) {
	free, err := freeBytes(s.dir)
	if err != nil || free > 8*s.memTable {
		return err == nil, err
	}
	held, err := s.logBytes()
	return err == nil && free >= held+held/4+openBytes, err
}

// roomToOpen is ErrFull when the index would not find the space that its opening
// takes: its logs as tables, and what is replayed as a log and as tables.
func (s *Store) roomToOpen() error {
	free, err := freeBytes(s.dir)
	if err != nil || free > 4*s.memTable+2*s.journal.Live()+2*s.o.SegmentBytes {
		return err
	}
	held, err := s.logBytes()
	if err != nil {
		return err
	}
	var tail int64
	err = s.journal.Replay(func(_ uint64, payload []byte) error {
		tail += int64(len(payload))
		return nil
	})
	if err != nil {
		return damagedJournal(err)
	}
	if need := held + held/4 + 5*tail/2 + openBytes; free < need {
		err = fmt.Errorf("%w: %d KiB free, %d KiB needed to open", ErrFull, free>>10, need>>10)
	}
	return err
}

// reserveLogs allocates the memtable logs, which Badger makes sparse.
func (s *Store) reserveLogs() error {
	dir := s.indexPath()
	names, err := indexFiles(dir, isLog)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := reserve(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reserving space for the index: %w", err)
		}
	}
	return nil
}

func reserve(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 >= st.Size {
		return err
	}
	const keepSize = 1 // Badger may cut the log meanwhile
	if err := syscall.Fallocate(int(f.Fd()), keepSize, 0, st.Size); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	return nil
}

func releaseBallast(dir string) error {
	if err := os.Remove(filepath.Join(dir, ballastFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("releasing ballast: %w", err)
	}
	return nil
}

// makeBallast allocates the ballast when that leaves room for writes as well. On a
// disk that is nearly full it takes what is left, so that the next opening finds
// it whatever other programs do.
func makeBallast(dir string, ballast, freeMin int64) error {
	free, err := freeBytes(dir)
	if free < restBelow(freeMin) {
		ballast = min(ballast, free-4*openBytes)
	} else if free < ballast+freeMin+freeMin/4 {
		return err
	}
	if err != nil || ballast <= 0 {
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
