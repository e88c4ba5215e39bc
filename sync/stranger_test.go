package peersync_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// tcpOf is where a box listens, as host:port.
func (b *box) tcpOf(t *testing.T) string {
	t.Helper()
	parts := strings.Split(b.address(t).Addresses[0], "/") // /ip4/127.0.0.1/tcp/PORT/p2p/ID
	return net.JoinHostPort(parts[2], parts[4])
}

// Somebody at another address connects as fast as he can; a member gets in all the same.
func TestAFloodOfStrangersLeavesRoomForMembers(t *testing.T) {
	w := newWorld(t, 71, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	var dials atomic.Int64
	var flood sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer flood.Wait()
	defer stop()
	stranger := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	drained := make(chan struct{})
	for range 4 {
		flood.Go(func() {
			for ctx.Err() == nil {
				c, err := stranger.DialContext(ctx, "tcp", hub.tcpOf(t))
				if dials.Add(1) == 600 {
					close(drained)
				}
				if err == nil {
					c.Close()
				}
			}
		})
	}
	<-drained // thrice what the hub takes at once from everybody
	w.save(w.clinics[0], record.LaneClinical, 3)
	c := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
	within, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := c.links.SyncNow(within, hub.self); err != nil {
		t.Errorf("a member's exchange during %d dials by strangers: %v", dials.Load(), err)
	}
}

// recorder relays connections to a box and keeps what went to it.
type recorder struct {
	net.Listener
	mu   sync.Mutex
	sent [][]byte // by connection; guarded by mu
	work sync.WaitGroup
}

func newRecorder(t *testing.T, to string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Listener: l}
	r.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			r.work.Go(func() { io.Copy(c, d); c.Close() })
			r.work.Go(func() {
				var b bytes.Buffer
				io.Copy(io.MultiWriter(d, &b), c)
				d.Close()
				r.mu.Lock()
				defer r.mu.Unlock()
				r.sent = append(r.sent, b.Bytes())
			})
		}
	})
	return r
}

// A whole session that somebody recorded is worth nothing: sent again, as often as he likes, it leads to no
// session, and nothing at the hub changes.
func TestARecordedSessionIsWorthNothing(t *testing.T) {
	w := newWorld(t, 72, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	r := newRecorder(t, hub.tcpOf(t))
	through := peersync.Address{Device: hub.self, Addresses: []string{"/ip4/127.0.0.1/tcp/" + portOf(r)}}
	w.save(w.clinics[0], record.LaneClinical, 4)
	h, err := peersync.NewHost(peersync.HostOptions{Key: w.clinics[0].key, Allow: w.member})
	if err != nil {
		t.Fatal(err)
	}
	links := peersync.NewLinks(h, w.clinics[0].memory, peersync.LinksOptions{Session: w.options(w.clinics[0].memory), Hubs: fixed(through), Allow: w.member})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- links.Run(run) }()
	_, syncErr := links.SyncNow(ctx, hub.self)
	until(t, "the records at the hub", func() bool { return len(w.hub.allPending()) >= 4 })
	stop()
	if err := errors.Join(syncErr, <-done, h.Close()); err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.work.Wait()
	until(t, "the session's end", func() bool { return len(hub.host.Libp2p().Network().Conns()) == 0 })
	before := hub.sum()
	for _, sent := range r.sent {
		for range 3 {
			c, err := net.Dial("tcp", hub.tcpOf(t))
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(waitMax))
			c.Write(sent) // the hub may end it half-way
			got, err := io.ReadAll(c)
			c.Close()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the hub keeps the connection of a recorded session")
			}
			if bytes.Contains(got, []byte("healthpost/sync")) {
				t.Error("the hub answers in a recorded session")
			}
		}
	}
	if len(r.sent) == 0 || len(r.sent[0]) < 1000 {
		t.Fatalf("recorded %d connections", len(r.sent))
	}
	if hub.sum() != before || len(hub.host.Libp2p().Network().Conns()) != 0 {
		t.Error("a recorded session changed the hub")
	}
}

// A guest with an open invitation gets an answer to his request to join, and no stream of any other protocol.
func TestAGuestOpensNoOtherProtocol(t *testing.T) {
	w := newWorld(t, 73, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true, AllowStrangers: func() bool { return true }})
	hub.host.HandleJoin(func(context.Context, record.DeviceID, []byte) ([]byte, error) { return []byte("answer"), nil })
	h, err := peersync.NewHost(peersync.HostOptions{Key: deviceKey(79, 's'), Allow: func(record.DeviceID) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := openStream(ctx, h, hub, peersync.SyncProtocol, []byte{1}); err == nil {
		t.Error("a guest got a sync stream")
	}
	served := append(hub.host.Libp2p().Mux().Protocols(), "/ipfs/ping/1.0.0", "/no/such/1")
	if len(served) < 5 {
		t.Fatalf("the hub serves %v", served)
	}
	for _, p := range served { // the relay says in 6 bytes that it does not understand, the others nothing
		if p == peersync.JoinProtocol {
			continue
		}
		s, err := h.Libp2p().NewStream(ctx, hub.host.Libp2p().ID(), p)
		if err != nil {
			continue
		}
		s.SetDeadline(time.Now().Add(waitMax))
		s.Write([]byte("anything"))
		s.CloseWrite()
		got, err := io.ReadAll(s)
		if s.Reset(); len(got) > 8 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: a guest reads %q, %v", p, got, err)
		}
	}
	if got, err := peersync.RequestJoin(ctx, deviceKey(80, 's'), hub.self, hub.address(t).Addresses, []byte("please")); err != nil || string(got) != "answer" {
		t.Errorf("joining: %q, %v", got, err)
	}
}

// A member that opens as many streams as it can, says half of what there is to say and waits, keeps no
// other member from its exchange, and gets no more streams than its share.
func TestOneMemberTakesNoMoreThanItsShare(t *testing.T) {
	w := newWorld(t, 74, 2)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	greedy, err := peersync.NewHost(peersync.HostOptions{Key: w.clinics[0].key, Allow: w.member})
	if err != nil {
		t.Fatal(err)
	}
	defer greedy.Close()
	info := peer.AddrInfo{ID: hub.host.Libp2p().ID(), Addrs: hub.host.Libp2p().Network().ListenAddresses()}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if err := greedy.Libp2p().Connect(ctx, info); err != nil {
		t.Fatal(err)
	}
	open := 0
	for range 600 {
		s, err := greedy.Libp2p().NewStream(network.WithNoDial(ctx, "here already"), info.ID, peersync.SyncProtocol)
		if err != nil {
			break
		}
		s.Write([]byte{0, 0, 1}) // the begin of a frame
		open++
	}
	if inbound := streamsFrom(hub, greedy.Libp2p().ID()); open > 256 || inbound > 256 {
		t.Errorf("the hub keeps %d streams of one member, %d were opened", inbound, open)
	}
	w.save(w.clinics[1], record.LaneClinical, 3)
	c := w.start(t, w.clinics[1].memory, w.clinics[1].key, peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
	if _, err := c.links.SyncNow(ctx, hub.self); err != nil {
		t.Errorf("another member's exchange: %v", err)
	}
}

func streamsFrom(b *box, id peer.ID) (n int) {
	for _, c := range b.host.Libp2p().Network().ConnsToPeer(id) {
		n += len(c.GetStreams())
	}
	return n
}
