package bench_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// link passes TCP to a port while it is up and counts the payload bytes.
type link struct {
	port, to string
	listener net.Listener
	wg       sync.WaitGroup
	out, in  atomic.Int64 // bytes from who dialled, and to it

	mu    sync.Mutex
	up    bool                  // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
}

func newLink(tb testing.TB, to string) *link {
	tb.Helper()
	l := &link{to: to, up: true, conns: map[net.Conn]struct{}{}}
	var err error
	l.listener, err = net.Listen("tcp", "127.0.0.1:0")
	check(tb, "opening a forwarder", err)
	_, l.port, err = net.SplitHostPort(l.listener.Addr().String())
	check(tb, "opening a forwarder", err)
	l.wg.Go(l.accept)
	tb.Cleanup(l.close)
	return l
}

func (l *link) accept() {
	for {
		c, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.wg.Go(func() { l.pass(c) })
	}
}

func (l *link) pass(near net.Conn) {
	defer near.Close()
	if !l.keep(near) {
		return
	}
	defer l.drop(near)
	far, err := net.Dial("tcp", "127.0.0.1:"+l.to)
	if err != nil {
		return
	}
	defer far.Close()
	if !l.keep(far) {
		return
	}
	defer l.drop(far)
	var both sync.WaitGroup
	copyTo := func(to, from net.Conn, n *atomic.Int64) {
		io.Copy(to, counting{from, n}) // the end of the connection is seen by both boxes
		to.Close()
		from.Close()
	}
	both.Go(func() { copyTo(far, near, &l.out) })
	both.Go(func() { copyTo(near, far, &l.in) })
	both.Wait()
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

// TestLinkCounts: each direction is counted apart, to the byte, and a cut ends
// what goes through.
func TestLinkCounts(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, "listening", err)
	defer far.Close()
	_, port, err := net.SplitHostPort(far.Addr().String())
	check(t, "listening", err)
	l := newLink(t, port)
	near, err := net.Dial("tcp", "127.0.0.1:"+l.port)
	check(t, "dialling", err)
	defer near.Close()
	end, err := far.Accept()
	check(t, "accepting", err)
	defer end.Close()
	pass := func(to, from net.Conn, n int) {
		t.Helper()
		sent := bytes.Repeat([]byte{7}, n)
		go to.Write(sent)
		got := make([]byte, n)
		if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes did not pass: %v", n, err)
		}
	}
	pass(near, end, 1234)
	pass(end, near, 567)
	if out, in := l.out.Load(), l.in.Load(); out != 1234 || in != 567 {
		t.Errorf("counted %d out, %d in; want 1234, 567", out, in)
	}
	l.set(false)
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("a cut link still gives bytes")
	}
}
