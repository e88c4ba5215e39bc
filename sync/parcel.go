package peersync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/healthpost/healthpost/record"
)

// A parcel is a session in one direction, in a file. It is a list of blocks, each
// of which can be read without the others:
//
//	marker(8) index(4) slots(2) length(4) crc(4) || slots * 80 || sealed(length)
//
// Integers are big-endian; crc is CRC-32C of index, slots, length and all that
// follows it. Slots open the parcel's key for its receivers. The sealed bytes are,
// in the clear,
//
//	frame* || sig(64)    sig = Ed25519(writer, "hp:parcel:1\0" || region || index(4) || frame*)
//
// The first frame of a block is PARCEL, which says whose parcel it is; no frame
// goes on in the next block. A block has at most 64 KiB, each of the first sixteen at
// most 16, or one frame that is longer. The last block has PARCEL with flag 2: how many blocks there are and the
// SHA-256 of their signatures. Who finds a block damaged looks for the next marker.

// parcelMarker begins every block, and so every file. Its last bytes change when a
// file is treated as text.
var parcelMarker = [8]byte{'H', 'P', 'P', '1', 0x8d, '\r', '\n', 0xf1}

const (
	parcelHeadBytes   = 8 + 4 + 2 + 4 + 4
	parcelSlotBytes   = 80
	parcelSlotsMax    = 256
	parcelSigBytes    = 64
	parcelBlockBytes  = 64 << 10 // of frames, unless one frame is longer
	parcelFirstBytes  = 16 << 10 // likewise, of the first blocks: a stick that is pulled out early has something
	parcelFirstBlocks = 16
	parcelLengthMax   = bulkBytesMax + 64<<10 // sealed bytes of one block
	parcelBlockMax    = parcelHeadBytes + parcelSlotsMax*parcelSlotBytes + parcelLengthMax
	parcelIndexMax    = 1 << 22
	parcelDomain      = "hp:parcel:1\x00"
	parcelIDBytes     = 16
	parcelVersion     = 1
	parcelFlagTrailer = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ParcelKey seals and opens the blocks of one parcel.
type ParcelKey interface {
	Slots() []byte // 80 bytes for each receiver
	Seal(index uint32, plain []byte) []byte
	Open(index uint32, box []byte) ([]byte, error)
}

// parcelHead is the PARCEL frame at the beginning of each block.
type parcelHead struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	ID      []byte // 16, random
	Region  []byte // 32
	From    []byte // 32, the writer
	For     []byte // 32, or empty: several
	AsOf    int64  // when hubs vouched for the newest checkpoint that the writer holds, Unix seconds, 0 without one
	Age     uint64 // seconds that passed since, by the writer's clock
}

// parcelTrailer is the PARCEL frame with flag 2.
type parcelTrailer struct {
	_      struct{} `cbor:",toarray"`
	Blocks uint64   // this one included
	Sum    []byte   // SHA-256 of the signatures of the blocks before it
}

func decodeParcelHead(p []byte) (parcelHead, error) {
	var h parcelHead
	if err := record.Unmarshal(p, &h); err != nil {
		return h, misbehaved("reading a parcel's header: %w", err)
	}
	if h.Version != parcelVersion {
		return h, fmt.Errorf("parcel of version %d: %w", h.Version, ErrVersion)
	}
	if len(h.ID) != parcelIDBytes || len(h.Region) != 32 || len(h.From) != 32 || len(h.For) != 0 && len(h.For) != 32 || h.AsOf < 0 || h.AsOf > 1<<40 || h.Age > 1<<40 {
		return h, misbehaved("parcel's header out of bounds")
	}
	return h, nil
}

func decodeParcelTrailer(p []byte) (parcelTrailer, error) {
	var t parcelTrailer
	if err := record.Unmarshal(p, &t); err != nil {
		return t, misbehaved("reading a parcel's trailer: %w", err)
	}
	if t.Blocks == 0 || t.Blocks > parcelIndexMax || len(t.Sum) != 32 {
		return t, misbehaved("parcel's trailer out of bounds")
	}
	return t, nil
}

// parcelClaim is what a writer signs of a block.
func parcelClaim(region record.RegionID, index uint32, frames []byte) []byte {
	b := append([]byte(parcelDomain), region[:]...)
	b = binary.BigEndian.AppendUint32(b, index)
	return append(b, frames...)
}

// appendBlock adds the bytes of a block to dst.
func appendBlock(dst []byte, index uint32, slots, sealed []byte) []byte {
	start := len(dst)
	dst = append(dst, parcelMarker[:]...)
	dst = binary.BigEndian.AppendUint32(dst, index)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(slots)/parcelSlotBytes))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(sealed)))
	dst = append(dst, 0, 0, 0, 0)
	dst = append(append(dst, slots...), sealed...)
	binary.BigEndian.PutUint32(dst[start+18:], blockSum(dst[start:]))
	return dst
}

func blockSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:18], castagnoli), castagnoli, b[parcelHeadBytes:])
}

// blockLength is how long the block is whose head is b; false when b is no head.
func blockLength(b []byte) (int, bool) {
	if len(b) < parcelHeadBytes || !bytes.HasPrefix(b, parcelMarker[:]) {
		return 0, false
	}
	index, slots, length := binary.BigEndian.Uint32(b[8:]), int(binary.BigEndian.Uint16(b[12:])), int(binary.BigEndian.Uint32(b[14:]))
	if index >= parcelIndexMax || slots == 0 || slots > parcelSlotsMax || length > parcelLengthMax {
		return 0, false
	}
	return parcelHeadBytes + slots*parcelSlotBytes + length, true
}

// block is one whole block as it stands in the file.
type block struct {
	index  uint32
	slots  []byte
	sealed []byte
}

// readBlock takes a block of the length that blockLength gave apart; false when its
// checksum is wrong.
func readBlock(b []byte) (block, bool) {
	if binary.BigEndian.Uint32(b[18:]) != blockSum(b) {
		return block{}, false
	}
	end := parcelHeadBytes + int(binary.BigEndian.Uint16(b[12:]))*parcelSlotBytes
	return block{index: binary.BigEndian.Uint32(b[8:]), slots: b[parcelHeadBytes:end], sealed: b[end:]}, true
}

// A RANGE frame is, for entries of a box that holds them whole:
//
//	uvarint target || hashes(proof) || hashes(left) || hashes(right) || entries as in ENTRIES
//
// target is the size of the checkpoint that the CHECKPOINT frame before it in the
// block has; hashes are count(1) and 32 bytes each. The proof leads from the last
// entry to that checkpoint, for a ledger that ends where the entries begin; left and
// right prove them in its tree by themselves, for one that has holes (both may be
// empty). With flag 2 a span of package record, for a box that holds a part, takes the
// place of left, right and entries.
type parcelRange struct {
	target             uint64
	proof, left, right []record.Hash
	rest               []byte
}

const rangeFlagSpan = 2

func appendHashes(dst []byte, list []record.Hash) []byte {
	dst = append(dst, byte(len(list)))
	for _, h := range list {
		dst = append(dst, h[:]...)
	}
	return dst
}

func cutHashes(b []byte) (list []record.Hash, rest []byte, ok bool) {
	if len(b) == 0 || b[0] > proofMax || len(b)-1 < 32*int(b[0]) {
		return nil, nil, false
	}
	n := int(b[0])
	b = b[1:]
	for range n {
		list = append(list, record.Hash(b[:32]))
		b = b[32:]
	}
	return list, b, true
}

func (r *parcelRange) frame(span bool) Frame {
	f := Frame{Type: TypeRange, Payload: appendHashes(binary.AppendUvarint(nil, r.target), r.proof)}
	if span {
		f.Flags = rangeFlagSpan
	} else {
		f.Payload = appendHashes(appendHashes(f.Payload, r.left), r.right)
	}
	f.Payload = append(f.Payload, r.rest...)
	return f
}

func readRange(f Frame) (r parcelRange, err error) {
	target, n := binary.Uvarint(f.Payload)
	if n <= 0 || target > 1<<62 {
		return r, misbehaved("range without a checkpoint")
	}
	r.target = target
	parts := []*[]record.Hash{&r.proof, &r.left, &r.right}
	if f.Flags&rangeFlagSpan != 0 {
		parts = parts[:1]
	}
	b := f.Payload[n:]
	for _, p := range parts {
		var ok bool
		if *p, b, ok = cutHashes(b); !ok {
			return r, misbehaved("range without a proof")
		}
	}
	r.rest = b
	return r, nil
}

// ErrNotForHere: a parcel that is sealed to others.
var ErrNotForHere = errors.New("the parcel is for another box")

// ErrNoParcel: a file without one whole block of a parcel. ErrCutShort is the kind of
// it that did begin as one.
var (
	ErrNoParcel = errors.New("this is not a parcel")
	ErrCutShort = fmt.Errorf("the stick was pulled out before the first part was written, or all of it is damaged: write it again (%w that can be read)", ErrNoParcel)
)
