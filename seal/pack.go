package seal

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/seal/dict"
)

// PlainBytesMax bounds what one record may hold, and with it what a hostile
// body can make a reader allocate.
const PlainBytesMax = 1 << 20

const (
	methodStored = 0
	methodZstd   = 1
	methodDict   = 2
	methodUUIDs  = 3
	methodLedger = 4

	// Above this a body brings its own context, and the dictionary is not worth its time.
	dictPlainBytesMax = 64 << 10
	zstdWindowBytes   = 256 << 10 // holds the dictionary and the longest body that uses it
)

var zstdMagic = [4]byte{0x28, 0xb5, 0x2f, 0xfd}

// Packed is a compressed body that is not sealed yet. Packing needs no lock and
// no position, so it is done before a record gets one.
type Packed []byte

// Pack compresses plain with what every program has, or stores it where that is
// shorter. It wraps ErrTooLarge for more than PlainBytesMax bytes.
func Pack(plain []byte) (Packed, error) {
	if len(plain) > PlainBytesMax {
		return nil, fmt.Errorf("packing a body of %d bytes: %w: at most %d", len(plain), ErrTooLarge, PlainBytesMax)
	}
	packed, err := packZstd(plain)
	if err != nil {
		return nil, fmt.Errorf("packing a body: %w", err)
	}
	if len(packed) > len(plain) {
		return append(Packed{methodStored}, plain...), nil
	}
	return packed, nil
}

func packZstd(plain []byte) (Packed, error) {
	if len(plain) > dictPlainBytesMax {
		enc, err := plainEncoder()
		if err != nil {
			return nil, err
		}
		return appendFrame(Packed{methodZstd}, enc, plain), nil
	}
	enc, err := dictEncoder()
	if err != nil {
		return nil, err
	}
	text, table := dict.SetUUIDsAside(plain)
	if len(table) == 0 {
		return appendFrame(binary.AppendUvarint(Packed{methodDict}, uint64(dict.Current().ID)), enc, plain), nil
	}
	head := binary.AppendUvarint(Packed{methodUUIDs}, uint64(dict.Current().ID))
	head = append(append(head, byte(len(table)/dict.UUIDBytes)), table...)
	return appendFrame(head, enc, text), nil
}

func appendFrame(head Packed, enc *zstd.Encoder, text []byte) Packed {
	at := len(head)
	out := enc.EncodeAll(text, head)
	if len(text) == 0 { // the encoder writes no frame for nothing
		return Packed{methodStored}
	}
	return append(out[:at], out[at+len(zstdMagic):]...)
}

// Unpack gives back what Pack was given. Its errors wrap ErrDamaged, or
// ErrNewer for a method or dictionary this program does not have.
func (p Packed) Unpack() ([]byte, error) { return p.unpack(nil) }

func (p Packed) unpack(ledger *Dictionaries) ([]byte, error) {
	if len(p) == 0 {
		return nil, fmt.Errorf("unpacking a body: %w: empty", ErrDamaged)
	}
	rest := p[1:]
	switch p[0] {
	case methodStored:
		if len(rest) > PlainBytesMax {
			return nil, fmt.Errorf("unpacking a body: %w: %d bytes stored", ErrDamaged, len(rest))
		}
		return append([]byte{}, rest...), nil
	case methodZstd:
		return unpackFrame(rest, 0, decoder)
	case methodLedger:
		return unpackLedger(rest, ledger)
	case methodDict, methodUUIDs:
		id, n := binary.Uvarint(rest)
		if n <= 0 || id == 0 || n != uvarintLen(id) {
			return nil, fmt.Errorf("unpacking a body: %w: dictionary number", ErrDamaged)
		}
		if !dict.Known(id) {
			return nil, fmt.Errorf("unpacking a body: %w: dictionary %d", ErrNewer, id)
		}
		if p[0] == methodUUIDs {
			return unpackUUIDs(rest[n:], uint32(id))
		}
		return unpackFrame(rest[n:], uint32(id), decoder)
	}
	return nil, fmt.Errorf("unpacking a body: %w: method %d", ErrNewer, p[0])
}

func unpackUUIDs(rest []byte, dictID uint32) ([]byte, error) {
	table, frame, err := splitTable(rest)
	if err != nil {
		return nil, err
	}
	if len(table) == 0 {
		return nil, fmt.Errorf("unpacking a body: %w: table of UUIDs", ErrDamaged)
	}
	text, err := unpackFrame(frame, dictID, decoder)
	if err != nil {
		return nil, err
	}
	return putUUIDsBack(text, table)
}

// splitTable reads count || 16 bytes for each UUID, and gives what follows.
func splitTable(rest []byte) (table, frame []byte, err error) {
	if len(rest) == 0 || len(rest) < 1+int(rest[0])*dict.UUIDBytes {
		return nil, nil, fmt.Errorf("unpacking a body: %w: table of UUIDs", ErrDamaged)
	}
	end := 1 + int(rest[0])*dict.UUIDBytes
	return rest[1:end], rest[end:], nil
}

func putUUIDsBack(text, table []byte) ([]byte, error) {
	plain, ok := dict.PutUUIDsBack(text, table, PlainBytesMax)
	if !ok {
		return nil, fmt.Errorf("unpacking a body: %w: UUIDs", ErrDamaged)
	}
	return plain, nil
}

func unpackFrame(frame []byte, dictID uint32, decoder func() (*zstd.Decoder, error)) ([]byte, error) {
	full := append(zstdMagic[:len(zstdMagic):len(zstdMagic)], frame...)
	var h zstd.Header
	if err := h.Decode(full); err != nil {
		return nil, fmt.Errorf("unpacking a body: %w: %v", ErrDamaged, err)
	}
	if h.Skippable || !h.HasFCS || h.FrameContentSize > PlainBytesMax || h.DictionaryID != dictID {
		return nil, fmt.Errorf("unpacking a body: %w: frame header", ErrDamaged)
	}
	dec, err := decoder()
	if err != nil {
		return nil, fmt.Errorf("unpacking a body: %w", err)
	}
	// The decoder checks that the content has the size that the header states.
	out, err := dec.DecodeAll(full, make([]byte, 0, h.FrameContentSize))
	if err != nil {
		return nil, fmt.Errorf("unpacking a body: %w: %v", ErrDamaged, err)
	}
	return out, nil
}

// One encoder of each sort and one decoder serve the process: a small box has
// no memory for one per core. They are safe for concurrent use and queue callers.
// Over its life the dictionary encoder holds 9 MB, for bodies 6 % smaller than
// the next level gives in 3 MB; on a slow link that is the better bargain.
var (
	plainEncoder = sync.OnceValues(func() (*zstd.Encoder, error) { return newEncoder(zstd.SpeedDefault) })
	dictEncoder  = sync.OnceValues(func() (*zstd.Encoder, error) {
		return newEncoder(zstd.SpeedBetterCompression, zstd.WithEncoderDict(dict.Current().Bytes))
	})
	decoder = sync.OnceValues(func() (*zstd.Decoder, error) { return newDecoder(dict.Contents()) })
)

func newEncoder(level zstd.EncoderLevel, more ...zstd.EOption) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, append([]zstd.EOption{
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdWindowBytes),
		zstd.WithSingleSegment(true), // a short body states its size too
		zstd.WithEncoderCRC(false),   // the seal authenticates
		zstd.WithEncoderLevel(level),
	}, more...)...)
}

func newDecoder(dictionaries [][]byte) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(PlainBytesMax), zstd.WithDecoderMaxWindow(PlainBytesMax),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderDicts(dictionaries...))
}

// uvarintLen is the length of the one encoding of v we accept.
func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}
