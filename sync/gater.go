package peersync

import (
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
)

// strangersMax bounds connections of devices that are not members, while an
// invitation is open.
const strangersMax = 8

// gater admits members only. The refused side may still see its dial succeed:
// only the other side's HELLO says that it was admitted.
type gater struct {
	allow     func(record.DeviceID) bool
	strangers func() bool
	off       atomic.Bool // the link is cut here

	mu    sync.Mutex // guards what follows
	asked map[peer.ID]int
	guest map[network.Conn]bool
}

func newGater(allow func(record.DeviceID) bool, strangers func() bool) *gater {
	if allow == nil {
		allow = func(record.DeviceID) bool { return false }
	}
	if strangers == nil {
		strangers = func() bool { return false }
	}
	return &gater{allow: allow, strangers: strangers, asked: map[peer.ID]int{}, guest: map[network.Conn]bool{}}
}

func (g *gater) member(p peer.ID) bool {
	d, err := DeviceOf(p)
	return err == nil && g.allow(d)
}

// joining lets this box dial a hub whose member it is not yet.
func (g *gater) joining(p peer.ID, change int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked[p] += change; g.asked[p] <= 0 {
		delete(g.asked, p)
	}
}

func (g *gater) wanted(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[p] > 0
}

func (g *gater) InterceptPeerDial(p peer.ID) bool {
	return !g.off.Load() && (g.member(p) || g.wanted(p))
}

func (g *gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return !g.off.Load() }

func (g *gater) InterceptAccept(network.ConnMultiaddrs) bool { return !g.off.Load() }

func (g *gater) InterceptSecured(dir network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	switch {
	case g.off.Load():
		return false
	case g.member(p):
		return true
	case dir == network.DirOutbound:
		return g.wanted(p)
	}
	return g.strangers() && g.guests() < strangersMax
}

func (g *gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (g *gater) guests() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.guest)
}

// enter counts an inbound connection of a stranger; true when it is one.
func (g *gater) enter(c network.Conn) bool {
	if c.Stat().Direction == network.DirOutbound || g.member(c.RemotePeer()) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.guest[c] = true
	return true
}

func (g *gater) leave(c network.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.guest, c)
}
