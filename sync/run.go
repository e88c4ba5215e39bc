package peersync

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Times of a session's shell.
const (
	stallMax   = 150 * time.Second // without a byte while the peer owes an answer
	byeTimeout = 2 * time.Second   // to get the last frame out
	patience   = 3 * time.Second   // with another session that is to fetch what is missing
	lookEvery  = 10 * time.Millisecond

	receiptPauseMin = time.Second
	receiptPauseMax = 32 * time.Second

	ackPauseMin = 20 * time.Millisecond
	ackPauseMax = time.Second
	notePause   = 4 * time.Second // between checkpoints on a slow link
)

// RunOptions tune Run. The zero value is for a stream alone.
type RunOptions struct {
	// Stall ends the session when the peer owes an answer and no byte moves for
	// so long; 0 is 150 s.
	Stall time.Duration
	// Wake, when it delivers, makes the session look again at what Options answer.
	Wake <-chan struct{}
	// Progress is called after every step, from the session's goroutine.
	Progress func(Progress)
}

// Progress is how far a session has come.
type Progress struct {
	BytesIn, BytesOut uint64 // of frames
	Sent, Received    uint64 // records and entries
	Size, Target      uint64 // peer's ledger; where this box's ledger is heading
	Settled           bool   // nothing left to send, to wait for or to fetch
	Greeted           bool   // the peer's HELLO came
	Role, Software    string // what the peer says of itself
	Looked            uint64 // wakes taken in
	Forked            bool   // the two ledgers contradict each other, as one of both found
	Pace              Pace   // of the link, where it is slow and that is known
}

// Run exchanges frames with the peer over rw until the context ends, the peer
// says goodbye, a rule is broken or the link fails; it always closes rw and
// returns why. A context that ends gives ErrStopped.
func Run(ctx context.Context, rw io.ReadWriteCloser, s *Session, o RunOptions) error {
	if o.Stall == 0 {
		o.Stall = stallMax
	}
	s.credit.now, s.receipts.paced, s.acks.paced = time.Now, true, true
	s.notes.paced = true
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx for the goodbye
	l := &link{rw: rw, s: s, o: o, in: make(chan arrived), out: make(chan Frame, 1), idle: make(chan struct{}, 1), broken: make(chan error, 2)}
	var wg sync.WaitGroup
	wg.Go(func() { l.read(inner) })
	wg.Go(func() { l.write(inner) })
	err := l.loop(ctx, s.r.Subscribe(inner))
	if ctx.Err() != nil {
		err = ErrStopped
	}
	l.bye(err)
	s.Close()
	cancel()
	rw.Close()
	wg.Wait()
	return err
}

// arrived is a frame and how long it took from its first byte to its last.
type arrived struct {
	Frame
	took time.Duration
}

// link is the shell's state. loop owns the session; read and write own one end
// of the stream each.
type link struct {
	rw io.ReadWriteCloser
	s  *Session
	o  RunOptions

	in     chan arrived
	out    chan Frame    // to the writer, which is idle when loop sends
	idle   chan struct{} // the writer wants a frame
	broken chan error    // from read and write
	ready  bool          // loop's: the writer wants a frame
	looked uint64

	turn, again, moment <-chan time.Time // loop's timers: of waitsForTurn, of a change held back, of a receipt
	ackMoment           <-chan time.Time // of an answer
	ackPause            time.Duration    // the longer the slower the link
	lastAck             time.Time
	noteMoment          <-chan time.Time // of a checkpoint
	lastNote            time.Time
	lastLook            time.Time
	lastReceipt         time.Time
	receiptWait         time.Duration

	bytesIn, bytesOut atomic.Uint64
}

func (l *link) read(ctx context.Context) {
	b := bufio.NewReaderSize(&counted{l.rw, &l.bytesIn}, 4<<10)
	r := NewFrameReader(b)
	for {
		_, err := b.Peek(1)
		began := time.Now()
		var f Frame
		if err == nil {
			f, err = r.Read()
		}
		if err != nil {
			l.broken <- err
			return
		}
		select {
		case l.in <- arrived{f, time.Since(began)}:
		case <-ctx.Done():
			return
		}
	}
}

type counted struct {
	r io.Reader
	n *atomic.Uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(uint64(n))
	return n, err
}

const writeChunkBytes = 4 << 10

func (l *link) write(ctx context.Context) {
	var buf []byte
	for {
		select {
		case l.idle <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case f := <-l.out:
			buf = AppendFrame(buf[:0], f)
		case <-ctx.Done():
			return
		}
		for b := buf; len(b) > 0; {
			n, err := l.rw.Write(b[:min(len(b), writeChunkBytes)])
			l.bytesOut.Add(uint64(n))
			if err != nil {
				l.broken <- err
				return
			}
			b = b[n:]
		}
	}
}

// loop steps the session until it ends.
func (l *link) loop(ctx context.Context, changed <-chan struct{}) error {
	stall := time.NewTimer(l.o.Stall)
	defer stall.Stop()
	moved := uint64(0)
	for {
		if l.ready {
			l.s.notes.due = l.noteWait() <= 0
			f, ok, err := l.s.Next(ctx)
			if err != nil {
				return err
			}
			if ok {
				if fair := l.s.o.Fair; fair != nil && f.Type.bulk() {
					fair.charge(l.s.peer, len(f.Payload))
				}
				if l.ready = false; f.Type == TypeAck {
					l.lastAck, l.ackMoment = time.Now(), nil
				}
				if f.Type == TypeCheckpoint {
					l.lastNote = time.Now()
				}
				l.out <- f
			}
		}
		if l.noteMoment == nil && l.s.notes.held {
			l.noteMoment = time.After(l.noteWait())
		}
		l.report()
		if l.s.done() {
			return nil
		}
		if l.turn == nil && l.s.waitsForTurn() {
			l.turn = time.After(patience)
		}
		if l.moment == nil && l.s.owesReceipt() {
			l.moment = time.After(l.receiptPause())
		}
		in := l.in
		if l.s.full() {
			in = nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-l.broken:
			return linkError(err)
		case f := <-in:
			if err := l.handle(ctx, f.Frame); err != nil {
				return err
			}
			l.paceAck(f)
		case <-l.idle:
			l.ready = true
		case <-changed:
			l.change()
		case <-l.again:
			l.again = nil
			l.change()
		case <-l.turn:
			l.turn = nil
			l.s.insist()
		case <-l.moment:
			l.moment, l.lastReceipt = nil, time.Now()
			l.s.releaseReceipt()
		case <-l.noteMoment:
			l.noteMoment, l.s.notes.held = nil, false
		case <-l.ackMoment:
			l.ackMoment = nil
			l.s.releaseAck()
		case <-l.o.Wake:
			l.looked++
			l.s.Changed()
		case <-stall.C:
			now := l.bytesIn.Load() + l.bytesOut.Load()
			if now == moved && l.s.Waiting() {
				return ErrStalled
			}
			moved = now
			stall.Reset(l.o.Stall)
		}
	}
}

// noteWait is how long the next checkpoint is held back, so that on a slow link one
// answers for many and the entries behind it go in one piece.
func (l *link) noteWait() time.Duration {
	if l.ackPause < ackPauseMax/2 && !l.s.credit.slow() {
		return 0
	}
	return notePause - time.Since(l.lastNote)
}

// handle gives a frame to the session, one with records or entries when it is this
// peer's turn.
func (l *link) handle(ctx context.Context, f Frame) error {
	if fair := l.s.o.Fair; fair != nil && f.Type.bulk() {
		if err := fair.enter(ctx, l.s.peer, len(f.Payload)+frameBytesMin); err != nil {
			return err
		}
		defer fair.leave()
	}
	return l.s.Handle(ctx, f)
}

// paceAck lets one answer do for what arrives within a second, where a frame
// takes its time to arrive. The first answer after a pause goes at once.
func (l *link) paceAck(f arrived) {
	if f.Type.bulk() {
		l.ackPause = min(max(2*f.took, ackPauseMin), ackPauseMax)
	}
	if !l.s.owesAck() || l.ackMoment != nil {
		return
	}
	if wait := l.ackPause - time.Since(l.lastAck); wait > 0 {
		l.ackMoment = time.After(wait)
		return
	}
	l.s.releaseAck()
}

// change has the session look at the replica, which on a busy hub changes more
// often than there is anything to see.
func (l *link) change() {
	if wait := lookEvery - time.Since(l.lastLook); wait > 0 {
		if l.again == nil {
			l.again = time.After(wait)
		}
		return
	}
	l.lastLook = time.Now()
	l.s.Changed()
}

// receiptPause is how long a receipt waits for more to promise: a second, and
// longer each time while records keep coming.
func (l *link) receiptPause() time.Duration {
	if time.Since(l.lastReceipt) > l.receiptWait {
		l.receiptWait = receiptPauseMin
	} else {
		l.receiptWait = min(2*l.receiptWait, receiptPauseMax)
	}
	return l.receiptWait
}

func linkError(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF // a peer that ends well says goodbye first
	}
	return err
}

func (l *link) report() {
	if l.o.Progress == nil {
		return
	}
	s := l.s
	l.o.Progress(Progress{BytesIn: l.bytesIn.Load(), BytesOut: l.bytesOut.Load(), Sent: s.stats.sent.Load(), Received: s.stats.received.Load(),
		Size: s.stats.size.Load(), Target: s.stats.target.Load(), Settled: s.stats.settled.Load(), Greeted: s.helloSeen,
		Role: s.theirs.Role, Software: s.theirs.Software, Looked: l.looked, Forked: s.fork.on || s.fork.heard, Pace: s.credit.found()})
}

// bye tells the peer why the session ends, when the peer did not end it and the
// writer gets the frame out in time.
func (l *link) bye(err error) {
	if errors.Is(err, ErrBye) {
		return
	}
	wait := time.NewTimer(byeTimeout)
	defer wait.Stop()
	for sent := false; ; {
		if l.ready && sent {
			return
		}
		if l.ready {
			l.ready, sent = false, true
			l.out <- l.s.Bye(err)
		}
		select {
		case <-l.idle:
			l.ready = true
		case <-l.broken:
			return
		case <-l.in:
		case <-wait.C:
			return
		}
	}
}
