package raftlog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/nemesis"
)

// CutNet carries the calls of the real transport between the hubs of one process, and
// is cut, slowed and healed in each direction by itself. What is swallowed is not lost
// for a connection that lives on: it arrives when the way is open again, as with TCP.
type CutNet struct {
	mu      sync.Mutex // guards what follows
	layers  map[raft.ServerAddress]*cutLayer
	numbers map[raft.ServerAddress]int
	ways    nemesis.Ways
	changed chan struct{} // closed at the next change
	pairs   map[*cutPair]struct{}
}

// NewCutNet makes a whole network for n hubs.
func NewCutNet(n int) *CutNet {
	return &CutNet{layers: map[raft.ServerAddress]*cutLayer{}, numbers: map[raft.ServerAddress]int{}, ways: nemesis.Healthy(n),
		changed: make(chan struct{}), pairs: map[*cutPair]struct{}{}}
}

// Attach makes o use the net, as hub number.
func (n *CutNet) Attach(o *Options, number int) {
	p, log := o.Profile, newHCLogger(o.Log)
	o.link = func(self local) (link, error) {
		l := &cutLayer{net: n, self: self, number: number, accepted: make(chan net.Conn), done: make(chan struct{})}
		n.mu.Lock()
		n.layers[self.address], n.numbers[self.address] = l, number
		n.mu.Unlock()
		return newNetLink(l, p, log), nil
	}
}

// Set changes the network.
func (n *CutNet) Set(w nemesis.Ways) {
	n.mu.Lock()
	n.ways = w
	close(n.changed)
	n.changed = make(chan struct{})
	var ended []*cutPair
	for p := range n.pairs {
		if w[p.a][p.b].Refused || w[p.b][p.a].Refused {
			ended = append(ended, p)
		}
	}
	n.mu.Unlock()
	for _, p := range ended {
		p.end()
	}
}

func (n *CutNet) way(from, to int) (nemesis.Way, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ways[from][to], n.changed
}

var errRefused = errors.New("refused")

// reach takes the time of one message each way, and waits while it is swallowed.
func (n *CutNet) reach(ctx context.Context, from, to int) error {
	for _, d := range [][2]int{{from, to}, {to, from}} {
		for {
			w, changed := n.way(d[0], d[1])
			if w.Refused {
				return errRefused
			}
			var arrives <-chan time.Time
			if !w.Dropped {
				arrives = time.After(w.Delay)
			}
			select {
			case <-arrives:
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
			break
		}
	}
	return nil
}

type cutLayer struct {
	net      *CutNet
	self     local
	number   int
	accepted chan net.Conn
	done     chan struct{}
	once     sync.Once
}

func (l *cutLayer) peer(a raft.ServerAddress) *cutLayer {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	return l.net.layers[a]
}

func (l *cutLayer) Dial(a raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	where, name, _ := strings.Cut(string(a), targetSeparator)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	peer := l.peer(raft.ServerAddress(where))
	if peer == nil {
		return nil, fmt.Errorf("nobody at this address")
	}
	if err := l.net.reach(ctx, l.number, peer.number); err != nil {
		return nil, err
	}
	if string(peer.self.name) != name {
		return nil, fmt.Errorf("another server at this address")
	}
	here, there := l.net.connect(l.number, peer.number)
	select {
	case peer.accepted <- there:
		return here, nil
	case <-peer.done:
	case <-ctx.Done():
	}
	here.Close()
	there.Close()
	return nil, net.ErrClosed
}

func (l *cutLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *cutLayer) Addr() net.Addr { return streamAddr(l.self.address) }

func (l *cutLayer) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		if l.net.layers[l.self.address] == l {
			delete(l.net.layers, l.self.address)
		}
		var mine []*cutPair
		for p := range l.net.pairs {
			if p.a == l.number || p.b == l.number {
				mine = append(mine, p)
			}
		}
		l.net.mu.Unlock()
		for _, p := range mine {
			p.end()
		}
	})
	return nil
}

func (l *cutLayer) ask(ctx context.Context, d record.DeviceID) (testimony, error) {
	a, err := addressOf(d)
	if err != nil {
		return testimony{}, err
	}
	peer := l.peer(a)
	if peer == nil {
		return testimony{}, fmt.Errorf("nobody at this address")
	}
	if err := l.net.reach(ctx, l.number, peer.number); err != nil {
		return testimony{}, err
	}
	return recoded(peer.self.testify(l.self.address))
}

func (l *cutLayer) sweep() {}
func (l *cutLayer) wait()  {}

// cutPair is a connection between two hubs: a pipe at each end, and what is under way
// between them.
type cutPair struct {
	net  *CutNet
	a, b int
	ends [2]net.Conn // the inner ends of the pipes, a's and b's
	gone chan struct{}
	once sync.Once
}

// connect makes one and gives the outer ends.
func (n *CutNet) connect(a, b int) (here, there net.Conn) {
	here, innerA := net.Pipe()
	there, innerB := net.Pipe()
	p := &cutPair{net: n, a: a, b: b, ends: [2]net.Conn{innerA, innerB}, gone: make(chan struct{})}
	n.mu.Lock()
	n.pairs[p] = struct{}{}
	n.mu.Unlock()
	for _, d := range []struct{ from, to, in, out int }{{a, b, 0, 1}, {b, a, 1, 0}} {
		queue := make(chan delayed, 1<<14)
		go p.take(d.from, d.to, p.ends[d.in], queue)
		go p.deliver(d.from, d.to, p.ends[d.out], queue)
	}
	return here, there
}

// end closes both ends at once.
func (p *cutPair) end() {
	p.once.Do(func() {
		close(p.gone)
		p.ends[0].Close()
		p.ends[1].Close()
		p.net.mu.Lock()
		delete(p.net.pairs, p)
		p.net.mu.Unlock()
	})
}

// take reads what one end sends. Its end travels like the rest.
func (p *cutPair) take(from, to int, in net.Conn, queue chan<- delayed) {
	defer close(queue)
	for {
		buf := make([]byte, 32<<10)
		n, err := in.Read(buf)
		if err != nil {
			return
		}
		w, _ := p.net.way(from, to)
		select {
		case queue <- delayed{time.Now().Add(w.Delay), buf[:n]}:
		case <-p.gone:
			return
		}
	}
}

// deliver gives the other end what is due, while the way is open.
func (p *cutPair) deliver(from, to int, out net.Conn, queue <-chan delayed) {
	defer p.end()
	for d := range queue {
		if !p.pass(from, to, d.at) {
			return
		}
		if _, err := out.Write(d.p); err != nil {
			p.pass(to, from, time.Now()) // that it is closed is news, which travels back
			return
		}
	}
	p.pass(from, to, time.Now())
}

// pass waits until something may arrive.
func (p *cutPair) pass(from, to int, at time.Time) bool {
	for {
		w, changed := p.net.way(from, to)
		var arrives <-chan time.Time
		if !w.Dropped {
			arrives = time.After(time.Until(at))
		}
		select {
		case <-arrives:
			return true
		case <-changed:
		case <-p.gone:
			return false
		}
	}
}
