package peersync

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Type is the first byte of a frame.
type Type byte

// Frame types.
const (
	TypeHello      Type = 0x01
	TypeCheckpoint Type = 0x10
	TypePull       Type = 0x11
	TypeSegment    Type = 0x12
	TypeEntries    Type = 0x13
	TypeSpan       Type = 0x14
	TypeAsk        Type = 0x15
	TypeFill       Type = 0x16
	TypeFilled     Type = 0x17
	TypePending    Type = 0x20
	TypeWant       Type = 0x21
	TypeChunk      Type = 0x22
	TypeHeld       Type = 0x23
	TypeAck        Type = 0x30
	TypeReceipt    Type = 0x31
	TypeReject     Type = 0x32
	TypeEvidence   Type = 0x34
	TypeReset      Type = 0x35
	TypePromise    Type = 0x33
	TypeParcel     Type = 0x50
	TypeRange      Type = 0x51
	TypeBye        Type = 0x7f
)

// FlagCritical says that a receiver that does not know the type must end the
// session instead of skipping the frame.
const FlagCritical = 1

// Limits of a frame's payload, in bytes.
const (
	controlBytesMax = 64 << 10
	bulkBytesMax    = 256 << 10 // one record with the largest body fits
	readChunkBytes  = 16 << 10
)

// Frame is one unit of the stream: type(1) flags(1) uvarint(length) payload.
type Frame struct {
	Type    Type
	Flags   byte
	Payload []byte
}

// Critical reports whether an unknown type must not be skipped.
func (f Frame) Critical() bool { return f.Flags&FlagCritical != 0 }

// bulk frames count against the credit window.
func (t Type) bulk() bool {
	return t == TypePending || t == TypeSegment || t == TypeEntries || t == TypeSpan || t == TypeFill || t == TypeChunk
}

func (t Type) bytesMax() uint64 {
	if t.bulk() || t == TypeRange {
		return bulkBytesMax
	}
	return controlBytesMax
}

// AppendFrame adds the bytes of a frame to dst.
func AppendFrame(dst []byte, f Frame) []byte {
	dst = append(dst, byte(f.Type), f.Flags)
	dst = binary.AppendUvarint(dst, uint64(len(f.Payload)))
	return append(dst, f.Payload...)
}

// FrameReader reads frames. It allocates no more than what has arrived, rounded
// up to 16 KiB, and refuses a length above the type's limit.
type FrameReader struct {
	r   io.Reader
	one [1]byte
}

// NewFrameReader reads from r, which should be buffered.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Read gives the next frame. io.EOF only at a frame boundary; a cut within one
// is io.ErrUnexpectedEOF. A breach of the form wraps ErrMisbehaved.
func (fr *FrameReader) Read() (Frame, error) {
	t, err := fr.byte()
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Type: Type(t)}
	if f.Flags, err = fr.byte(); err != nil {
		return Frame{}, inside(err)
	}
	n, err := fr.length()
	if err != nil {
		return Frame{}, inside(err)
	}
	if n > f.Type.bytesMax() {
		return Frame{}, misbehaved("frame of type %#02x with %d bytes", t, n)
	}
	f.Payload, err = fr.payload(int(n))
	return f, inside(err)
}

func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (fr *FrameReader) byte() (byte, error) {
	_, err := io.ReadFull(fr.r, fr.one[:])
	return fr.one[0], err
}

// length reads a uvarint of at most four bytes in its shortest form.
func (fr *FrameReader) length() (uint64, error) {
	var n uint64
	for i := range 4 {
		b, err := fr.byte()
		if err != nil {
			return 0, err
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				return 0, misbehaved("length not in its shortest form")
			}
			return n, nil
		}
	}
	return 0, misbehaved("length above any limit")
}

func (fr *FrameReader) payload(n int) ([]byte, error) {
	if n <= readChunkBytes {
		p := make([]byte, n)
		_, err := io.ReadFull(fr.r, p)
		return p, err
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, fr.r, int64(n)); err != nil {
		return nil, fmt.Errorf("reading frame: %w", err)
	}
	return b.Bytes(), nil
}
