package web

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Limits on connections. Each costs a file descriptor and memory that the box needs for its records.
const (
	connsEach = 64 // of one address that is not this machine's
	connsMax  = 512
	// greetTimeout is how long a connection may stay silent at its beginning.
	greetTimeout = readHeaderTimeout
)

// tlsFirstByte begins every TLS connection, and no HTTP request.
const tlsFirstByte = 0x16

// Door lets connections in to a page's server: TLS and plain HTTP through the same port, a bounded
// number, and of each address a bounded number. When there are too many, one that waits for nothing
// is closed, the one of longest standing; when none does, the newcomer is.
type Door struct {
	listener net.Listener
	secure   *tls.Config // nil: plain HTTP alone
	near     func(net.Conn) bool
	greeted  chan net.Conn
	done     chan struct{}
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool           // guarded by mu
	open   []*visitor     // in order of arrival; guarded by mu
	err    error          // why the listener ended; guarded by mu
	each   map[string]int // open ones by address; guarded by mu
}

// visitor is one connection that came through the door.
type visitor struct {
	net.Conn
	door    *Door
	address string // "" for this machine's own
	first   []byte // what was read to see which protocol it is
	idle    bool   // nobody waits for an answer on it; guarded by door.mu
	once    sync.Once
}

// NewDoor takes l over. The door must be closed; a server that serves it does so.
func NewDoor(l net.Listener, secure *tls.Config) *Door {
	return newDoor(l, secure, func(c net.Conn) bool { return isOwn(c.RemoteAddr().String(), c.LocalAddr()) })
}

func newDoor(l net.Listener, secure *tls.Config, near func(net.Conn) bool) *Door {
	d := &Door{listener: l, secure: secure, near: near, greeted: make(chan net.Conn), done: make(chan struct{}), each: make(map[string]int)}
	d.wg.Go(d.run)
	return d
}

func isLoopback(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// run lets connections in until the listener ends.
func (d *Door) run() {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) { // it passes
				select {
				case <-time.After(100 * time.Millisecond):
					continue
				case <-d.done:
				}
			}
			d.mu.Lock()
			d.err = err
			d.mu.Unlock()
			d.end()
			return
		}
		v := &visitor{Conn: c, door: d, idle: true}
		if !d.near(c) {
			v.address = addressOf(&http.Request{RemoteAddr: c.RemoteAddr().String()})
		}
		if !d.admit(v) {
			c.Close()
			continue
		}
		d.wg.Go(func() { d.greet(v) })
	}
}

// admit makes room for a newcomer, or tells that there is none.
func (d *Door) admit(v *visitor) bool {
	d.mu.Lock()
	var leaves *visitor
	switch {
	case d.closed:
		d.mu.Unlock()
		return false
	case v.address != "" && d.each[v.address] >= connsEach:
		leaves = d.idlestLocked(func(o *visitor) bool { return o.address == v.address })
	case len(d.open) >= connsMax:
		leaves = d.idlestLocked(func(*visitor) bool { return true })
	default:
		d.addLocked(v)
		d.mu.Unlock()
		return true
	}
	if leaves != nil {
		d.removeLocked(leaves)
		d.addLocked(v)
	}
	d.mu.Unlock()
	if leaves == nil {
		return false
	}
	leaves.Close()
	return true
}

// idlestLocked is the oldest connection on which nobody waits, of the address that has most.
func (d *Door) idlestLocked(may func(*visitor) bool) (found *visitor) {
	for _, o := range d.open {
		if o.idle && may(o) && (found == nil || d.each[o.address] > d.each[found.address]) {
			found = o
		}
	}
	return found
}

func (d *Door) addLocked(v *visitor) {
	d.open = append(d.open, v)
	d.each[v.address]++
}

func (d *Door) removeLocked(v *visitor) {
	for i, o := range d.open {
		if o == v {
			d.open = append(d.open[:i], d.open[i+1:]...)
			if d.each[v.address]--; d.each[v.address] == 0 {
				delete(d.each, v.address)
			}
			return
		}
	}
}

// greet reads the first byte, and hands the connection to the server.
func (d *Door) greet(v *visitor) {
	first := make([]byte, 1)
	_ = v.SetReadDeadline(time.Now().Add(greetTimeout)) // a connection that takes none is closed by its peer
	if _, err := io.ReadFull(v.Conn, first); err != nil {
		v.Close()
		return
	}
	_ = v.SetReadDeadline(time.Time{}) // one that is closed already fails at its first read
	d.busy(v, true)
	v.first = first
	var c net.Conn = v
	if first[0] == tlsFirstByte && d.secure != nil {
		c = tls.Server(v, d.secure)
	}
	select {
	case d.greeted <- c:
	case <-d.done:
		v.Close()
	}
}

func (d *Door) busy(v *visitor, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v.idle = !busy
}

// watchVisitor is told by the server what a connection does.
func watchVisitor(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if v, ok := c.(*visitor); ok {
		v.door.busy(v, state != http.StateIdle)
	}
}

// Accept is of net.Listener.
func (d *Door) Accept() (net.Conn, error) {
	select {
	case c := <-d.greeted:
		return c, nil
	case <-d.done:
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.err != nil {
			return nil, d.err
		}
		return nil, net.ErrClosed
	}
}

// Addr is of net.Listener.
func (d *Door) Addr() net.Addr { return d.listener.Addr() }

// Close lets nobody in any more and waits for those who had not said anything yet. What the server
// has stays with it.
func (d *Door) Close() error {
	err := d.listener.Close()
	d.end()
	d.mu.Lock()
	var silent []*visitor
	for _, v := range d.open {
		if v.idle {
			silent = append(silent, v)
		}
	}
	d.mu.Unlock()
	for _, v := range silent {
		v.Conn.Close()
	}
	d.wg.Wait()
	return err
}

func (d *Door) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		close(d.done)
	}
}

// Read gives what was read to see the protocol, then the rest.
func (v *visitor) Read(b []byte) (int, error) {
	if len(v.first) > 0 && len(b) > 0 {
		b[0] = v.first[0]
		v.first = v.first[:0]
		return 1, nil
	}
	return v.Conn.Read(b)
}

// Close gives the place back.
func (v *visitor) Close() error {
	var err error
	v.once.Do(func() {
		v.door.mu.Lock()
		v.door.removeLocked(v)
		v.door.mu.Unlock()
		err = v.Conn.Close()
	})
	return err
}
