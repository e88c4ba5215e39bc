package journal

import (
	"errors"
	"fmt"
	"io"
)

// Replay calls apply for every frame after the checkpoint, in order, and fixes
// the sequence of the next frame. It drops a torn tail. When an acknowledged
// frame does not verify it returns a DamageError, having applied those before.
func (j *Journal) Replay(apply func(seq uint64, payload []byte) error) error {
	if j.o.Lenient {
		return j.replayAll(apply)
	}
	want := j.ckptSeq + 1
	for _, s := range j.segs {
		if s.base > want {
			return fmt.Errorf("replaying journal: %w", &DamageError{File: s.name, Seq: want, What: "frames before this segment are missing"})
		}
		f, err := j.o.FS.Open(s.name, false)
		if err != nil {
			return fmt.Errorf("replaying journal: %w", err)
		}
		r := reader{f: f, name: s.name}
		if r.size, err = f.Size(); err == nil {
			want, err = r.replay(s.segmentHead, want, apply)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("replaying journal: %w", err)
		}
	}
	j.next = want
	j.synced.Store(want - 1)
	return nil
}

// replayAll gives every frame after the checkpoint that verifies, in order, and
// then the damage that it went past.
func (j *Journal) replayAll(apply func(seq uint64, payload []byte) error) error {
	damage, want := j.damage, j.ckptSeq+1
	for _, s := range j.segs {
		f, err := j.o.FS.Open(s.name, false)
		if err != nil {
			return fmt.Errorf("replaying journal: %w", err)
		}
		r := reader{f: f, name: s.name}
		if r.size, err = f.Size(); err == nil {
			err = r.frames(s.segmentHead, func(seq uint64, payload []byte, at int64) error {
				if seq < want {
					return nil
				}
				if seq > want && want > 1 {
					damage = errors.Join(damage, &DamageError{File: s.name, Offset: at, Seq: want, What: "frames are missing"})
				}
				want = seq + 1
				return apply(seq, payload)
			})
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("replaying journal: %w", err)
		}
	}
	j.next = want
	j.synced.Store(want - 1)
	if damage != nil {
		return fmt.Errorf("replaying journal: %w", damage)
	}
	return nil
}

// frames calls f for the frames of this use of a segment, wherever they stand.
func (r *reader) frames(h segmentHead, f func(seq uint64, payload []byte, at int64) error) error {
	for at := int64(pageBytes); at < r.size; {
		fh, payload, err := r.frame(at)
		if err != nil && !errors.Is(err, errFrame) {
			return err
		}
		if err != nil || h.base != 0 && fh.nonce != h.nonce {
			at += pageBytes
			continue
		}
		if err := f(fh.seq, payload, at); err != nil {
			return err
		}
		at += frameBytes(int(fh.length))
	}
	return nil
}

type reader struct {
	f    File
	name string
	size int64
}

func (r *reader) replay(h segmentHead, want uint64, apply func(uint64, []byte) error) (uint64, error) {
	if h.base == 0 { // unreadable header: it must not hold a frame that is needed
		return want, r.mustNotHold(pageBytes, want, nil, "header of the segment")
	}
	seq := h.base
	for at := int64(pageBytes); ; seq++ {
		fh, payload, err := r.frame(at)
		if err != nil && !errors.Is(err, errFrame) {
			return want, err
		}
		if err != nil || fh.seq != seq || fh.nonce != h.nonce {
			// The torn tail, or damage. A frame at or before the checkpoint is
			// not needed and must not hide the ones after it either.
			if seq < want {
				return want, r.mustNotHold(at, want, &h.nonce, "frame does not verify")
			}
			return want, r.mustNotHold(at+pageBytes, seq+1, &h.nonce, "frame does not verify and later ones exist")
		}
		if seq >= want {
			if err := apply(seq, payload); err != nil {
				return want, err
			}
			want = seq + 1
		}
		at += frameBytes(int(fh.length))
	}
}

// frame reads the frame at a page boundary. The end of the file is errFrame.
func (r *reader) frame(at int64) (frameHead, []byte, error) {
	head := make([]byte, frameHeadBytes)
	if err := r.read(head, at); err != nil {
		return frameHead{}, nil, err
	}
	h, err := decodeHead(head)
	if err != nil {
		return h, nil, err
	}
	if at+frameHeadBytes+int64(h.length) > r.size {
		return h, nil, errFrame
	}
	b := make([]byte, frameHeadBytes+int(h.length))
	if err := r.read(b, at); err != nil {
		return h, nil, err
	}
	return decodeFrame(b)
}

func (r *reader) read(b []byte, at int64) error {
	if at+int64(len(b)) > r.size {
		return errFrame
	}
	n, err := r.f.ReadAt(b, at)
	if n < len(b) && (err == nil || errors.Is(err, io.EOF)) {
		return errFrame
	}
	if n == len(b) {
		return nil
	}
	return err
}

// mustNotHold looks at every page from at for a whole frame with a sequence of
// at least seq, of this use of the segment when nonce is given.
func (r *reader) mustNotHold(at int64, seq uint64, nonce *uint64, what string) error {
	start := at
	for ; at < r.size; at += pageBytes {
		h, _, err := r.frame(at)
		if errors.Is(err, errFrame) {
			continue
		}
		if err != nil {
			return err
		}
		if h.seq >= seq && (nonce == nil || h.nonce == *nonce) {
			return &DamageError{File: r.name, Offset: start, Seq: seq, What: what}
		}
	}
	return nil
}
