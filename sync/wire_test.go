package peersync_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// meter relays TCP connections and counts their payload: all that crosses the
// link except TCP's own headers.
type meter struct {
	listener net.Listener
	to       string
	up, down atomic.Int64
	work     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newMeter(t *testing.T, to string) *meter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{listener: l, to: to}
	m.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			m.mu.Lock()
			m.conns = append(m.conns, c, d)
			m.mu.Unlock()
			m.work.Go(func() { m.copy(d, c, &m.up) })
			m.work.Go(func() { m.copy(c, d, &m.down) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		m.sever()
		m.work.Wait()
	})
	return m
}

func (m *meter) copy(to, from net.Conn, n *atomic.Int64) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		n.Add(int64(k))
		if k > 0 {
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (m *meter) sever() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		c.Close()
	}
	m.conns = nil
}

// TestWireBytes counts what a clinic's contact with a hub costs on a TCP link:
// connecting, one visit on an open session until it is confirmed, and idling.
func TestWireBytes(t *testing.T) {
	w := newWorld(t, 30, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	m, through := hub.through(t)
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Hubs: fixed(through), HubsWanted: 1}, peersync.HostOptions{Listen: []string{}, Meter: counter(t, 0)})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := b.links.SyncNow(ctx, w.hub.self); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	until(t, "confirmed", func() bool { return c.Head() == w.hub.Head() })
	settle := func() (up, down int64) { // identify and the last ACK may still be under way
		for {
			up, down = m.up.Load(), m.down.Load()
			wait, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
			<-wait.Done()
			stop()
			if up == m.up.Load() && down == m.down.Load() {
				return up, down
			}
		}
	}
	up, down := settle()
	t.Logf("connect, HELLO, two records pushed and confirmed: %d up, %d down", up, down)
	if up+down > 9000 {
		t.Errorf("a first contact took %d bytes", up+down)
	}
	body := make([]byte, 480)
	for i := range body {
		body[i] = byte(w.rng.Uint32())
	}
	keep(t, c.memory, c.author.write(record.LaneClinical, record.KindClinical, body))
	until(t, "pushed", func() bool { return len(w.hub.allPending()) == 1 })
	up2, down2 := settle()
	w.orderAll()
	until(t, "confirmed", func() bool { return c.Head() == w.hub.Head() })
	up3, down3 := settle()
	t.Logf("a visit of 480 sealed bytes on the open session: %d up, %d down to be held by the hub; %d up, %d down to be confirmed", up2-up, down2-down, up3-up2, down3-down2)
	if n := up3 - up + down3 - down; n > 2200 {
		t.Errorf("one visit took %d bytes", n)
	}
}

func portOf(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		panic(err)
	}
	return port
}
