package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	pageBytes       = 4096
	frameHeadBytes  = 64
	frameMagic      = "hpf1"
	segmentMagic    = "hpjournl"
	checkpointMagic = "hpcheckp"
	formatVersion   = 1

	// PayloadBytesMax bounds one frame.
	PayloadBytesMax = 64 << 20
)

// errFrame: these bytes are not a whole frame.
var errFrame = errors.New("not a frame")

// frameHead is the fixed part of a frame.
type frameHead struct {
	seq    uint64
	length uint32
	nonce  uint64
	sum    [32]byte
}

func frameBytes(payload int) int64 {
	n := int64(frameHeadBytes + payload)
	return (n + pageBytes - 1) / pageBytes * pageBytes
}

// appendFrame adds a frame, padded to whole pages, to dst.
func appendFrame(dst []byte, seq, nonce uint64, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, frameMagic...)
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, seq)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = binary.BigEndian.AppendUint32(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, nonce)
	sum := frameSum(dst[start:start+32], payload)
	dst = append(dst, sum[:]...)
	dst = append(dst, payload...)
	return append(dst, make([]byte, int(frameBytes(len(payload)))-frameHeadBytes-len(payload))...)
}

func frameSum(head, payload []byte) [32]byte {
	h := sha256.New()
	h.Write(head)
	h.Write(payload)
	return [32]byte(h.Sum(nil))
}

// decodeHead reads the fixed part. It says nothing about the payload.
func decodeHead(b []byte) (frameHead, error) {
	if len(b) < frameHeadBytes || string(b[:4]) != frameMagic || binary.BigEndian.Uint32(b[4:]) != 0 || binary.BigEndian.Uint32(b[20:]) != 0 {
		return frameHead{}, errFrame
	}
	h := frameHead{seq: binary.BigEndian.Uint64(b[8:]), length: binary.BigEndian.Uint32(b[16:]), nonce: binary.BigEndian.Uint64(b[24:]), sum: [32]byte(b[32:64])}
	if h.length > PayloadBytesMax || h.seq == 0 {
		return frameHead{}, errFrame
	}
	return h, nil
}

// decodeFrame reads the frame at the start of b and gives its payload, which
// points into b. The error wraps errFrame.
func decodeFrame(b []byte) (frameHead, []byte, error) {
	h, err := decodeHead(b)
	if err != nil {
		return h, nil, err
	}
	if uint64(len(b)) < frameHeadBytes+uint64(h.length) {
		return h, nil, fmt.Errorf("%w: cut short", errFrame)
	}
	payload := b[frameHeadBytes : frameHeadBytes+int(h.length)]
	if frameSum(b[:32], payload) != h.sum {
		return h, nil, fmt.Errorf("%w: hash does not match", errFrame)
	}
	return h, payload, nil
}

// segmentHead is the first page of a segment.
type segmentHead struct {
	number uint64
	base   uint64 // sequence of its first frame
	nonce  uint64
}

func (s segmentHead) encode() []byte {
	b := make([]byte, 0, pageBytes)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint32(b, formatVersion)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, s.number)
	b = binary.BigEndian.AppendUint64(b, s.base)
	b = binary.BigEndian.AppendUint64(b, s.nonce)
	sum := sha256.Sum256(b)
	b = append(b, sum[:]...)
	return b[:pageBytes]
}

func decodeSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < 72 || string(b[:8]) != segmentMagic {
		return segmentHead{}, errors.New("not a segment")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != formatVersion {
		return segmentHead{}, fmt.Errorf("segment format %d", v)
	}
	if sum := sha256.Sum256(b[:40]); !bytes.Equal(sum[:], b[40:72]) {
		return segmentHead{}, errors.New("segment header hash does not match")
	}
	return segmentHead{number: binary.BigEndian.Uint64(b[16:]), base: binary.BigEndian.Uint64(b[24:]), nonce: binary.BigEndian.Uint64(b[32:])}, nil
}

const noteBytesMax = 1 << 20

func encodeCheckpoint(seq uint64, note []byte) []byte {
	b := append([]byte(nil), checkpointMagic...)
	b = binary.BigEndian.AppendUint32(b, formatVersion)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(note)))
	b = append(b, note...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeCheckpoint(b []byte) (seq uint64, note []byte, err error) {
	if len(b) < 24+32 || string(b[:8]) != checkpointMagic {
		return 0, nil, errors.New("not a checkpoint")
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != formatVersion {
		return 0, nil, fmt.Errorf("checkpoint format %d", v)
	}
	n := binary.BigEndian.Uint32(b[20:])
	if n > noteBytesMax || len(b) != 24+int(n)+32 {
		return 0, nil, errors.New("checkpoint length")
	}
	if sum := sha256.Sum256(b[:24+n]); !bytes.Equal(sum[:], b[24+n:]) {
		return 0, nil, errors.New("checkpoint hash does not match")
	}
	return binary.BigEndian.Uint64(b[12:]), b[24 : 24+n], nil
}
