package rig

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Link passes TCP from one box to another while it is up.
type Link struct {
	From, To *Box
	Out, In  atomic.Int64 // payload bytes from who dialled, and to it
	Port     string
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	up    bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
}

// NewLink takes connections on a port of loopback and passes them to a box.
func NewLink(t testing.TB, from, to *Box) *Link {
	t.Helper()
	l := &Link{From: from, To: to, Port: FreePort(t), up: true, conns: map[net.Conn]struct{}{}}
	var err error
	if l.listener, err = net.Listen("tcp", "127.0.0.1:"+l.Port); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

func (l *Link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.pass(c) })
	}
}

func (l *Link) pass(in net.Conn) {
	defer in.Close()
	if !l.keep(in) {
		return
	}
	defer l.drop(in)
	out, err := net.Dial("tcp", "127.0.0.1:"+l.To.PeerPort)
	if err != nil {
		return
	}
	defer out.Close()
	if !l.keep(out) {
		return
	}
	defer l.drop(out)
	var both sync.WaitGroup
	both.Go(func() { passTo(out, in, &l.Out) })
	both.Go(func() { passTo(in, out, &l.In) })
	both.Wait()
}

// passTo ends both connections with either of them: both boxes see the end.
func passTo(to, from net.Conn, n *atomic.Int64) {
	io.Copy(to, counting{from, n})
	to.Close()
	from.Close()
}

type counting struct {
	io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.conns[c] = struct{}{}
	}
	return l.up
}

func (l *Link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Set cuts or restores the link. A cut closes what goes through it.
func (l *Link) Set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = up
	if !up {
		for c := range l.conns {
			c.Close()
		}
	}
}

func (l *Link) close() {
	l.listener.Close()
	l.Set(false)
	l.wg.Wait()
}

// Address is where the link takes connections for its target.
func (l *Link) Address() string { return "/ip4/127.0.0.1/tcp/" + l.Port + "/p2p/" + l.To.PeerID() }
