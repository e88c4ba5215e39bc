package demo

import (
	"io"
	"net"
	"sync"
)

// forwarder passes TCP between a box and one other box, while its link is up.
type forwarder struct {
	to string

	mu       sync.Mutex
	up       bool                  // guarded by mu
	conns    map[net.Conn]struct{} // guarded by mu
	listener net.Listener
	wg       sync.WaitGroup
}

// newForwarder listens on loopback; the port stays the same while it lives, cut
// or not, so that the dialling box needs no new address.
func newForwarder(listen, to string) (*forwarder, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	f := &forwarder{to: to, up: true, conns: map[net.Conn]struct{}{}, listener: l}
	f.wg.Add(1)
	go f.accept()
	return f, nil
}

func (f *forwarder) accept() {
	defer f.wg.Done()
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		f.wg.Add(1)
		go f.pass(c)
	}
}

func (f *forwarder) pass(in net.Conn) {
	defer f.wg.Done()
	defer in.Close()
	if !f.keep(in) {
		return
	}
	defer f.drop(in)
	out, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	defer out.Close()
	if !f.keep(out) {
		return
	}
	defer f.drop(out)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(out, in) // an error here is the end of the connection, which both ends see
		out.Close()
		in.Close()
	}()
	io.Copy(in, out)
	in.Close()
	out.Close()
	<-done
}

// keep registers a connection, unless the link is cut.
func (f *forwarder) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.up {
		f.conns[c] = struct{}{}
	}
	return f.up
}

func (f *forwarder) drop(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

func (f *forwarder) setUp(up bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up = up
	if !up {
		for c := range f.conns {
			c.Close()
		}
	}
}

func (f *forwarder) close() {
	f.listener.Close()
	f.setUp(false)
	f.wg.Wait()
}
