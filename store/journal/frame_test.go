package journal

import (
	"bytes"
	"testing"

	"github.com/healthpost/healthpost/test/fuzz"
)

func FuzzDecodeFrame(f *testing.F) {
	f.Add(appendFrame(nil, 1, 2, []byte("payload")))
	f.Add(appendFrame(nil, 1<<40, 0, nil))
	f.Add([]byte(frameMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { decodeFrame(b) })
		h, p, err := decodeFrame(b)
		if err != nil {
			return
		}
		again := appendFrame(nil, h.seq, h.nonce, p)
		if !bytes.Equal(again[:frameHeadBytes+len(p)], b[:frameHeadBytes+len(p)]) {
			t.Errorf("frame %x does not encode back to itself", b)
		}
	})
}

func FuzzDecodeHeads(f *testing.F) {
	f.Add(segmentHead{1, 2, 3}.encode())
	f.Add(encodeCheckpoint(7, []byte("note")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := decodeSegmentHead(b); err == nil && !bytes.Equal(h.encode()[:72], b[:72]) {
			t.Error("segment header does not encode back to itself")
		}
		if seq, note, err := decodeCheckpoint(b); err == nil && !bytes.Equal(encodeCheckpoint(seq, note), b) {
			t.Error("checkpoint does not encode back to itself")
		}
	})
}

// TestOtherNonceIsNotAFrame: what an earlier use of a segment left does not count.
func TestOtherNonceIsNotAFrame(t *testing.T) {
	a, b := appendFrame(nil, 5, 1, []byte("x")), appendFrame(nil, 5, 2, []byte("x"))
	if bytes.Equal(a[:frameHeadBytes], b[:frameHeadBytes]) {
		t.Error("frames of two uses of a segment are equal")
	}
	if _, _, err := decodeFrame(append(a[:24:24], b[24:]...)); err == nil {
		want, _, _ := decodeFrame(b)
		got, _, _ := decodeFrame(append(a[:24:24], b[24:]...))
		if got != want {
			t.Error("a frame with a changed nonce verifies")
		}
	}
}
