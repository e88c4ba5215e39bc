package peersync

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// slowTCP is TCP that fits slow links where this box dials: the handshake takes one
// round trip less, and with a meter connections are counted and send nothing to
// keep themselves alive, but for those to addresses that cost nothing.
type slowTCP struct {
	*tcp.TcpTransport
	upgrader transport.Upgrader
	limits   network.ResourceManager
	meter    *Meter // nil: nothing is paid for
	free     *freeAddresses
}

// freeAddresses are those of neighbours on the LAN.
type freeAddresses struct {
	mu   sync.Mutex
	list map[string]bool // guarded by mu
}

const freeAddressesMax = 4096

func (f *freeAddresses) add(list []ma.Multiaddr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range list {
		if len(f.list) >= freeAddressesMax {
			clear(f.list) // they come again with the next announcement
		}
		f.list[string(a.Bytes())] = true
	}
}

func (f *freeAddresses) has(a ma.Multiaddr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.list[string(a.Bytes())]
}

// sendBufferBytes keeps the kernel from queueing more than the window.
const sendBufferBytes = 16 << 10

func newSlowTCP(m *Meter, free *freeAddresses) func(transport.Upgrader, network.ResourceManager) (*slowTCP, error) {
	return func(u transport.Upgrader, limits network.ResourceManager) (*slowTCP, error) {
		t, err := tcp.NewTCPTransport(u, limits, nil, tcp.WithConnectionTimeout(tcpTimeout), tcp.DisableReuseport())
		if err != nil {
			return nil, err
		}
		return &slowTCP{TcpTransport: t, upgrader: u, limits: limits, meter: m, free: free}, nil
	}
}

// DialWithUpdates implements transport.DialUpdater without updates.
func (t *slowTCP) DialWithUpdates(ctx context.Context, a ma.Multiaddr, p peer.ID, _ chan<- transport.DialUpdate) (transport.CapableConn, error) {
	return t.Dial(ctx, a, p)
}

// Dial implements transport.Transport.
func (t *slowTCP) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if ok, _, _ := network.GetSimultaneousConnect(ctx); ok { // who begins is not decided
		return t.TcpTransport.Dial(ctx, a, p)
	}
	scope, err := t.limits.OpenConnection(network.DirOutbound, true, a)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", p.ShortString(), err)
	}
	c, err := t.dial(ctx, a, p, scope)
	if err != nil {
		scope.Done()
		return nil, fmt.Errorf("dialling %s: %w", p.ShortString(), err)
	}
	return c, nil
}

func (t *slowTCP) dial(ctx context.Context, a ma.Multiaddr, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	connect, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	pays := t.meter != nil && !t.free.has(a)
	d := manet.Dialer{Dialer: net.Dialer{KeepAlive: keepAlive}}
	if pays {
		d.Dialer.KeepAlive = -1
		t.meter.count(openingBytes/2, openingBytes/2)
	}
	c, err := d.DialContext(connect, a)
	if err != nil {
		return nil, err
	}
	if b, ok := c.(interface{ SetWriteBuffer(int) error }); ok && pays {
		_ = b.SetWriteBuffer(sendBufferBytes) // where it is refused the larger buffer works too, and urgent records wait longer
	}
	if pays {
		c = &paidConn{c, t.meter}
	}
	return t.upgrader.Upgrade(ctx, t, newEagerConn(c), network.DirOutbound, p, scope)
}

// paidConn counts what goes over a connection.
type paidConn struct {
	manet.Conn
	meter *Meter
}

func (c *paidConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.meter.add(n, false)
	return n, err
}

func (c *paidConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.meter.add(n, true)
	return n, err
}
