package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// A store that is opened to be salvaged is read from a copy of its index: Badger
// writes when it opens one, trusts lengths inside of a block, ends the process over
// a table whose index is damaged, and deletes every table that its manifest does
// not name. Sound tables are links. Of a damaged one the rows of every block that
// can be taken apart go into a table of the same name, whatever its values say:
// every row has a hash of its own.

const salvageDir = "salvage"

// prepareSalvage makes the copy and points the store at it.
func (s *Store) prepareSalvage() error {
	from, to := s.indexPath(), filepath.Join(s.dir, salvageDir)
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copying the index: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("copying the index: %w", err)
	}
	s.index = to
	if err := s.salvageTables(from, to); err != nil {
		return fmt.Errorf("copying the index: %w", err)
	}
	logs, err := indexFiles(from, isLog)
	for _, name := range logs {
		err = errors.Join(err, copyLog(filepath.Join(to, name), filepath.Join(from, name)))
	}
	return errors.Join(err, dropEmptyLogs(to))
}

// salvageTables brings over what can be read of the tables, and a manifest of them.
func (s *Store) salvageTables(from, to string) error {
	manifest, known := readManifest(from)
	names, err := indexFiles(from, tableName)
	if err != nil {
		return err
	}
	changes := &pb.ManifestChangeSet{}
	for _, name := range names {
		id, err := strconv.ParseUint(strings.TrimSuffix(name, ".sst"), 10, 64)
		entry, listed := manifest.Tables[id]
		if err != nil || known && !listed {
			continue
		}
		kept, err := salvageTable(filepath.Join(to, name), filepath.Join(from, name))
		if err != nil {
			return err
		}
		if !kept {
			s.excluded = true
			continue
		}
		delete(manifest.Tables, id)
		changes.Changes = append(changes.Changes, &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE, Level: uint32(entry.Level), EncryptionAlgo: pb.EncryptionAlgo_aes})
	}
	if s.excluded = s.excluded || !known || len(manifest.Tables) > 0; s.excluded {
		s.salvaged = append(s.salvaged, &DamageError{Key: indexDir, What: "some tables of the index cannot be read at all"})
	}
	return writeManifest(to, changes)
}

// readManifest gives the tables of an index and their levels; known false when the
// manifest cannot be read.
func readManifest(dir string) (m badger.Manifest, known bool) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if err != nil {
		return m, false
	}
	defer f.Close()
	m, end, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir).WithLogger(nil))
	st, serr := f.Stat()
	return m, err == nil && serr == nil && end == st.Size()
}

// writeManifest writes a manifest as Badger does: a head of 8 bytes, then length,
// checksum and changes.
func writeManifest(dir string, c *pb.ManifestChangeSet) error {
	changes, err := proto.Marshal(c)
	if err != nil {
		return err
	}
	b := []byte{'B', 'd', 'g', 'r', 0, 0, 0, 8}
	b = binary.BigEndian.AppendUint32(b, uint32(len(changes)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(changes, y.CastagnoliCrcTable))
	return os.WriteFile(filepath.Join(dir, badger.ManifestFilename), append(b, changes...), 0o600)
}

// salvageTable links or mends one table; kept false when nothing of it can be read.
func salvageTable(to, from string) (kept bool, err error) {
	b, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if verifyTable(b) == nil && soundBlocks(b) {
		if os.Link(from, to) == nil {
			return true, nil
		}
		return true, os.WriteFile(to, b, 0o600)
	}
	made := mendTable(b)
	if made == nil {
		return false, nil
	}
	return true, os.WriteFile(to, made, 0o600)
}

// mendTable makes a table of the rows of the blocks that can be taken apart, nil
// when there are none.
func mendTable(b []byte) (made []byte) {
	defer func() { // the index is a flatbuffer, read without bounds checks of its own
		if recover() != nil {
			made = nil
		}
	}()
	all := tableBlocks(b)
	t := table.NewTableBuilder(table.Options{TableSize: uint64(2*len(b) + 1<<20), BlockSize: 8 << 10, BloomFalsePositive: 0.01})
	defer t.Close()
	var last []byte
	for _, block := range all {
		data, _, err := cutChecksum(block)
		if err != nil || !soundBlock(data) {
			continue
		}
		eachRow(data, func(key, value []byte) {
			if last == nil || y.CompareKeys(key, last) > 0 {
				var v y.ValueStruct
				v.Decode(value)
				t.Add(key, v, 0)
				last = bytes.Clone(key)
			}
		})
	}
	if last == nil {
		return nil
	}
	return t.Finish()
}

// soundBlocks says whether every block can be taken apart: a table that another
// program wrote may be compressed, which none of this store is.
func soundBlocks(b []byte) bool {
	for _, block := range tableBlocks(b) {
		if data, _, err := cutChecksum(block); err != nil || !soundBlock(data) {
			return false
		}
	}
	return true
}

// tableBlocks gives the blocks of a table by its index. Where that cannot be read,
// because the end of the file is gone, it gives those at the beginning, one after
// the other, as long as their checksums hold.
func tableBlocks(b []byte) (all [][]byte) {
	defer func() { // the index is a flatbuffer, read without bounds checks of its own
		if recover() != nil {
			all = leadingBlocks(b)
		}
	}()
	index, blocks, ok := splitTable(b)
	if !ok {
		return leadingBlocks(b)
	}
	var o fb.BlockOffset
	for i := range index.OffsetsLength() {
		if index.Offsets(&o, i) && uint64(o.Offset())+uint64(o.Len()) <= uint64(len(blocks)) {
			all = append(all, blocks[o.Offset():o.Offset()+o.Len()])
		}
	}
	return all
}

// leadingBlocks finds blocks by their checksums, each where the last one ends.
func leadingBlocks(b []byte) (all [][]byte) {
	const shortest, sumMax = 20, 16
	for from := 0; ; {
		end, tries := 0, 0
		for at := from + shortest; at <= len(b) && at-from <= blockBytesMax && tries < sumTriesMax; at++ {
			n := binary.BigEndian.Uint32(b[at-4 : at])
			if n == 0 || n > sumMax {
				continue
			}
			data, sum, err := cutChecksum(b[from:at])
			if err == nil {
				tries++
			}
			if err == nil && y.VerifyChecksum(data, sum) == nil {
				end = at
				break
			}
		}
		if end == 0 {
			return all
		}
		all = append(all, b[from:end])
		from = end
	}
}

const (
	blockBytesMax = 2 << 20 // a block of 8 KiB with one row over its end
	sumTriesMax   = 1000    // places in a block that look like its end
)

// splitTable gives the index of a table, its checksum unchecked, and its blocks.
func splitTable(b []byte) (index *fb.TableIndex, blocks []byte, ok bool) {
	rest, _, err := cutChecksum(b)
	if err != nil || len(rest) < 4 {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	rest = rest[:len(rest)-4]
	if n > uint64(len(rest)) || n < 8 {
		return nil, nil, false
	}
	blocks = rest[:uint64(len(rest))-n]
	return fb.GetRootAsTableIndex(rest[len(blocks):], 0), blocks, true
}

// copyLog copies a memtable log with its holes.
func copyLog(to, from string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying the index: %w", err)
	}
	if err := os.WriteFile(to, bytes.TrimRight(b, "\x00"), 0o600); err != nil {
		return fmt.Errorf("copying the index: %w", err)
	}
	return os.Truncate(to, int64(len(b)))
}

// eachRow calls f for the entries of a sound block: keys with their versions.
func eachRow(b []byte, f func(key, value []byte)) {
	count := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	entries := b[:len(b)-4-4*count]
	offsets := b[len(entries) : len(b)-4]
	var base []byte
	for i := range count {
		from, to := int(binary.LittleEndian.Uint32(offsets[4*i:])), len(entries)
		if i+1 < count {
			to = int(binary.LittleEndian.Uint32(offsets[4*i+4:]))
		}
		e := entries[from:to]
		overlap, diff := int(binary.LittleEndian.Uint16(e)), int(binary.LittleEndian.Uint16(e[2:]))
		key := append(bytes.Clone(base[:overlap]), e[4:4+diff]...)
		if i == 0 {
			base = key
		}
		f(key, e[4+diff:])
	}
}

// soundBlock checks the lengths inside of a block without its checksum:
//
//	block = entry* offset(4, little endian)* count(4, big endian)
//	entry = overlap(2, little endian) diff(2) key[diff] meta(1) user(1) expiry(uvarint) value
func soundBlock(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	count := uint64(binary.BigEndian.Uint32(b[len(b)-4:]))
	if count == 0 || 4+4*count > uint64(len(b)) {
		return false
	}
	entries := b[:uint64(len(b))-4-4*count]
	offsets := b[len(entries) : len(b)-4]
	base := 0
	for i := range int(count) {
		from, to := int(binary.LittleEndian.Uint32(offsets[4*i:])), len(entries)
		if i+1 < int(count) {
			to = int(binary.LittleEndian.Uint32(offsets[4*i+4:]))
		}
		if i == 0 && from != 0 || from >= to || to > len(entries) {
			return false
		}
		diff, ok := soundEntry(entries[from:to], base)
		if !ok {
			return false
		}
		if i == 0 {
			base = diff
		}
	}
	return true
}

// soundEntry checks one entry against the length of the block's first key.
func soundEntry(e []byte, base int) (diff int, ok bool) {
	const head, stamp = 4, 8 // lengths before the key, version at its end
	if len(e) < head {
		return 0, false
	}
	overlap := int(binary.LittleEndian.Uint16(e))
	diff = int(binary.LittleEndian.Uint16(e[2:]))
	if overlap > base || overlap+diff <= stamp || head+diff+3 > len(e) {
		return 0, false
	}
	_, n := binary.Uvarint(e[head+diff+2:])
	return diff, n > 0
}
