package peersync

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// Two boxes that can only dial out meet through a hub (libp2p's circuit relay v2).
// The hub passes bytes of a connection on that the two secured between themselves:
// it sees how much and when, and no more. It relays for members alone. A box asks
// each hub that it has a session with for a place where others may call it. Boxes
// that pay for their link do neither.
//
// AnyHub is the address of a device that is reached in this way, before /p2p/:
// through whichever hub both have a session with.
const AnyHub = "/p2p-circuit"

// Limits of a hub's relay. Sessions are long; what one box may take is bounded.
const (
	relayDuration    = 6 * time.Hour
	relayBytesMax    = 1 << 30 // each way, of one connection
	relayPlaces      = 1024
	relayCircuits    = 8 // of one box
	relayBufferBytes = 8 << 10
	placeTTL         = time.Hour
	placeRetry       = 30 * time.Second
	placeTimeout     = time.Minute
)

// newRelay serves members.
func newRelay(h host.Host, g *gater) (*relay.Relay, error) {
	r, err := relay.New(h, relay.WithACL(members{g}), relay.WithReservationAddressFilter(func(ma.Multiaddr) bool { return true }),
		relay.WithResources(relay.Resources{
			Limit:          &relay.RelayLimit{Duration: relayDuration, Data: relayBytesMax},
			ReservationTTL: placeTTL, MaxReservations: relayPlaces, MaxCircuits: relayCircuits, BufferSize: relayBufferBytes,
			MaxReservationsPerIP: relayPlaces, MaxReservationsPerASN: relayPlaces, // many boxes stand behind one address of a mobile network
		}))
	if err != nil {
		return nil, fmt.Errorf("starting the relay: %w", err)
	}
	return r, nil
}

// members are who may use the relay.
type members struct{ g *gater }

func (m members) AllowReserve(p peer.ID, _ ma.Multiaddr) bool { return m.may(p) }

func (m members) AllowConnect(from peer.ID, _ ma.Multiaddr, to peer.ID) bool {
	return m.may(from) && m.may(to)
}

func (m members) may(p peer.ID) bool { return !m.g.off.Load() && m.g.member(p) }

// place is where others may call this box: a reservation at a hub's relay, which
// lasts as long as the connection it was asked for on, and is asked for again in
// time.
type place struct {
	conn  string
	again time.Time
}

// keepPlaces holds a place at every hub with a session until ctx ends.
func (l *Links) keepPlaces(ctx context.Context) {
	places := map[peer.ID]place{}
	for {
		l.mu.Lock()
		bell := l.bell
		hubs := l.hubsMetLocked()
		l.mu.Unlock()
		wait := placeTTL
		for _, id := range hubs {
			p := l.host.keepPlace(ctx, id, places[id])
			if p.conn != places[id].conn {
				l.look() // others may be called through it now
			}
			places[id] = p
			wait = min(wait, time.Until(p.again))
		}
		again := time.NewTimer(max(wait, time.Second))
		select {
		case <-ctx.Done():
		case <-bell:
		case <-again.C:
		}
		again.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// hubsMetLocked are the hubs with a session that stands.
func (l *Links) hubsMetLocked() []peer.ID {
	var out []peer.ID
	for d, c := range l.contacts {
		if c.live == nil || !c.status.Connected || !l.isHub(d) {
			continue
		}
		if id, err := PeerID(d); err == nil {
			out = append(out, id)
		}
	}
	return out
}

// keepPlace asks a hub for a place when there is none on the connection that
// stands, or when it ends soon.
func (b *Host) keepPlace(ctx context.Context, hub peer.ID, p place) place {
	conns := b.h.Network().ConnsToPeer(hub)
	if len(conns) == 0 || conns[0].ID() == p.conn && time.Now().Before(p.again) {
		return p
	}
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "connected already"), placeTimeout)
	defer cancel()
	p = place{conn: conns[0].ID(), again: time.Now().Add(placeRetry)}
	r, err := client.Reserve(ctx, b.h, peer.AddrInfo{ID: hub})
	if err == nil {
		p.again = time.Now().Add(min(placeTTL, time.Until(r.Expiration)) / 2)
	}
	return p // a hub that gives none is asked again: others may still call through another
}

// circuits are the ways to a device through hubs.
func (l *Links) circuits(to peer.ID) []ma.Multiaddr {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []ma.Multiaddr
	for _, hub := range l.hubsMetLocked() {
		if hub == to {
			continue
		}
		if a, err := ma.NewMultiaddr("/p2p/" + hub.String() + AnyHub); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// hasWayLocked reports whether a device can be dialled now: one that is reached
// through hubs alone cannot before a hub was met.
func (l *Links) hasWayLocked(a Address) bool {
	onlyThrough := len(a.Addresses) > 0 && !slices.ContainsFunc(a.Addresses, func(s string) bool { return !strings.HasPrefix(s, AnyHub+"/") })
	return !onlyThrough || len(l.hubsMetLocked()) > 0
}

// relayed reports whether an address leads through a hub.
func relayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
