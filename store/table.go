package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// Badger finds a damaged block when a row of it is read, but its iterators just
// end there: a scan misses rows without an error, and a compaction writes a new
// table without the rows behind the block and deletes the old one. A damaged
// length ends the process. So Open reads every table, as far as a budget goes,
// before Badger may compact; the rest is read in the background.

// tableName says whether a file of the index is a table.
func tableName(name string) bool { return strings.HasSuffix(name, ".sst") }

// listedTables are the tables that the manifest names. Any other was cut off
// while it was written: its rows are still in the logs and the journal, and Badger
// removes it. A manifest that cannot be read names every table.
func listedTables(dir string) ([]string, error) {
	listed := func(string) bool { return true }
	if f, err := os.Open(filepath.Join(dir, badger.ManifestFilename)); err == nil {
		defer f.Close()
		if m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir).WithLogger(nil)); err == nil {
			listed = func(name string) bool {
				id, err := strconv.ParseUint(strings.TrimSuffix(name, ".sst"), 10, 64)
				_, ok := m.Tables[id]
				return ok || err != nil
			}
		}
	}
	return indexFiles(dir, func(name string) bool { return tableName(name) && listed(name) })
}

// checkOpenTable is checkTable for a table of the open index. One that a
// compaction took away meanwhile, which empties it first, is no error. The caller
// is inside the gate.
func (s *Store) checkOpenTable(name string, buf *[]byte) error {
	err := checkTable(filepath.Join(s.indexPath(), name), buf)
	if err == nil {
		return nil
	}
	for _, info := range s.db.Tables() {
		if tableFile(info.ID) == name {
			return err
		}
	}
	return nil
}

func tableFile(id uint64) string { return fmt.Sprintf("%06d.sst", id) }

// checkTables verifies the tables within the budget and keeps the names of the
// others for the background. Damage is an error unless the store is salvaged.
func (s *Store) checkTables(dir string) error {
	names, err := listedTables(dir)
	if err != nil {
		return err
	}
	budget := s.o.VerifyBytes
	var now []string
	for _, name := range names {
		st, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			err = s.excuse(tableDamage(name, "file is missing"))
			if err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if budget -= st.Size(); budget < 0 {
			s.unchecked = append(s.unchecked, name)
			continue
		}
		now = append(now, name)
	}
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var buf []byte
			for i := w; i < len(now) && errs[w] == nil; i += len(errs) {
				errs[w] = checkTable(filepath.Join(dir, now[i]), &buf)
			}
		}()
	}
	wg.Wait()
	if s.o.Salvage {
		if err := s.excuse(errors.Join(errs...)); err != nil {
			return err
		}
		s.unchecked, errs = names, nil
	}
	if s.o.Salvage { // what cannot be taken apart is left out
		return errors.Join(errs...)
	}
	// What is not checked in full must still not end the process.
	for _, name := range s.unchecked {
		if err := checkFooter(filepath.Join(dir, name)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// scrub verifies the tables that Open had no time for. It ends with Close.
func (s *Store) scrub() {
	defer close(s.scrubbed)
	if s.o.Salvage {
		return
	}
	var buf []byte
	for _, name := range s.unchecked {
		select {
		case <-s.closing:
			return
		default:
		}
		if err := s.gate.enter(); err != nil {
			return
		}
		err := s.checkOpenTable(name, &buf)
		s.gate.leave()
		if err != nil {
			s.fail(err)
			return
		}
	}
}

func tableDamage(path, what string) error {
	return &DamageError{Key: indexDir + "/" + filepath.Base(path), What: "table of the index: " + what}
}

// checkTable verifies every block of a table and its index.
func checkTable(path string, buf *[]byte) error {
	b, err := readInto(path, buf)
	if errors.Is(err, io.EOF) {
		return tableDamage(path, "shorter than it was")
	}
	if err != nil {
		return err
	}
	if err := verifyTable(b); err != nil {
		return errors.Join(tableDamage(path, err.Error()), err)
	}
	return nil
}

func readInto(path string, buf *[]byte) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(cap(*buf)) < st.Size() {
		*buf = make([]byte, st.Size())
	}
	b := (*buf)[:st.Size()]
	_, err = f.ReadAt(b, 0)
	return b, err
}

// verifyTable checks the bytes of a table file:
//
//	block* index indexLength(4) checksum checksumLength(4)
//	block = data checksum checksumLength(4)
func verifyTable(b []byte) (err error) {
	defer func() { // the index is a flatbuffer, read without bounds checks of its own
		if p := recover(); p != nil {
			err = fmt.Errorf("not readable: %v", p)
		}
	}()
	rest, sum, err := cutChecksum(b)
	if err != nil {
		return err
	}
	if len(rest) < 4 {
		return errors.New("too short")
	}
	n := binary.BigEndian.Uint32(rest[len(rest)-4:])
	rest = rest[:len(rest)-4]
	if uint64(n) > uint64(len(rest)) || n < 8 {
		return errors.New("length of the index")
	}
	data, blocks := rest[len(rest)-int(n):], rest[:len(rest)-int(n)]
	if err := y.VerifyChecksum(data, sum); err != nil {
		return errors.New("index does not match its checksum")
	}
	index := fb.GetRootAsTableIndex(data, 0)
	var o fb.BlockOffset
	for i := range index.OffsetsLength() {
		if !index.Offsets(&o, i) || uint64(o.Offset())+uint64(o.Len()) > uint64(len(blocks)) {
			return fmt.Errorf("block %d is outside the table", i)
		}
		block := blocks[o.Offset() : o.Offset()+o.Len()]
		data, sum, err := cutChecksum(block)
		if err == nil {
			err = y.VerifyChecksum(data, sum)
		}
		if err != nil {
			return newBlockError(index, i, &o)
		}
	}
	return nil
}

// blockError says which block of a table is damaged: first and next are the keys
// that it and the block behind it begin with, without their versions.
type blockError struct {
	text        string
	first, next []byte
}

func (e *blockError) Error() string { return e.text }

func newBlockError(index *fb.TableIndex, i int, o *fb.BlockOffset) error {
	const version = 8 // bytes at the end of a key
	e := &blockError{text: fmt.Sprintf("block %d at byte %d does not match its checksum", i, o.Offset())}
	key := func() []byte {
		if k := o.KeyBytes(); len(k) > version {
			return bytes.Clone(k[:len(k)-version])
		}
		return nil
	}
	e.first = key()
	if i+1 < index.OffsetsLength() && index.Offsets(o, i+1) {
		e.next = key()
	}
	return e
}

// entries are those whose leaf or body the block may hold; ok false when it holds
// other rows.
func (e *blockError) entries() (from, to uint64, ok bool) {
	if len(e.first) != 9 || e.first[0] != pEntry && e.first[0] != pBody {
		return 0, 0, false
	}
	from, to = binary.BigEndian.Uint64(e.first[1:]), ^uint64(0)
	if len(e.next) == 9 && e.next[0] == e.first[0] {
		to = binary.BigEndian.Uint64(e.next[1:])
	}
	return from, to, true
}

// cutChecksum takes the checksum off the end of a block or a table.
func cutChecksum(b []byte) (rest []byte, sum *pb.Checksum, err error) {
	if len(b) < 4 {
		return nil, nil, errors.New("too short")
	}
	n := binary.BigEndian.Uint32(b[len(b)-4:])
	if uint64(n) > uint64(len(b)-4) || n > 64 {
		return nil, nil, errors.New("length of the checksum")
	}
	at := len(b) - 4 - int(n)
	sum = &pb.Checksum{}
	if err := proto.Unmarshal(b[at:len(b)-4], sum); err != nil {
		return nil, nil, errors.New("checksum is not readable")
	}
	if sum.Algo != pb.Checksum_CRC32C && sum.Algo != pb.Checksum_XXHash64 {
		return nil, nil, errors.New("kind of checksum")
	}
	return b[:at], sum, nil
}

// checkFooter bounds the lengths at the end of a table.
func checkFooter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, min(st.Size(), 256))
	if _, err := f.ReadAt(tail, st.Size()-int64(len(tail))); err != nil {
		return err
	}
	rest, _, err := cutChecksum(tail)
	if err != nil {
		return tableDamage(path, err.Error())
	}
	if len(rest) < 4 || int64(binary.BigEndian.Uint32(rest[len(rest)-4:])) > st.Size() {
		return tableDamage(path, "length of the index")
	}
	return nil
}
