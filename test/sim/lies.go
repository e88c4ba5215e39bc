package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

const capturedMax = 64

// capture keeps some of what crosses links, for liars to play again.
func (w *world) capture(b []byte) {
	if peersync.Type(b[0]) == peersync.TypeCheckpoint {
		w.notes = append(w.notes[max(0, len(w.notes)-capturedMax):], b)
	}
	if len(w.captured) < capturedMax {
		w.captured = append(w.captured, b)
	} else if w.chance(8) {
		w.captured[w.rng.IntN(capturedMax)] = b
	}
}

// lied takes what a liar sent: most of it as it was, some of it changed, twice,
// not at all, or something else instead.
func (e *end) lied(x *flight) error {
	w := e.w
	frames := [][]byte{x.b}
	if w.chance(4) && len(x.b) > 0 {
		w.res.Lies++
		frames = w.lie(x.b)
		w.tracef("link %d: a lie of %d frames", e.l.name, len(frames))
	}
	for _, b := range frames {
		r := peersync.NewFrameReader(bytes.NewReader(b))
		for {
			f, err := r.Read()
			if err != nil {
				break // the end of it, or no frame at all
			}
			if err := e.hear(f); err != nil || e.closed {
				return err
			}
		}
	}
	if x.last {
		return e.fail(errCut)
	}
	return nil
}

// lie makes something else of a frame.
func (w *world) lie(b []byte) [][]byte {
	c := bytes.Clone(b)
	switch w.rng.IntN(7) {
	case 0: // one bit
		c[w.rng.IntN(len(c))] ^= 1 << w.rng.IntN(8)
		return [][]byte{c}
	case 1: // shorter, in a frame that says so
		if len(c) < 4 {
			return nil
		}
		return [][]byte{peersync.AppendFrame(nil, peersync.Frame{Type: peersync.Type(c[0]), Payload: c[3 : 3+w.rng.IntN(len(c)-3)]})}
	case 2:
		return [][]byte{c, c}
	case 3:
		return nil
	case 4: // of another link, or of another time
		if len(w.notes) > 0 && w.chance(2) {
			return [][]byte{c, w.notes[w.rng.IntN(len(w.notes))]}
		}
		return [][]byte{c, w.captured[w.rng.IntN(len(w.captured))]}
	case 5: // nothing that means anything, as any kind of frame
		types := []peersync.Type{peersync.TypeHello, peersync.TypeCheckpoint, peersync.TypePull, peersync.TypeSegment, peersync.TypeSpan, peersync.TypeAsk, peersync.TypeFill, peersync.TypeFilled, peersync.TypePending, peersync.TypeAck, peersync.TypeReject, 0x55}
		return [][]byte{c, peersync.AppendFrame(nil, peersync.Frame{Type: types[w.rng.IntN(len(types))], Payload: w.bytes(w.rng.IntN(300))})}
	}
	for range 1 + w.rng.IntN(4) { // a few bits inside
		c[len(c)-1-w.rng.IntN((len(c)+1)/2)] ^= 1 << w.rng.IntN(8)
	}
	return [][]byte{c}
}

// hear handles a frame of a liar: what ends the session has changed nothing.
func (e *end) hear(f peersync.Frame) error {
	w, b := e.w, e.b
	before, err := w.digest(b)
	if err != nil {
		return b.failed("reading", err)
	}
	err = e.s.Handle(context.Background(), f)
	if err == nil {
		e.pumpAt(0)
		return w.touch(b)
	}
	if b.st.Err() == nil {
		after, readErr := w.digest(b)
		if readErr != nil {
			return b.failed("reading", readErr)
		}
		if before != after && f.Type != peersync.TypePending {
			return w.violated(GarbageInert, "%s refused a frame of type %#02x (%v) and holds something else now", b, byte(f.Type), err)
		}
		if bad := w.checkFeeds(b); bad != nil { // sound records of a run before the bad one stay
			return b.failed("checking", bad)
		}
	}
	return e.fail(err)
}

// digest is over the ledger, the checkpoint and what is pending on a box.
func (w *world) digest(b *box) ([32]byte, error) {
	h := sha256.New()
	_, final, _ := b.st.Final()
	index, _, _ := b.st.Applied()
	fmt.Fprintln(h, b.st.Head(), final, index)
	feeds, err := b.st.PendingFeeds()
	if err != nil {
		return [32]byte{}, err
	}
	for _, f := range feeds {
		rid, _, err := b.st.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: f.HeldN})
		if err != nil {
			return [32]byte{}, err
		}
		fmt.Fprintln(h, f, rid)
	}
	return [32]byte(h.Sum(nil)), nil
}
