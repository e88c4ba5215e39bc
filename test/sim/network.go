package sim

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// link is one session between two boxes over one stream.
type link struct {
	name  int
	ends  [2]*end
	liar  *box // what this box sends is changed on the way; nil for an honest link
	ended bool // both ends know, or will when what is under way arrived
	sent  int  // frames
}

// end is one box's side of a link.
type end struct {
	w    *world
	l    *link
	b    *box
	peer *end
	s    *peersync.Session

	arriving []*flight // bytes on their way to this end, in order
	freeAt   int64     // when the stream takes the next frame of this end
	pumping  bool
	closed   bool
}

// flight is what the stream carries at one time: whole frames, or what a cut left
// of one.
type flight struct {
	b    []byte
	last bool // nothing comes after it
}

func pair(a, b *box) [2]int {
	if a.n > b.n {
		a, b = b, a
	}
	return [2]int{a.n, b.n}
}

// connect begins a session between two boxes that are up and have none.
func (w *world) connect(a, b *box, liar *box) *link {
	key := pair(a, b)
	if a.author.Device == b.author.Device || a.st == nil || b.st == nil || w.links[key] != nil || w.cutOff[key] || w.shuns(a, b) || w.remote(a) || w.remote(b) {
		return nil
	}
	w.res.Sessions++
	l := &link{name: w.res.Sessions, liar: liar}
	for i, x := range []*box{a, b} {
		other := []*box{b, a}[i]
		r, _ := w.replicaOf(x, other, liar != other)
		l.ends[i] = &end{w: w, l: l, b: x, s: peersync.NewSession(r, other.author.Device, w.session(x))}
	}
	l.ends[0].peer, l.ends[1].peer = l.ends[1], l.ends[0]
	w.links[key] = l
	lies := ""
	if liar != nil {
		lies = ", " + liar.name + " lies"
	}
	w.tracef("link %d: %s and %s%s", l.name, a, b, lies)
	l.ends[0].pumpAt(w.plan.Latency)
	l.ends[1].pumpAt(w.plan.Latency)
	return l
}

// session are the options of a box's sessions, as package node sets them.
func (w *world) session(b *box) peersync.Options {
	o := peersync.Options{Region: w.region, Device: b.author.Device, Role: b.role, Software: "sim", Window: w.plan.Window, WantOrdered: func() bool { return !b.hub() && !b.wit.frozen }, Turn: b.turn,
		Hub: w.isHub, Hubs: w.hubIDs, LocalFault: ownFault, Final: func(note []byte) (record.Checkpoint, error) { return w.verifyFinal(note) }}
	w.watch(b, &o)
	w.partOptions(b, &o)
	if b.hub() {
		o.Checkpoint = func(from record.DeviceID, note []byte) error { return w.offered(b, from, note) }
		o.Note = func() []byte { return b.notes.newest }
		o.PushPending = func(peer record.DeviceID) bool { return w.leader != nil && w.leader.author.Device == peer }
	}
	return o
}

func (w *world) isHub(d record.DeviceID) bool {
	for _, h := range w.hubs {
		if h.author.Device == d {
			return true
		}
	}
	return false
}

// pumpAt has the end look for frames to send.
func (e *end) pumpAt(ms int64) {
	if e.pumping || e.closed {
		return
	}
	e.pumping = true
	e.w.after(max(ms, e.freeAt-e.w.now), func() error {
		e.pumping = false
		return e.pump()
	})
}

// pump sends one frame, as fast as the stream takes them.
func (e *end) pump() error {
	if e.closed || e.b.st == nil {
		return nil
	}
	f, ok, err := e.s.Next(context.Background())
	if err != nil {
		return e.fail(err)
	}
	if !ok {
		return e.w.touch(e.b)
	}
	e.w.tracef("link %d: %s sends %#02x, %d bytes", e.l.name, e.b, byte(f.Type), len(f.Payload))
	e.send(f, false)
	e.pumpAt(0)
	return e.w.touch(e.b)
}

// framesMax is more than any session here has reason to send.
const framesMax = 10_000

func (e *end) send(f peersync.Frame, last bool) {
	w := e.w
	if e.l.sent++; e.l.sent == framesMax && e.l.liar == nil {
		w.late = w.violated(SyncTerminates, "link %d of %s and %s has sent %d frames", e.l.name, e.b, e.peer.b, e.l.sent)
	}
	b := peersync.AppendFrame(nil, f)
	w.res.Bytes += uint64(len(b))
	w.capture(b)
	e.freeAt = max(e.freeAt, w.now) + int64(len(b))*1000/w.plan.BytesPerSec
	x := &flight{b: b, last: last}
	to := e.peer
	to.arriving = append(to.arriving, x)
	w.after(e.freeAt-w.now+w.plan.Latency, func() error { return to.arrive(x) })
}

// arrive takes what the stream brought.
func (e *end) arrive(x *flight) error {
	if len(e.arriving) == 0 || e.arriving[0] != x {
		return nil // lost in a cut
	}
	e.arriving = e.arriving[1:]
	if e.closed || e.b.st == nil {
		return nil
	}
	if e.l.liar == e.peer.b {
		return e.lied(x)
	}
	r := peersync.NewFrameReader(bytes.NewReader(x.b))
	for {
		f, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return e.fail(io.ErrUnexpectedEOF)
		}
		if err := e.handle(f); err != nil || e.closed {
			return err
		}
	}
	if x.last {
		return e.fail(io.ErrUnexpectedEOF)
	}
	return nil
}

func (e *end) handle(f peersync.Frame) error {
	err := e.s.Handle(context.Background(), f)
	if err != nil {
		return e.fail(err)
	}
	e.pumpAt(0)
	return e.w.touch(e.b)
}

// fail ends this side of a session, as the session's shell does: with a goodbye
// when the other side has not said one.
func (e *end) fail(err error) error {
	w := e.w
	var bad *Violation
	if errors.As(err, &bad) {
		return bad
	}
	w.tracef("link %d: %s ends it: %v", e.l.name, e.b, err)
	if errors.Is(err, peersync.ErrLocal) || e.b.st.Err() != nil {
		e.close()
		return e.b.failed("a session", err)
	}
	if e.l.liar == nil && errors.Is(err, peersync.ErrMisbehaved) {
		return w.violated(HonestUnblamed, "%s of %s: %v", e.b, e.peer.b, err)
	}
	if !errors.Is(err, peersync.ErrBye) && !errors.Is(err, io.ErrUnexpectedEOF) {
		e.send(e.s.Bye(err), true)
	} else {
		e.hangUp()
	}
	e.close()
	return w.touch(e.b)
}

// hangUp lets the other side see the end of the stream after what is under way.
func (e *end) hangUp() {
	x, to := &flight{last: true}, e.peer
	to.arriving = append(to.arriving, x)
	e.w.after(max(0, e.freeAt-e.w.now)+e.w.plan.Latency, func() error { return to.arrive(x) })
}

// close forgets the link once one side has ended it; the other side may still
// take what is under way.
func (e *end) close() {
	if e.closed {
		return
	}
	e.closed = true
	e.s.Close()
	if e.peer.closed {
		delete(e.w.links, pair(e.b, e.peer.b))
	}
}

// finish ends a link from outside: by both shells, or by a cut at any byte.
func (w *world) finish(l *link, cut bool) error {
	if w.links[pair(l.ends[0].b, l.ends[1].b)] != l {
		return nil
	}
	w.tracef("link %d: ends, cut %v", l.name, cut)
	for _, e := range l.ends {
		if cut {
			e.cutArriving()
		} else if !e.closed && e.b.st != nil {
			if err := e.fail(peersync.ErrStopped); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutArriving loses what is under way from a random byte on.
func (e *end) cutArriving() {
	w := e.w
	total := 0
	for _, x := range e.arriving {
		total += len(x.b)
	}
	keep := w.rng.IntN(total + 1)
	left := []*flight{}
	for _, x := range e.arriving {
		if keep == 0 {
			break
		}
		if len(x.b) > keep {
			x.b = x.b[:keep]
		}
		keep -= len(x.b)
		left = append(left, x)
	}
	e.arriving = left
	if n := len(left); n > 0 {
		left[n-1].last = true
		return
	}
	x := &flight{last: true}
	e.arriving = append(e.arriving, x)
	w.after(w.plan.Latency, func() error { return e.arrive(x) })
}

// dropLinks ends the links of a box that is gone; the other sides notice.
func (w *world) dropLinks(b *box) {
	for _, l := range w.linksOf(b) {
		for _, e := range l.ends {
			if e.b == b {
				e.close()
			} else {
				e.cutArriving()
			}
		}
	}
}

// linksOf lists the links of a box in a fixed order.
func (w *world) linksOf(b *box) []*link {
	var out []*link
	for _, o := range w.boxes {
		if l := w.links[pair(b, o)]; l != nil && o != b {
			out = append(out, l)
		}
	}
	return out
}

// touch tells the sessions of a box that its replica changed.
func (w *world) touch(b *box) error {
	if b.st == nil {
		return nil
	}
	changed := b.freed
	b.freed = false
	select {
	case <-b.changed:
		changed = true
	default:
	}
	if !changed {
		return nil
	}
	w.wake(b)
	if !b.hub() {
		return nil
	}
	return w.cosign(b)
}

func (w *world) wake(b *box) {
	for _, l := range w.linksOf(b) {
		for _, e := range l.ends {
			if e.b == b && !e.closed {
				e.s.Changed()
				e.pumpAt(0)
			}
		}
	}
}
