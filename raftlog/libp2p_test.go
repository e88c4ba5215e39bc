package raftlog_test

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

func newHost(t testing.TB, b *box) host.Host {
	key, err := crypto.UnmarshalEd25519PrivateKey(b.key)
	check(t, "reading key", err)
	h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New), libp2p.DisableRelay(), libp2p.DisableMetrics())
	check(t, "starting host", err)
	t.Cleanup(func() { h.Close() })
	return h
}

// onHosts lets a cluster speak over loopback.
func onHosts(t testing.TB, c *cluster) map[*hub]host.Host {
	hosts := map[*hub]host.Host{}
	for _, h := range c.hubs {
		hosts[h] = newHost(t, h.box)
	}
	for _, a := range hosts {
		for _, b := range hosts {
			a.Peerstore().AddAddrs(b.ID(), b.Addrs(), peerstore.PermanentAddrTTL)
		}
	}
	c.net, c.polls = nil, 600
	c.adjust = func(h *hub, o *raftlog.Options) {
		o.Host = hosts[h]
		o.AllowHub = func(d record.DeviceID) bool {
			for _, x := range c.hubs {
				if x.box.id == d {
					return true
				}
			}
			return false
		}
	}
	return hosts
}

// quick timers are for tests in real time.
func quick() raftlog.Profile {
	return raftlog.Profile{Name: "quick", Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 200 * time.Millisecond,
		Commit: 20 * time.Millisecond, Call: 2 * time.Second, MaxAppend: 64, Reconcile: 50 * time.Millisecond}
}

// TestHubsOverLibp2p founds a region over loopback, kills the leader under load
// and brings it back.
func TestHubsOverLibp2p(t *testing.T) {
	rng := testSeed(t)
	c := newCluster(t, 3, 4)
	c.profile = quick()
	hosts := onHosts(t, c)
	c.found()
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	var acks atomic.Int64
	var mu sync.Mutex
	var all []acked
	for _, b := range c.clinics {
		work.Go(func() {
			c.client(ctx, b, 5*time.Millisecond, func(a acked) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, a)
				acks.Add(1)
			})
		})
	}
	more := func(n int64) {
		target := acks.Load() + n
		c.until("more is ordered", func() bool { return acks.Load() >= target })
	}
	more(20)
	l := c.leader()
	// The process is gone: nothing goes out, nothing is written.
	hosts[l].RemoveStreamHandler(raftlog.Protocol)
	for _, conn := range hosts[l].Network().Conns() {
		conn.Close()
	}
	l.kv.setBroken(true)
	l.shut()
	l.kv.setBroken(false)
	l.ledger = l.ledger.crash(rng.IntN(10))
	more(20)
	l.start()
	more(20)
	stop()
	work.Wait()
	c.agree(len(all))
	for _, h := range c.hubs {
		for _, a := range all {
			if seq, ok := h.ledger.seq(a.rid, a.pos); !ok || seq != a.seq {
				t.Fatalf("%s: acknowledged record %s at %d, has %d %v", h.box.name, a.rid.Short(), a.seq, seq, ok)
			}
		}
	}
	t.Logf("%d acknowledged", len(all))
	c.end()
}

// TestStrangerIsRefused opens streams that no hub may open.
func TestStrangerIsRefused(t *testing.T) {
	c := newCluster(t, 1, 0)
	c.profile = quick()
	hosts := onHosts(t, c)
	c.found()
	at := hosts[c.hubs[0]]
	name := c.hubs[0].node.Status().Server
	greeting := append([]byte{1, byte(len(name))}, name...)
	ally := newBox("ally")
	for _, x := range []struct {
		what string
		from *box
		say  []byte
		want bool
	}{
		{"a stranger asks", newBox("stranger"), []byte{3}, false},
		{"a stranger calls", newBox("stranger"), greeting, false},
		{"a hub asks", ally, []byte{3}, true},
		{"a hub says nonsense", ally, []byte{9}, false},
		{"a hub means an old disk", ally, []byte{1, 3, 'a', 'b', 'c'}, false},
		{"a hub gives a long name", ally, append([]byte{1, 200}, make([]byte, 200)...), false},
	} {
		t.Run(x.what, func(t *testing.T) {
			if x.from == ally {
				c.hubs = append(c.hubs, &hub{c: c, box: ally})
				defer func() { c.hubs = c.hubs[:1] }()
			}
			h := newHost(t, x.from)
			check(t, "connecting", h.Connect(context.Background(), peer.AddrInfo{ID: at.ID(), Addrs: at.Addrs()}))
			s, err := h.NewStream(context.Background(), at.ID(), raftlog.Protocol)
			if err != nil {
				if x.want {
					t.Fatal(err)
				}
				return
			}
			defer s.Reset()
			s.Write(x.say)
			s.SetDeadline(time.Now().Add(time.Minute))
			answer, err := io.ReadAll(s)
			if got := err == nil && len(answer) > 0; got != x.want {
				t.Errorf("%d bytes, %v; want an answer: %v", len(answer), err, x.want)
			}
			if x.want {
				state, err := raftlog.DecodeTestimony(answer)
				if err != nil || state.Name != name {
					t.Errorf("answer %+v, %v", state, err)
				}
			}
		})
	}
	c.end()
}

// TestRevokedStreamsEnd cuts a hub's open streams when it may no longer speak.
func TestRevokedStreamsEnd(t *testing.T) {
	c := newCluster(t, 3, 1)
	c.profile = quick()
	onHosts(t, c)
	var revoked atomic.Pointer[box]
	adjust := c.adjust
	c.adjust = func(h *hub, o *raftlog.Options) {
		adjust(h, o)
		allow := o.AllowHub
		o.AllowHub = func(d record.DeviceID) bool { b := revoked.Load(); return allow(d) && (b == nil || b.id != d) }
	}
	c.found()
	gone := c.hubs[2]
	if gone == c.leader() {
		gone = c.hubs[1]
	}
	c.agree(5)
	revoked.Store(gone.box)
	size := -1
	c.until("the revoked hub gets nothing more", func() bool {
		same := gone.ledger.size() == size
		size = gone.ledger.size()
		c.order(c.clinics[0].visit(100))
		return same
	})
	c.end()
}

// TestRevokedLeaderOfTwo expels the leader of two hubs, slowly: by the time that it
// would hand over, the other one knows that it is no hub any more.
func TestRevokedLeaderOfTwo(t *testing.T) {
	c := newCluster(t, 2, 1)
	c.profile = quick()
	c.profile.Reconcile = 6 * time.Second
	onHosts(t, c)
	adjust := c.adjust
	c.adjust = func(h *hub, o *raftlog.Options) {
		adjust(h, o)
		o.AllowHub = func(d record.DeviceID) bool { return len(h.ledger.hubs()) == 0 || slices.Contains(h.ledger.hubs(), d) }
	}
	c.found()
	gone := c.leader()
	other := c.hubs[0]
	if other == gone {
		other = c.hubs[1]
	}
	c.order(gone.box.revokes(gone.box), other.box.revokes(gone.box))
	c.until("the other one votes alone", func() bool { return other.node.IsLeader() && len(other.node.Status().Hubs) == 1 })
	c.order(c.clinics[0].visit(100))
	c.end()
}
