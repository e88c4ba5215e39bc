package peersync

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/healthpost/healthpost/record"
)

// lanService is the name under which boxes look for each other on a local
// network (RFC 6762, RFC 6763).
const lanService = "_healthpost._udp"

const (
	lanLookEvery   = 30 * time.Second // at the interfaces
	lanAddresses   = 16               // kept of one neighbour
	lanNeighbours  = 64               // kept at all
	neighbourTTL   = 10 * time.Minute // since it was heard of
	interfacesSeen = 256
)

// announcer is the host as mDNS sees it: with its listen addresses, which the
// host tells nobody else.
type announcer struct{ host.Host }

func (a announcer) Addrs() []ma.Multiaddr {
	list, err := a.Network().InterfaceListenAddresses()
	if err != nil {
		return nil
	}
	return list
}

// found receives what mDNS hears.
type found func(record.DeviceID, []ma.Multiaddr)

func (f found) HandlePeerFound(info peer.AddrInfo) {
	d, err := DeviceOf(info.ID)
	if err != nil {
		return
	}
	near := slices.DeleteFunc(slices.Clone(info.Addrs), func(a ma.Multiaddr) bool { return !nearby(a) })
	if len(near) > 0 {
		f(d, near[:min(len(near), lanAddresses)])
	}
}

// nearby keeps an answer from the network from sending this box elsewhere.
func nearby(a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	return err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast())
}

// listenLAN announces this box and looks for others until the context ends. The
// service reads the interfaces once, so it starts anew when they change.
func listenLAN(ctx context.Context, h host.Host, f found) {
	tick := time.NewTicker(lanLookEvery)
	defer tick.Stop()
	var service mdns.Service
	seen := ""
	for {
		if now := interfaces(); now != seen || service == nil {
			if service != nil {
				_ = service.Close()
			}
			seen, service = now, startLAN(h, f)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if service != nil {
				_ = service.Close()
			}
			return
		}
	}
}

// startLAN gives nil when no interface can do it yet.
func startLAN(h host.Host, f found) mdns.Service {
	s := mdns.NewMdnsService(announcer{h}, lanService, f)
	if err := s.Start(); err != nil {
		_ = s.Close()
		return nil
	}
	return s
}

func interfaces() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "unknown"
	}
	list := make([]string, 0, len(addrs))
	for _, a := range addrs[:min(len(addrs), interfacesSeen)] {
		list = append(list, a.String())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}
