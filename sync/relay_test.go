package peersync_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// throughAnyHub is how a box is dialled that nobody can reach.
func throughAnyHub(t *testing.T, d record.DeviceID) peersync.Address {
	t.Helper()
	id, err := peersync.PeerID(d)
	if err != nil {
		t.Fatal(err)
	}
	return peersync.Address{Device: d, Addresses: []string{peersync.AnyHub + "/p2p/" + id.String()}}
}

func (b *box) peer(d record.DeviceID) (peersync.PeerStatus, bool) {
	for _, p := range b.links.Peers() {
		if p.Device == d {
			return p, true
		}
	}
	return peersync.PeerStatus{}, false
}

// Two boxes behind the network of an operator accept no calls.
func TestClinicsThatOnlyDialOutMeetThroughAHub(t *testing.T) {
	w := newWorld(t, 10, 2)
	w.save(w.clinics[0], record.LaneClinical, 5)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	hubs := fixed(hub.address(t))
	nowhere := peersync.HostOptions{Listen: []string{}}
	a := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: hubs}, nowhere)
	b := w.start(t, w.clinics[1].memory, w.clinics[1].key, peersync.LinksOptions{Hubs: hubs, Neighbours: fixed(throughAnyHub(t, a.self))}, nowhere)
	until(t, "a session of the two", func() bool {
		p, ok := b.peer(a.self)
		return ok && p.Connected && p.Settled
	})
	if p, _ := b.peer(a.self); !strings.Contains(p.Address, peersync.AnyHub) {
		t.Errorf("they met at %s, want through the hub", p.Address)
	}
	until(t, "same records", func() bool { return a.sum() == b.sum() })
}

func TestAHubRelaysForMembersAlone(t *testing.T) {
	w := newWorld(t, 4, 2)
	var revoked atomic.Bool
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true,
		Allow: func(d record.DeviceID) bool { return w.member(d) && !(revoked.Load() && d == w.clinics[1].self) }, AllowStrangers: func() bool { return true }})
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	reserve := func(key ed25519.PrivateKey) error {
		h, err := peersync.NewHost(peersync.HostOptions{Key: key, Listen: []string{}, Allow: func(record.DeviceID) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		info, err := peer.AddrInfoFromString(hub.address(t).Addresses[0])
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), waitMax)
		defer cancel()
		_, err = client.Reserve(ctx, h.Libp2p(), *info)
		return err
	}
	if err := reserve(foreign); err == nil || !strings.Contains(err.Error(), "PERMISSION_DENIED") {
		t.Errorf("a stranger: %v, want that it is denied", err)
	}
	if err := reserve(w.clinics[1].key); err != nil {
		t.Errorf("a member: %v", err)
	}
	revoked.Store(true)
	if err := reserve(w.clinics[1].key); err == nil {
		t.Error("a member that was revoked has a place")
	}
}

func TestAMeteredBoxUsesNoRelay(t *testing.T) {
	w := newWorld(t, 4, 2)
	h, err := peersync.NewHost(peersync.HostOptions{Key: w.clinics[0].key, Listen: []string{}, Meter: counter(t, 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, a := range h.Libp2p().Network().ListenAddresses() {
		if strings.Contains(a.String(), peersync.AnyHub) {
			t.Errorf("it listens on %s", a)
		}
	}
}

// Two boxes that could reach each other, if they knew where, part from the hub that
// brought them together.
func TestClinicsPartFromTheRelay(t *testing.T) {
	w := newWorld(t, 10, 2)
	both := []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true, Listen: both})
	hubs, onQUIC := fixed(hub.address(t)), peersync.HostOptions{Listen: both[1:]}
	a := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: hubs}, onQUIC)
	b := w.start(t, w.clinics[1].memory, w.clinics[1].key, peersync.LinksOptions{Hubs: hubs, Neighbours: fixed(throughAnyHub(t, a.self))}, onQUIC)
	until(t, "a direct session of the two", func() bool {
		p, ok := b.peer(a.self)
		return ok && p.Connected && strings.HasSuffix(p.Address, "/quic-v1")
	})
}

func TestAHubTellsMembersWhereTheyAreSeen(t *testing.T) {
	w := newWorld(t, 4, 2)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, AllowStrangers: func() bool { return true }})
	info, err := peer.AddrInfoFromString(hub.address(t).Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name string
		key  ed25519.PrivateKey
		told bool
	}{{"a member", w.clinics[0].key, true}, {"a stranger", foreign, false}} {
		h, err := peersync.NewHost(peersync.HostOptions{Key: x.key, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}, Allow: func(record.DeviceID) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		own, err := h.Addresses()
		if err != nil {
			t.Fatal(err)
		}
		seen, err := h.AskSeen(t.Context(), info.ID, info.Addrs[0])
		if told := err == nil && strings.HasPrefix(own[0], seen.String()+"/p2p/"); told != x.told {
			t.Errorf("%s on %s: got %v, %v", x.name, own[0], seen, err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}
