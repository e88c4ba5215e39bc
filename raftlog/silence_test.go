package raftlog_test

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// muffler passes connections on to a hub until it is told to swallow what goes through
// the ones that stand. It ends none of them; new ones pass.
type muffler struct {
	listener net.Listener
	to       string

	mu    sync.Mutex // guards what follows
	hold  chan struct{}
	conns []net.Conn
}

func newMuffler(t testing.TB, to ma.Multiaddr) *muffler {
	a, err := manet.ToNetAddr(to)
	check(t, "reading an address", err)
	m := &muffler{to: a.String(), hold: make(chan struct{})}
	m.listener, err = net.Listen("tcp", "127.0.0.1:0")
	check(t, "listening", err)
	go m.accept()
	t.Cleanup(func() {
		m.listener.Close()
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range m.conns {
			c.Close()
		}
	})
	return m
}

func (m *muffler) accept() {
	for {
		in, err := m.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", m.to)
		if err != nil {
			in.Close()
			continue
		}
		m.mu.Lock()
		hold := m.hold
		m.conns = append(m.conns, in, out)
		m.mu.Unlock()
		go pass(out, in, hold)
		go pass(in, out, hold)
	}
}

// pass copies until the end, which it passes on too, or until it is to swallow.
func pass(to, from net.Conn, hold <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-hold:
			io.Copy(io.Discard, from)
			return
		default:
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			to.Close()
			from.Close()
			return
		}
	}
}

// swallow silences what stands now.
func (m *muffler) swallow() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.hold)
	m.hold = make(chan struct{})
}

// TestSilentConnections: a network swallowed packets for so long that the connections
// between hubs are as good as dead, without anybody having closed them. Order resumes
// over new ones as soon as a call was waited for.
func TestSilentConnections(t *testing.T) {
	c := newCluster(t, 3, 1)
	c.profile = quick()
	hosts := onHosts(t, c)
	var all []*muffler
	for _, a := range hosts {
		for _, b := range hosts {
			if a == b {
				continue
			}
			m := newMuffler(t, b.Addrs()[0])
			all = append(all, m)
			way, err := manet.FromNetAddr(m.listener.Addr())
			check(t, "naming an address", err)
			a.Peerstore().ClearAddrs(b.ID())
			a.Peerstore().AddAddr(b.ID(), way, peerstore.PermanentAddrTTL)
		}
	}
	c.found()
	c.order(c.clinics[0].visit(100))
	for _, m := range all {
		m.swallow()
	}
	began := time.Now()
	c.order(c.clinics[0].visit(100))
	c.agree(7)
	took := time.Since(began)
	t.Logf("order resumed after %v", took)
	if took > 25*time.Second { // the multiplexer finds out after 30
		t.Errorf("order resumed after %v", took)
	}
	c.end()
}
