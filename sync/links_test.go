package peersync_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// box is a replica with a real host on loopback.
type box struct {
	*memory
	host  *peersync.Host
	links *peersync.Links
}

const waitMax = 2 * time.Minute

// member admits the devices of a world.
func (w *world) member(d record.DeviceID) bool {
	if d == w.hub.self {
		return true
	}
	for _, c := range w.clinics {
		if c.self == d {
			return true
		}
	}
	return false
}

// start gives a replica a host and keeps sessions with hubs and neighbours.
func (w *world) start(t *testing.T, m *memory, key ed25519.PrivateKey, o peersync.LinksOptions, ho peersync.HostOptions) *box {
	t.Helper()
	ho.Key = key
	if ho.Listen == nil {
		ho.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	}
	if ho.Allow == nil {
		ho.Allow = w.member
	}
	h, err := peersync.NewHost(ho)
	if err != nil {
		t.Fatal(err)
	}
	o.Session, o.Log = w.options(m), zerolog.Nop()
	if o.Allow == nil {
		o.Allow = w.member
	}
	b := &box{memory: m, host: h, links: peersync.NewLinks(h, m, o)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.links.Run(ctx) }()
	until(t, "the box to take streams", func() bool { return slices.Contains(h.Libp2p().Mux().Protocols(), peersync.SyncProtocol) })
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("keeping links: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("closing host: %v", err)
		}
	})
	return b
}

func (b *box) address(t *testing.T) peersync.Address {
	t.Helper()
	list, err := b.host.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	return peersync.Address{Device: b.self, Addresses: list}
}

func fixed(list ...peersync.Address) func() []peersync.Address {
	return func() []peersync.Address { return list }
}

// until waits for a condition that changes of the replicas bring about.
func until(t *testing.T, what string, ok func() bool, ms ...*memory) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, waitMax)
		}
	}
}

func TestClinicsOnLoopbackWithoutHub(t *testing.T) {
	w := newWorld(t, 10, 2)
	w.save(w.clinics[0], record.LaneClinical, 5)
	w.save(w.clinics[1], record.LaneClinical, 6)
	a := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{}, peersync.HostOptions{Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}})
	b := w.start(t, w.clinics[1].memory, w.clinics[1].key, peersync.LinksOptions{Neighbours: fixed(a.address(t))}, peersync.HostOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	status, err := b.links.SyncNow(ctx, a.self)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "same records", func() bool { return a.sum() == b.sum() })
	if got := len(a.allPending()); got != 13 {
		t.Errorf("%d pending records, want 13", got)
	}
	if !status.Connected || status.Sent != 7 || status.Role != "clinic" || !strings.Contains(status.Address, "127.0.0.1") {
		t.Errorf("status %+v", status)
	}
	w.save(w.clinics[0], record.LaneControl, 1) // live, without another dial
	until(t, "live record", func() bool { return a.sum() == b.sum() })
}

func TestClinicAndHubLive(t *testing.T) {
	w := newWorld(t, 11, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	c := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t)), HubsWanted: 1}, peersync.HostOptions{})
	for range 3 {
		w.save(w.clinics[0], record.LaneClinical, 1)
		whole := len(c.allPending()) // the opening record of an epoch travels in a frame of its own
		until(t, "pushed", func() bool { return len(w.hub.allPending()) == whole })
		w.orderAll()
		until(t, "confirmed", func() bool { return c.Head() == hub.Head() && len(c.allPending()) == 0 })
	}
	note, head, ok := c.Final()
	if !ok || len(note) == 0 || head != hub.Head() {
		t.Errorf("final checkpoint of size %d, want %d", head.Size, hub.Head().Size)
	}
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if status, err := c.links.SyncNow(ctx, record.DeviceID{}); err != nil || !status.Settled || !status.Hub {
		t.Errorf("status %+v, %v", status, err)
	}
}

func TestStrangerIsRefused(t *testing.T) {
	w := newWorld(t, 12, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	stranger := newMemory(deviceOf(deviceKey(77, 's')))
	s := w.start(t, stranger, deviceKey(77, 's'), peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := s.links.SyncNow(ctx, hub.self); !errors.Is(err, peersync.ErrNoPeer) {
		t.Errorf("syncing as a stranger: %v, want ErrNoPeer", err)
	}
	for _, p := range hub.links.Peers() {
		if p.Device == stranger.self {
			t.Errorf("the hub met the stranger: %+v", p)
		}
	}
	if stranger.Head().Size != 0 {
		t.Errorf("the stranger got %d entries", stranger.Head().Size)
	}
}

func TestJoinIsAllThatStrangersCanDo(t *testing.T) {
	w := newWorld(t, 13, 1)
	var open atomic.Bool
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true, AllowStrangers: open.Load})
	hub.host.HandleJoin(func(_ context.Context, d record.DeviceID, request []byte) ([]byte, error) {
		if string(request) == "refuse" {
			return nil, errors.New("no")
		}
		return append([]byte("hello "+d.Short()+" "), request...), nil
	})
	key := deviceKey(78, 's')
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	at := hub.address(t).Addresses
	if _, err := peersync.RequestJoin(ctx, key, hub.self, at, []byte("please")); err == nil {
		t.Error("joined without an invitation")
	}
	open.Store(true)
	got, err := peersync.RequestJoin(ctx, key, hub.self, at, []byte("please"))
	if want := "hello " + deviceOf(key).Short() + " please"; err != nil || string(got) != want {
		t.Errorf("answer %q, %v; want %q", got, err, want)
	}
	if _, err := peersync.RequestJoin(ctx, key, hub.self, at, []byte("refuse")); err == nil {
		t.Error("a refused join succeeded")
	}
	if _, err := peersync.RequestJoin(ctx, key, hub.self, at, make([]byte, 65<<10)); err == nil {
		t.Error("a request above 64 KiB went out")
	}
	// Another stream of the same stranger leads nowhere.
	h, err := peersync.NewHost(peersync.HostOptions{Key: key, Allow: func(record.DeviceID) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := openStream(ctx, h, hub, peersync.SyncProtocol, []byte{1}); err == nil {
		t.Error("a stranger got a sync stream")
	}
}

// openStream opens a raw stream, writes, and gives what comes back until its end.
func openStream(ctx context.Context, h *peersync.Host, to *box, p protocol.ID, write []byte) ([]byte, error) {
	id, err := peersync.PeerID(to.self)
	if err != nil {
		return nil, err
	}
	info, err := peer.AddrInfoFromString(must(to.host.Addresses())[0])
	if err != nil {
		return nil, err
	}
	if err := h.Libp2p().Connect(ctx, *info); err != nil {
		return nil, err
	}
	s, err := h.Libp2p().NewStream(ctx, id, p)
	if err != nil {
		return nil, err
	}
	defer s.Reset()
	if _, err := s.Write(write); err != nil {
		return nil, err
	}
	if err := s.SetReadDeadline(time.Now().Add(waitMax)); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(s, 64<<10)) // until the other side ends it
}

func TestReconnectAfterCut(t *testing.T) {
	w := newWorld(t, 14, 1)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	c := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t)), HubsWanted: 1}, peersync.HostOptions{})
	connected := func() bool {
		p := c.links.Peers()
		return len(p) == 1 && p[0].Connected
	}
	until(t, "first session", connected)
	id, err := peersync.PeerID(c.self)
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.host.Libp2p().Network().ClosePeer(id); err != nil {
		t.Fatal(err)
	}
	w.save(w.clinics[0], record.LaneClinical, 3)
	until(t, "records after a cut", func() bool { return len(w.hub.allPending()) == 4 })

	c.links.SetLink(false)
	until(t, "link down", func() bool { return !connected() })
	if n := len(c.host.Libp2p().Network().Peers()); n != 0 {
		t.Errorf("%d connections with the link cut", n)
	}
	w.save(w.clinics[0], record.LaneClinical, 1)
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := c.links.SyncNow(ctx, hub.self); !errors.Is(err, peersync.ErrNoPeer) {
		t.Errorf("syncing with the link cut: %v, want ErrNoPeer", err)
	}
	c.links.SetLink(true)
	until(t, "records after the link came back", func() bool { return len(w.hub.allPending()) == 5 })
}

func TestManyClinicsBehindOneAddress(t *testing.T) {
	const clinics = 20
	w := newWorld(t, 15, clinics)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	for _, c := range w.clinics {
		w.save(c, record.LaneClinical, 1)
		w.start(t, c.memory, c.key, peersync.LinksOptions{Hubs: fixed(hub.address(t)), HubsWanted: 1}, peersync.HostOptions{Listen: []string{}})
	}
	until(t, "all clinics", func() bool { return len(w.hub.allPending()) == 2*clinics })
	live := 0
	for _, p := range hub.links.Peers() {
		if p.Connected {
			live++
		}
	}
	if live != clinics {
		t.Errorf("%d sessions at a time, want %d", live, clinics)
	}
	w.orderAll()
	for i, c := range w.clinics {
		until(t, fmt.Sprintf("clinic %d confirmed", i), func() bool { return c.Head() == w.hub.Head() })
	}
}

func TestRevokedPeerIsCutOff(t *testing.T) {
	w := newWorld(t, 33, 1)
	var revoked atomic.Bool
	allow := func(d record.DeviceID) bool { return w.member(d) && !(revoked.Load() && d == w.clinics[0].self) }
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{Allow: allow}, peersync.HostOptions{Hub: true, Allow: allow})
	c := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
	connected := func() bool {
		p := hub.links.Peers()
		return len(p) == 1 && p[0].Connected
	}
	until(t, "session", connected)
	revoked.Store(true)
	hub.links.Wake()
	until(t, "the session's end", func() bool { return !connected() })
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := c.links.SyncNow(ctx, hub.self); !errors.Is(err, peersync.ErrNoPeer) {
		t.Errorf("syncing after the revocation: %v, want ErrNoPeer", err)
	}
}

// TestBothDial lets two neighbours dial each other at the same moment: one
// session remains and carries the records of both.
func TestBothDial(t *testing.T) {
	w := newWorld(t, 19, 2)
	hold := make(chan struct{})
	var at [2]peersync.Address
	boxes := [2]*box{}
	for i := range boxes {
		other := 1 - i
		boxes[i] = w.start(t, w.clinics[i].memory, w.clinics[i].key, peersync.LinksOptions{Neighbours: func() []peersync.Address {
			<-hold
			return []peersync.Address{at[other]}
		}}, peersync.HostOptions{})
		w.save(w.clinics[i], record.LaneClinical, 3)
	}
	at = [2]peersync.Address{boxes[0].address(t), boxes[1].address(t)}
	close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	errs := make(chan error, 2)
	for i, b := range boxes {
		go func() {
			_, err := b.links.SyncNow(ctx, boxes[1-i].self)
			errs <- err
		}()
	}
	for range boxes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	until(t, "same records", func() bool { return boxes[0].sum() == boxes[1].sum() })
	connected := func() bool {
		a, b := boxes[0].links.Peers(), boxes[1].links.Peers()
		return len(a) == 1 && len(b) == 1 && a[0].Connected && b[0].Connected
	}
	until(t, "one session each", connected)
}

// TestTwoHubsOneStream connects a clinic to two sources of the same ledger: it
// takes each entry once, and goes on when the one it takes from goes away.
func TestTwoHubsOneStream(t *testing.T) {
	w := newWorld(t, 18, 3)
	relay := w.clinics[1] // stands for a second hub: it has the ledger and gives it
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	r := w.start(t, relay.memory, relay.key, peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
	c := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t)), Neighbours: fixed(r.address(t))}, peersync.HostOptions{Listen: []string{}})
	all := func() bool {
		n := 0
		for _, p := range c.links.Peers() {
			if p.Connected {
				n++
			}
		}
		return n == 2
	}
	until(t, "two sessions", all)
	for range 5 {
		w.save(w.clinics[2], record.LaneClinical, 10)
		if _, _, err := w.meet(w.clinics[2].memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
		until(t, "entries", func() bool { return c.Head() == hub.Head() && r.Head() == hub.Head() })
	}
	received := uint64(0)
	for _, p := range c.links.Peers() {
		received += p.Received
	}
	if received != 51 {
		t.Errorf("%d entries received from two peers, want 51, each once", received)
	}
	id, err := peersync.PeerID(c.self)
	if err != nil {
		t.Fatal(err)
	}
	hub.links.SetLink(false)
	if err := r.host.Libp2p().Network().ClosePeer(id); err != nil {
		t.Fatal(err)
	}
	w.save(w.clinics[2], record.LaneClinical, 3)
	if _, _, err := w.meet(w.clinics[2].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	if err := w.copyTo(relay.memory); err != nil {
		t.Fatal(err)
	}
	until(t, "entries from the neighbour", func() bool { return c.Head() == w.hub.Head() })
}

func TestGarbageBarsThePeer(t *testing.T) {
	for name, b := range map[string][]byte{
		"garbage":   []byte("GET / HTTP/1.1\r\n" + strings.Repeat("X", 100)),
		"oversized": {0x01, 1, 0xff, 0xff, 0xff, 0x7f},
		"no hello":  peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypePull, Payload: []byte{0x83, 0, 0, 0}}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 16, 1)
			before := w.hub.sum()
			hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
			h, err := peersync.NewHost(peersync.HostOptions{Key: w.clinics[0].key, Allow: w.member})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			ctx, cancel := context.WithTimeout(t.Context(), waitMax)
			defer cancel()
			_, err = openStream(ctx, h, hub, peersync.SyncProtocol, b)
			for err != nil && strings.Contains(err.Error(), "protocols not supported") && ctx.Err() == nil { // Run has not come that far yet
				_, err = openStream(ctx, h, hub, peersync.SyncProtocol, b)
			}
			if err != nil && !errors.Is(err, network.ErrReset) {
				t.Logf("stream ended: %v", err)
			}
			barred := func() bool {
				p := hub.links.Peers()
				return len(p) == 1 && !p[0].Connected && strings.Contains(p[0].LastError, peersync.ErrMisbehaved.Error())
			}
			until(t, "the session's end", barred)
			if w.hub.sum() != before {
				t.Error("the hub's replica changed")
			}
			c := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
			if _, err := c.links.SyncNow(ctx, hub.self); !errors.Is(err, peersync.ErrNoPeer) {
				t.Errorf("a session right after: %v, want ErrNoPeer", err)
			}
		})
	}
}

func TestFetch(t *testing.T) {
	w := newWorld(t, 17, 1)
	w.save(w.clinics[0], record.LaneClinical, 150)
	if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.hub.order(w.now, w.hub.allPending()[:100])
	head := w.hub.Head() // not final
	w.orderAll()
	second := newMemory(deviceOf(deviceKey(9, 'h')))
	isHub := func(d record.DeviceID) bool { return d == w.hub.self || d == second.self }
	allow := func(d record.DeviceID) bool { return isHub(d) || w.member(d) }
	mk := func(m *memory, key ed25519.PrivateKey, hubs func() []peersync.Address) *box {
		h, err := peersync.NewHost(peersync.HostOptions{Key: key, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Hub: true, Allow: allow})
		if err != nil {
			t.Fatal(err)
		}
		o := w.options(m)
		o.Hub, o.WantOrdered = isHub, nil
		b := &box{m, h, peersync.NewLinks(h, m, peersync.LinksOptions{Session: o, Hubs: hubs, Allow: allow})}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = b.links.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done; _ = h.Close() })
		return b
	}
	first := mk(w.hub, w.hubKey, nil)
	b := mk(second, deviceKey(9, 'h'), fixed(first.address(t)))
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if err := b.links.Fetch(ctx, head); err != nil {
		t.Fatal(err)
	}
	if second.Head() != head {
		t.Errorf("fetched up to size %d, want %d", second.Head().Size, head.Size)
	}
	if err := b.links.Fetch(ctx, head); err != nil {
		t.Errorf("fetching what is here: %v", err)
	}
	if err := b.links.Fetch(ctx, record.TreeHead{Size: 5000}); !errors.Is(err, peersync.ErrBehind) {
		t.Errorf("fetching what nobody has: %v, want ErrBehind", err)
	}
	wrong := w.hub.Head()
	wrong.Root[0] ^= 1
	if err := b.links.Fetch(ctx, wrong); !errors.Is(err, peersync.ErrMisbehaved) || second.Head() != head {
		t.Errorf("fetching towards a wrong root: %v at size %d", err, second.Head().Size)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
