package link

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// Path is how one direction treats packets. The zero value passes them on at once.
type Path struct {
	Rate   int           // bit/s, 0 for as fast as it goes
	Delay  time.Duration // from the last bit out to its arrival
	Jitter time.Duration // at most, on top of Delay
	Loss   float64       // share of the packets, 0 to 1
	Queue  int           // bytes that may wait, 0 for 1 MiB
}

const (
	queueDefault = 1 << 20
	packetMax    = 2048
	underWayMax  = 4096 // packets between the queue and their arrival
)

// Addresses of a Link's two ends.
const (
	NearAddress = "10.77.0.1"
	FarAddress  = "10.77.0.2"
)

// Link joins two namespaces.
type Link struct {
	Near, Far *Space
	up, down  *way
	wg        sync.WaitGroup

	mu    sync.Mutex
	flows map[flow]uint32 // guarded by mu: of a living connection, what the other end acknowledged to come next
	gone  map[flow]bool   // guarded by mu: forgotten connections, both directions
	cutAt int64           // guarded by mu: bytes both ways after which the link forgets, 0 for never
	cut   func()          // guarded by mu: called then
	trace func(Packet)    // guarded by mu
}

// Packet is one packet that was sent.
type Packet struct {
	At      time.Time
	Up      bool // from Near to Far
	Bytes   int
	Payload int // of TCP
	Lost    bool
}

// Trace has every packet told from now on, or none with nil.
func (l *Link) Trace(f func(Packet)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trace = f
}

func (l *Link) tell(p Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trace != nil {
		l.trace(p)
	}
}

// way is one direction.
type way struct {
	l        *Link
	from, to *os.File
	toward   chan arrival

	mu     sync.Mutex
	path   Path            // guarded by mu
	silent bool            // guarded by mu
	rnd    *rand.Rand      // guarded by mu
	free   time.Time       // guarded by mu: when the last packet will have gone out
	last   time.Time       // guarded by mu: arrival of the last packet
	count  Count           // guarded by mu
	ends   map[flow]uint32 // guarded by mu: highest sequence number sent
}

type arrival struct {
	at     time.Time
	packet []byte
}

// New makes two namespaces and the link between them, unshaped. Close it after
// the processes in it have ended.
func New(seed uint64) (*Link, error) {
	l := &Link{flows: map[flow]uint32{}, gone: map[flow]bool{}}
	var err error
	if l.Near, err = NewSpace(); err != nil {
		return nil, err
	}
	if l.Far, err = NewSpace(); err != nil {
		l.Near.Close()
		return nil, err
	}
	near, err := l.Near.tun(NearAddress)
	if err == nil {
		var far *os.File
		if far, err = l.Far.tun(FarAddress); err == nil {
			l.up, l.down = l.way(near, far, seed), l.way(far, near, seed+1)
			return l, nil
		}
		near.Close()
	}
	l.Near.Close()
	l.Far.Close()
	return nil, fmt.Errorf("making the link: %w", err)
}

func (l *Link) way(from, to *os.File, seed uint64) *way {
	w := &way{l: l, from: from, to: to, toward: make(chan arrival, underWayMax), rnd: rand.New(rand.NewPCG(seed, 77)), ends: map[flow]uint32{}}
	l.wg.Go(w.read)
	l.wg.Go(w.write)
	return w
}

// Shape sets both directions: up is from Near to Far.
func (l *Link) Shape(up, down Path) {
	l.up.shape(up)
	l.down.shape(down)
}

func (w *way) shape(p Path) {
	if p.Queue == 0 {
		p.Queue = queueDefault
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.path = p
}

// Silence makes the link swallow everything, or lets it pass again. Connections
// do not notice by themselves.
func (l *Link) Silence(on bool) {
	for _, w := range []*way{l.up, l.down} {
		w.mu.Lock()
		w.silent = on
		w.mu.Unlock()
	}
}

// Plug sets the near end's device up or down: without it the near side knows at
// once that there is no network.
func (l *Link) Plug(in bool) error {
	state := "down"
	if in {
		state = "up"
	}
	return l.Near.IP("link set " + deviceName + " " + state)
}

// Counts gives what went from Near to Far and back.
func (l *Link) Counts() (up, down Count) { return l.up.counted(), l.down.counted() }

func (w *way) counted() Count {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// Close ends the link and the namespaces.
func (l *Link) Close() {
	l.up.from.Close()
	l.down.from.Close()
	l.wg.Wait()
	l.Near.Close()
	l.Far.Close()
}

func (w *way) read() {
	defer close(w.toward)
	buf := make([]byte, packetMax)
	for {
		n, err := w.from.Read(buf)
		if err != nil {
			return
		}
		if n < ipv4Header || buf[0]>>4 != 4 {
			continue
		}
		p := append([]byte(nil), buf[:n]...)
		s, isTCP := parse(p)
		if isTCP && w.l.forgotten(s, w) {
			continue
		}
		at, sent, ok := w.enqueue(p, s, isTCP)
		if sent {
			w.l.tell(Packet{At: time.Now(), Up: w == w.l.up, Bytes: n, Payload: s.payload, Lost: !ok})
		}
		if ok {
			w.toward <- arrival{at, p}
		}
	}
}

// enqueue decides whether a packet is sent, and when it arrives, if it does.
func (w *way) enqueue(p []byte, s segment, isTCP bool) (at time.Time, sent, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.silent {
		return at, false, false
	}
	if w.free.Before(now) {
		w.free = now
	}
	if w.path.Rate > 0 {
		if waiting := int(w.free.Sub(now).Seconds() * float64(w.path.Rate) / 8); waiting+len(p) > w.path.Queue {
			w.count.Overflow++
			return at, false, false
		}
		w.free = w.free.Add(time.Duration(len(p)) * 8 * time.Second / time.Duration(w.path.Rate))
	}
	w.countLocked(p, s, isTCP)
	if w.path.Loss > 0 && w.rnd.Float64() < w.path.Loss {
		w.count.Lost++
		w.count.LostBytes += int64(len(p))
		return at, true, false
	}
	at = w.free.Add(w.path.Delay)
	if w.path.Jitter > 0 {
		at = at.Add(time.Duration(w.rnd.Int64N(int64(w.path.Jitter))))
	}
	if at.Before(w.last) {
		at = w.last
	}
	w.last = at
	return at, true, true
}

func (w *way) countLocked(p []byte, s segment, isTCP bool) {
	c := &w.count
	c.Packets++
	c.Bytes += int64(len(p))
	if !isTCP || s.payload == 0 {
		c.Empty++
		c.EmptyBytes += int64(len(p))
		if isTCP && s.flags&tcpSYN != 0 {
			w.ends[s.flow] = s.seq + 1
		}
		return
	}
	fresh := s.payload
	end := s.seq + uint32(s.payload)
	if had, ok := w.ends[s.flow]; ok {
		fresh = min(max(int(int32(end-had)), 0), s.payload)
	}
	if fresh > 0 {
		w.ends[s.flow] = end
	}
	c.Payload += int64(fresh)
	c.Again += int64(s.payload - fresh)
}

func (w *way) write() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for a := range w.toward {
		if wait := time.Until(a.at); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		if _, err := w.to.Write(a.packet); err != nil {
			continue // a device that is down takes nothing; the packet is lost
		}
	}
}
