package store

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
)

// errUnopenable: opening the index would end the process, also for reading.
var errUnopenable = errors.New("this part of the index cannot be opened at all: move the box's data away and let a new box fetch from its peers")

// soundTables reports whether every table of a damaged index can be taken apart,
// whatever its values say. Only then may the index be read without its checksums
// of blocks: Badger trusts lengths inside of a block and would end the process.
func soundTables(dir string) bool {
	names, err := indexFiles(dir, tableName)
	if err != nil {
		return false
	}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !soundTable(b) {
			return false
		}
	}
	return true
}

func soundTable(b []byte) (sound bool) {
	defer func() { // the index is a flatbuffer, read without bounds checks of its own
		if recover() != nil {
			sound = false
		}
	}()
	rest, _, err := cutChecksum(b)
	if err != nil || len(rest) < 4 {
		return false
	}
	n := uint64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	rest = rest[:len(rest)-4]
	if n > uint64(len(rest)) || n < 8 {
		return false
	}
	blocks := rest[:uint64(len(rest))-n]
	index := fb.GetRootAsTableIndex(rest[len(blocks):], 0)
	var o fb.BlockOffset
	for i := range index.OffsetsLength() {
		if !index.Offsets(&o, i) || uint64(o.Offset())+uint64(o.Len()) > uint64(len(blocks)) {
			return false
		}
		data, _, err := cutChecksum(blocks[o.Offset() : o.Offset()+o.Len()])
		if err != nil || !soundBlock(data) {
			return false
		}
	}
	return true
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
