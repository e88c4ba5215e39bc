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

// paidTCP is TCP whose outgoing connections are counted and send nothing to keep
// themselves alive, but for those to addresses that cost nothing.
type paidTCP struct {
	*tcp.TcpTransport
	upgrader transport.Upgrader
	limits   network.ResourceManager
	meter    *Meter
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

func newPaidTCP(m *Meter, free *freeAddresses) func(transport.Upgrader, network.ResourceManager) (*paidTCP, error) {
	return func(u transport.Upgrader, limits network.ResourceManager) (*paidTCP, error) {
		t, err := tcp.NewTCPTransport(u, limits, nil, tcp.WithConnectionTimeout(tcpTimeout), tcp.DisableReuseport())
		if err != nil {
			return nil, err
		}
		return &paidTCP{TcpTransport: t, upgrader: u, limits: limits, meter: m, free: free}, nil
	}
}

// DialWithUpdates implements transport.DialUpdater without updates.
func (t *paidTCP) DialWithUpdates(ctx context.Context, a ma.Multiaddr, p peer.ID, _ chan<- transport.DialUpdate) (transport.CapableConn, error) {
	return t.Dial(ctx, a, p)
}

// Dial implements transport.Transport.
func (t *paidTCP) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if t.free.has(a) {
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

func (t *paidTCP) dial(ctx context.Context, a ma.Multiaddr, p peer.ID, scope network.ConnManagementScope) (transport.CapableConn, error) {
	if err := scope.SetPeer(p); err != nil {
		return nil, err
	}
	connect, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	t.meter.count(openingBytes/2, openingBytes/2)
	d := manet.Dialer{Dialer: net.Dialer{KeepAlive: -1}}
	c, err := d.DialContext(connect, a)
	if err != nil {
		return nil, err
	}
	if b, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
		_ = b.SetWriteBuffer(sendBufferBytes) // a larger buffer only makes urgent records wait
	}
	return t.upgrader.Upgrade(ctx, t, &paidConn{c, t.meter}, network.DirOutbound, p, scope)
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
