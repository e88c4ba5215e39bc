package peersync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/healthpost/healthpost/record"
)

// Two boxes that met through a hub try to do without it (libp2p's DCUtR, over
// QUIC): each learns from a hub under which address its QUIC socket is seen from
// outside, tells the other through the relay, and both dial at the same time. Where
// that works the relayed connection ends and sessions go on over the direct one;
// where it does not, nothing changes. Boxes that pay for their link, and those that
// do not listen on QUIC, stay with the relay.
//
// SeenProtocol is the question to a hub: the answer is the address of the asking
// side, as a multiaddr in bytes, to the end of the stream.
const SeenProtocol protocol.ID = "/healthpost/seen/1"

const (
	seenBytesMax = 128
	seenTimeout  = 10 * time.Second
	seenFresh    = 20 * time.Second // a router forgets an address after half a minute of silence
	seenHubsMax  = 2
	punchTimeout = 15 * time.Second
	partAfter    = time.Second // from a relay, once a direct connection stands
)

// answerSeen tells a member where its connection comes from.
func (b *Host) answerSeen(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(seenTimeout)) // a stream that is gone needs none
	if !b.gate.member(s.Conn().RemotePeer()) {
		_ = s.Reset() // nobody is owed an answer here
		return
	}
	if _, err := s.Write(s.Conn().RemoteMultiaddr().Bytes()); err != nil {
		_ = s.Reset() // as above
		return
	}
	_ = s.Close() // the asking side reads to the end, which also a reset is
}

// AskSeen asks a hub at a QUIC address, on a connection of its own, where this
// box's QUIC socket is seen.
func (b *Host) AskSeen(ctx context.Context, hub peer.ID, at ma.Multiaddr) (ma.Multiaddr, error) {
	ctx, cancel := context.WithTimeout(ctx, seenTimeout)
	defer cancel()
	n, ok := b.h.Network().(interface {
		TransportForDialing(ma.Multiaddr) transport.Transport
	})
	if !ok {
		return nil, errors.New("asking for the address seen: no transports")
	}
	t := n.TransportForDialing(at)
	if t == nil {
		return nil, fmt.Errorf("asking for the address seen: %w", ErrNoPeer)
	}
	c, err := t.Dial(ctx, at, hub)
	if err != nil {
		return nil, fmt.Errorf("asking for the address seen: %w", err)
	}
	a, err := readSeen(ctx, c)
	if err := errors.Join(err, c.Close()); err != nil {
		return nil, fmt.Errorf("asking for the address seen: %w", err)
	}
	return a, nil
}

func readSeen(ctx context.Context, c transport.CapableConn) (ma.Multiaddr, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.SetDeadline(time.Now().Add(seenTimeout)); err != nil {
		return nil, err
	}
	if err := multistream.SelectProtoOrFail(SeenProtocol, s); err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(s, seenBytesMax))
	if err != nil {
		return nil, err
	}
	a, err := ma.NewMultiaddrBytes(raw)
	if err != nil {
		return nil, err
	}
	if !overQUIC(a) || relayed(a) {
		return nil, errors.New("the answer is no address of this socket")
	}
	return a, nil
}

func overQUIC(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_QUIC_V1)
	return err == nil
}

// puncher knows where this box's QUIC socket can be reached.
type puncher struct {
	host *Host
	ctx  context.Context
	hubs func() []peer.AddrInfo // with QUIC addresses, of sessions that stand

	mu   sync.Mutex // guards what follows
	seen []ma.Multiaddr
	at   time.Time
}

// punch tries to part from relays until the result is closed; nil when this box
// takes no part.
func (b *Host) punch(ctx context.Context, hubs func() []peer.AddrInfo) (io.Closer, error) {
	ids, ok := b.h.(interface{ IDService() identify.IDService })
	if !b.relays || !ok || !slices.ContainsFunc(b.h.Network().ListenAddresses(), overQUIC) {
		return io.NopCloser(nil), nil
	}
	p := &puncher{host: b, ctx: ctx, hubs: hubs}
	s, err := holepunch.NewService(b.h, ids.IDService(), p.addresses, holepunch.DirectDialTimeout(punchTimeout))
	if err != nil {
		return nil, fmt.Errorf("starting to part from relays: %w", err)
	}
	return s, nil
}

// addresses are asked for when a relayed connection stands, and once at the start.
func (p *puncher) addresses() []ma.Multiaddr {
	own, err := p.host.h.Network().InterfaceListenAddresses()
	if err != nil {
		return nil // without addresses nothing is tried
	}
	own = slices.DeleteFunc(own, func(a ma.Multiaddr) bool { return !overQUIC(a) })
	if !slices.ContainsFunc(p.host.h.Network().Conns(), func(c network.Conn) bool { return relayed(c.RemoteMultiaddr()) }) {
		return own
	}
	for _, a := range p.outside() {
		if !slices.ContainsFunc(own, a.Equal) {
			own = append(own, a)
		}
	}
	return own
}

// outside asks hubs, unless it did a moment ago.
func (p *puncher) outside() []ma.Multiaddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) < seenFresh {
		return p.seen
	}
	p.seen, p.at = nil, time.Now()
	hubs := p.hubs()
	for _, hub := range hubs[:min(len(hubs), seenHubsMax)] {
		for _, at := range hub.Addrs {
			if a, err := p.host.AskSeen(p.ctx, hub.ID, at); err == nil {
				p.seen = append(p.seen, a)
				break // a hub that does not tell is as good as none
			}
		}
	}
	return p.seen
}

// partFromRelay ends relayed connections to a peer to which a direct one stands.
// Sessions on them are opened again on that.
func (b *Host) partFromRelay(direct network.Conn) {
	if relayed(direct.RemoteMultiaddr()) {
		return
	}
	for _, c := range b.h.Network().ConnsToPeer(direct.RemotePeer()) {
		if !relayed(c.RemoteMultiaddr()) {
			continue
		}
		b.mu.Lock()
		if b.timers[c] == nil {
			b.timers[c] = time.AfterFunc(partAfter, func() { _ = c.Close() }) // it may have gone by itself
		}
		b.mu.Unlock()
	}
}

// direct reports whether a connection to a device stands that leads through no hub.
func (b *Host) direct(d record.DeviceID) bool {
	id, err := PeerID(d)
	return err == nil && slices.ContainsFunc(b.h.Network().ConnsToPeer(id), func(c network.Conn) bool { return !relayed(c.RemoteMultiaddr()) })
}

// quicHubs are the hubs with a session that stands, where they listen on QUIC.
func (l *Links) quicHubs() []peer.AddrInfo {
	l.mu.Lock()
	met := l.hubsMetLocked()
	l.mu.Unlock()
	var out []peer.AddrInfo
	for _, h := range l.o.Hubs() {
		id, err := PeerID(h.Device)
		if err != nil || !slices.Contains(met, id) {
			continue
		}
		addresses, err := dialable(h.Device, h.Addresses)
		if err != nil {
			continue
		}
		addresses = slices.DeleteFunc(addresses, func(a ma.Multiaddr) bool { return !overQUIC(a) })
		if len(addresses) > 0 {
			out = append(out, peer.AddrInfo{ID: id, Addrs: addresses})
		}
	}
	return out
}
