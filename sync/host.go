package peersync

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/x/rate"
	yx "github.com/libp2p/go-yamux/v5"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"

	"github.com/healthpost/healthpost/record"
)

// Protocols of this package.
const (
	SyncProtocol  protocol.ID = "/healthpost/sync/1"
	FetchProtocol protocol.ID = "/healthpost/fetch/1" // SyncProtocol's frames, for one ordered range between hubs
	JoinProtocol  protocol.ID = "/healthpost/join/1"
)

// Times that fit links with a round trip of 800 ms.
const (
	dialTimeout      = 60 * time.Second
	tcpTimeout       = 20 * time.Second
	hubDialTimeout   = 10 * time.Second  // between hubs, where a handshake takes four round trips
	writeTimeout     = 180 * time.Second // of the multiplexer, per frame of at most 8 KiB
	keepAlive        = 2 * time.Minute
	strangerLifetime = 2 * time.Minute
)

// HostOptions say how this box is reached. Key is the device's.
type HostOptions struct {
	Key    ed25519.PrivateKey
	Listen []string // multiaddrs; none for a box that only dials
	// Hub raises the limits for many boxes, also behind one address.
	Hub bool
	// Meter counts what this box pays for; nil for a link that costs nothing. With
	// one hubs are dialled over TCP alone, and nothing keeps idle connections alive.
	Meter *Meter
	// Prompt names peers to which every message goes at once, not with what comes
	// within two milliseconds: hubs name each other. nil: none.
	Prompt func(record.DeviceID) bool
	// Allow admits members. AllowStrangers, while it answers true, lets others in
	// for the join protocol alone, for two minutes each.
	Allow          func(record.DeviceID) bool
	AllowStrangers func() bool
}

func (o HostOptions) metered() bool { return o.Meter != nil }

// relays reports whether this box can be called through hubs, and call others so.
func (o HostOptions) relays() bool { return !o.Hub && !o.metered() }

// Host is this box on the network: libp2p with TCP and QUIC, Noise, circuit relays
// and a multiplexer that survives slow links; nothing else of libp2p runs.
type Host struct {
	h      host.Host
	relay  *relay.Relay // of a hub; else nil
	relays bool         // see HostOptions
	gate   *gater
	device record.DeviceID
	meter  *Meter // nil: nothing is paid for
	free   *freeAddresses

	mu     sync.Mutex
	timers map[network.Conn]*time.Timer // strangers' lifetimes
}

// NewHost listens. Close it.
func NewHost(o HostOptions) (*Host, error) {
	// Without reuse of ports a second box on a taken port fails at its start,
	// instead of getting half of the first one's connections.
	key, err := privateKey(o.Key)
	if err != nil {
		return nil, err
	}
	limits, err := resources(o)
	if err != nil {
		return nil, fmt.Errorf("setting limits: %w", err)
	}
	g, free := newGater(o.Allow, o.AllowStrangers), &freeAddresses{list: map[string]bool{}}
	circuits := libp2p.DisableRelay()
	if o.relays() {
		circuits = libp2p.EnableRelay()
	}
	h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings(o.Listen...),
		libp2p.Transport(newSlowTCP(o.Meter, free)), libp2p.Transport(quic.NewTransport),
		libp2p.Security(noise.ID, noise.New), muxer(o), libp2p.ConnectionGater(g), libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}), libp2p.WithDialTimeout(dialTimeout), libp2p.UserAgent("healthpost"),
		libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return nil }),
		circuits, libp2p.ForceReachabilityPrivate(), libp2p.DisableIdentifyAddressDiscovery(), libp2p.Ping(false), libp2p.DisableMetrics())
	if err != nil {
		limits.Close()
		return nil, fmt.Errorf("starting the network: %w", err)
	}
	b := &Host{h: h, gate: g, device: record.DeviceID(o.Key.Public().(ed25519.PublicKey)), meter: o.Meter, free: free, relays: o.relays(), timers: map[network.Conn]*time.Timer{}}
	if o.Hub {
		if b.relay, err = newRelay(h, g); err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.SetStreamHandler(SeenProtocol, b.answerSeen)
	}
	h.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { b.connected(c) },
		DisconnectedF: func(_ network.Network, c network.Conn) { b.disconnected(c) },
	})
	return b, nil
}

func muxer(o HostOptions) libp2p.Option {
	c := yx.DefaultConfig()
	c.LogOutput, c.ReadBufSize = io.Discard, 0
	c.MaxStreamWindowSize, c.MaxMessageSize, c.MaxIncomingStreams = 1<<20, 8<<10, 256
	c.EnableKeepAlive, c.KeepAliveInterval, c.MeasureRTTInterval, c.ConnectionWriteTimeout = !o.metered(), keepAlive, 10*time.Minute, writeTimeout
	prompt := func(p peer.ID) bool {
		d, err := DeviceOf(p)
		return err == nil && o.Prompt != nil && o.Prompt(d)
	}
	return libp2p.Muxer(yamux.ID, &gatherMux{(*yamux.Transport)(c), prompt})
}

// resources raises what libp2p would allow one address and one peer; a hub
// serves many clinics behind one address of a mobile network. The exchange of addresses
// that libp2p begins on every connection gets no stream: all that it tells is known
// from the ledger, and it costs more than a session that has nothing new.
func resources(o HostOptions) (network.ResourceManager, error) {
	lim := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&lim)
	mem, fd, perAddress := int64(48<<20), 256, 64
	if o.Hub {
		mem, fd, perAddress = 256<<20, 2048, 512
		lim.SystemBaseLimit.Conns, lim.SystemBaseLimit.ConnsInbound, lim.SystemBaseLimit.ConnsOutbound = 1024, 1024, 1024
		lim.TransientBaseLimit.Conns, lim.TransientBaseLimit.ConnsInbound = 256, 256
	}
	none := rcmgr.ResourceLimits{Streams: rcmgr.BlockAllLimit, StreamsInbound: rcmgr.BlockAllLimit, StreamsOutbound: rcmgr.BlockAllLimit}
	limits := rcmgr.PartialLimitConfig{Protocol: map[protocol.ID]rcmgr.ResourceLimits{identify.ID: none, identify.IDPush: none}}.Build(lim.Scale(mem, fd))
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perAddress}}, []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: perAddress}}),
		rcmgr.WithConnRateLimiters(&rate.Limiter{GlobalLimit: rate.Limit{RPS: 20, Burst: 200}, SubnetRateLimiter: rate.SubnetLimiter{ // who floods leaves room for others
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: oneAddress}}, IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: oneAddress}},
			GracePeriod: time.Minute}}))
}

// oneAddress is how fast connections may come from one address, behind which many clinics can be.
var oneAddress = rate.Limit{RPS: 15, Burst: 150}

// Libp2p is the host itself, for the other protocols of this box.
func (b *Host) Libp2p() host.Host { return b.h }

// Device is this box.
func (b *Host) Device() record.DeviceID { return b.device }

// Addresses are the multiaddrs this box listens on, with /p2p/ at the end.
func (b *Host) Addresses() ([]string, error) {
	listen, err := b.h.Network().InterfaceListenAddresses()
	if err != nil {
		return nil, fmt.Errorf("reading listen addresses: %w", err)
	}
	list := make([]string, 0, len(listen))
	for _, a := range listen {
		if relayed(a) {
			continue
		}
		list = append(list, a.String()+"/p2p/"+b.h.ID().String())
	}
	return list, nil
}

// Close ends all connections.
func (b *Host) Close() error {
	b.mu.Lock()
	for c, t := range b.timers {
		t.Stop()
		delete(b.timers, c)
	}
	b.mu.Unlock()
	if b.relay != nil {
		return errors.Join(b.relay.Close(), b.h.Close())
	}
	return b.h.Close()
}

func (b *Host) connected(c network.Conn) {
	b.partFromRelay(c)
	if !b.gate.enter(c) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timers[c] = time.AfterFunc(strangerLifetime, func() {
		if !b.gate.member(c.RemotePeer()) { // it may have joined meanwhile
			_ = c.Close()
		}
	})
}

func (b *Host) disconnected(c network.Conn) {
	b.gate.leave(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.timers[c]; t != nil {
		t.Stop()
		delete(b.timers, c)
	}
}

// setLink cuts or mends this box's connection to all others.
func (b *Host) setLink(on bool) {
	b.gate.off.Store(!on)
	if on {
		return
	}
	for _, p := range b.h.Network().Peers() {
		_ = b.h.Network().ClosePeer(p)
	}
}

// connect dials a device: TCP first on links to hubs, QUIC first on the LAN, and
// last through hubs, where circuits gives the ways. A nil error does not mean that
// the other side admits this one.
func (b *Host) connect(ctx context.Context, d record.DeviceID, addresses []ma.Multiaddr, lan bool, circuits func(peer.ID) []ma.Multiaddr) (peer.ID, error) {
	id, err := PeerID(d)
	if err != nil {
		return "", err
	}
	switch b.h.Network().Connectedness(id) {
	case network.Connected, network.Limited:
		return id, nil
	}
	var stream, quics, through []ma.Multiaddr
	for _, a := range addresses {
		if a.String() == AnyHub && circuits != nil {
			through = append(through, circuits(id)...)
		} else if relayed(a) {
			through = append(through, a)
		} else if _, err := a.ValueForProtocol(ma.P_UDP); err == nil {
			quics = append(quics, a)
		} else {
			stream = append(stream, a)
		}
	}
	groups := [][]ma.Multiaddr{stream, quics}
	switch {
	case lan:
		b.free.add(stream)
		slices.Reverse(groups)
	case b.meter != nil && len(stream) > 0:
		groups = groups[:1] // QUIC is not counted, and costs more
	}
	if b.relays {
		groups = append(groups, through)
	}
	err = ErrNoPeer
	for _, g := range groups {
		if len(g) == 0 {
			continue
		}
		b.h.Peerstore().ClearAddrs(id)
		b.h.Peerstore().SetAddrs(id, g, peerstore.TempAddrTTL)
		if s, ok := b.h.Network().(*swarm.Swarm); ok { // who calls here has waited as long as it wants to
			s.Backoff().Clear(id)
		}
		if _, err = b.h.Network().DialPeer(ctx, id); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil && !errors.Is(err, ErrNoPeer) {
		err = fmt.Errorf("dialling %s: %w", d.Short(), err)
	}
	return id, err
}

// pays reports whether this box pays for a connection: it dialled it, and not to a
// neighbour on the LAN.
func (b *Host) pays(c network.Conn) bool {
	return b.meter != nil && c.Stat().Direction == network.DirOutbound && !b.free.has(c.RemoteMultiaddr())
}

// stream opens a stream on a connection that stands, without waiting for
// anything from the other side: the first bytes travel with the negotiation.
func (b *Host) stream(ctx context.Context, id peer.ID, p protocol.ID) (*stream, error) {
	ctx = network.WithAllowLimitedConn(network.WithNoDial(ctx, "connected already"), "hubs relay for sessions")
	s, err := b.h.Network().NewStream(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("opening stream: %w", err)
	}
	if err := s.SetProtocol(p); err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("opening stream: %w", err)
	}
	return &stream{Stream: s, lazy: multistream.NewMSSelect(s, p)}, nil
}

// stream is a libp2p stream whose protocol is settled on first use.
type stream struct {
	network.Stream
	lazy multistream.LazyConn // nil on the accepting side
}

func (s *stream) Read(p []byte) (int, error) {
	if s.lazy != nil {
		return s.lazy.Read(p)
	}
	return s.Stream.Read(p)
}

func (s *stream) Write(p []byte) (int, error) {
	if s.lazy != nil {
		return s.lazy.Write(p)
	}
	return s.Stream.Write(p)
}

// Close ends both directions and lets go of a reader and a writer that wait.
func (s *stream) Close() error {
	_ = s.SetDeadline(time.Now())
	if err := s.Stream.Close(); err != nil {
		return s.Reset()
	}
	return nil
}
