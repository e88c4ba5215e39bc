package peersync_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// meteredCable passes TCP to an address and counts payload bytes and reads.
type meteredCable struct {
	listener net.Listener
	to       string
	bytes    [2]atomic.Int64 // from who dialled, and to it
	wg       sync.WaitGroup
}

func layMetered(t *testing.T, to string) *meteredCable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &meteredCable{listener: l, to: to}
	c.wg.Go(c.accept)
	t.Cleanup(func() { l.Close(); c.wg.Wait() })
	return c
}

func (c *meteredCable) accept() {
	for {
		near, err := c.listener.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", c.to)
		if err != nil {
			near.Close()
			continue
		}
		for i, ends := range [2][2]net.Conn{{far, near}, {near, far}} {
			c.wg.Go(func() {
				io.Copy(ends[0], &countedReader{ends[1], &c.bytes[i]}) // either box may end the connection
				near.Close()
				far.Close()
			})
		}
	}
}

type countedReader struct {
	io.Reader
	n *atomic.Int64
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}

// TestColdContactIsSmall counts what one urgent record costs from no connection
// at all: TCP payload of handshake, negotiation and session, both ways.
func TestColdContactIsSmall(t *testing.T) {
	w := newWorld(t, 31, 1)
	c := w.clinics[0]
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	at := hub.address(t)
	info, err := peer.AddrInfoFromString(at.Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	_, to, err := manet.DialArgs(info.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	cable := layMetered(t, to)
	near, err := manet.FromNetAddr(cable.listener.Addr())
	if err != nil {
		t.Fatal(err)
	}
	keep(t, c.memory, c.author.open)
	keep(t, c.memory, c.author.write(record.LaneControl, record.KindClinical, make([]byte, 450)))
	box := w.start(t, c.memory, c.key, peersync.LinksOptions{Hubs: fixed(peersync.Address{Device: at.Device, Addresses: []string{near.String()}})},
		peersync.HostOptions{Metered: true})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := box.links.SyncNow(ctx, at.Device); err != nil {
		t.Fatal(err)
	}
	if got := len(w.hub.allPending()); got != 2 {
		t.Errorf("%d records at the hub, want 2", got)
	}
	up, down := cable.bytes[0].Load(), cable.bytes[1].Load()
	t.Logf("%d B up, %d B down", up, down)
	if up+down > coldBytesMax {
		t.Errorf("one record from cold took %d B up and %d B down, want %d together at most", up, down, coldBytesMax)
	}
}

// coldBytesMax leaves 2 kB of the 5 kB that a cold contact may cost for the headers
// of some 35 packets.
const coldBytesMax = 3000
