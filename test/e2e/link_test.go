package e2e_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// link passes TCP from one box to another while it is up.
type link struct {
	from, to *Box
	port     string
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	up    bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
}

func newLink(t testing.TB, from, to *Box) *link {
	t.Helper()
	l := &link{from: from, to: to, port: freePort(t), up: true, conns: map[net.Conn]struct{}{}}
	var err error
	if l.listener, err = net.Listen("tcp", "127.0.0.1:"+l.port); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

func (l *link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.pass(c) })
	}
}

func (l *link) pass(in net.Conn) {
	defer in.Close()
	if !l.keep(in) {
		return
	}
	defer l.drop(in)
	out, err := net.Dial("tcp", "127.0.0.1:"+l.to.peerPort)
	if err != nil {
		return
	}
	defer out.Close()
	if !l.keep(out) {
		return
	}
	defer l.drop(out)
	var both sync.WaitGroup
	both.Go(func() { io.Copy(out, in); out.Close(); in.Close() })
	both.Go(func() { io.Copy(in, out); out.Close(); in.Close() })
	both.Wait()
}

func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.conns[c] = struct{}{}
	}
	return l.up
}

func (l *link) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// set cuts or restores the link. A cut closes what goes through it.
func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = up
	if !up {
		for c := range l.conns {
			c.Close()
		}
	}
}

func (l *link) close() {
	l.listener.Close()
	l.set(false)
	l.wg.Wait()
}
