package peersync_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestForkUnderCuts has two boxes with contradicting ledgers meet over a line that
// breaks at every length: nobody is blamed, and both have the evidence once a
// meeting lasted.
func TestForkUnderCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after := 20; after < 1000; after += 7 {
			w, _ := twoViews(t, 80, 2)
			a, b := w.clinics[0], w.clinics[1]
			all := w.witnesses(a.memory, b.memory)
			w.save(a, record.LaneClinical, 1)
			for _, length := range []int{after, -1} {
				m := w.begin(a.memory, b.memory, lay(50*time.Millisecond, 0, length), peersync.WindowSlow)
				time.Sleep(time.Minute)
				if ea, eb := m.end(); !linkOnly(ea) || !linkOnly(eb) {
					t.Fatalf("cut after %d bytes: %v; %v", length, ea, eb)
				}
			}
			if len(all[a.memory].known) != 1 || len(all[b.memory].known) != 1 || !bytes.Equal(all[a.memory].known[0], all[b.memory].known[0]) {
				t.Fatalf("cut after %d bytes: %d and %d pieces of evidence, want the same one", after, len(all[a.memory].known), len(all[b.memory].known))
			}
		}
	})
}

// TestReceiptsUnderCuts pushes over a line that keeps breaking: every receipt that
// arrives holds, and in the end all is there.
func TestReceiptsUnderCuts(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed, 1)
			p := w.promising(w.hubKey, w.region)
			c := w.clinics[0]
			rng := rand.New(rand.NewPCG(seed, 4))
			w.save(c, record.LaneClinical, 60)
			cuts := 0
			for ; len(w.hub.allPending()) < 61 && cuts < 200; cuts++ {
				m := w.begin(c.memory, w.hub, lay(100*time.Millisecond, 2500, 1000+rng.IntN(9000)), peersync.WindowSlow)
				time.Sleep(time.Minute)
				if ea, eb := m.end(); !linkOnly(ea) || !linkOnly(eb) {
					t.Fatalf("seed %d: %v; %v", seed, ea, eb)
				}
			}
			if n := len(w.hub.allPending()); n != 61 {
				t.Fatalf("seed %d: %d records after %d meetings", seed, n, cuts)
			}
			for _, r := range p.list() {
				if err := r.Verify(w.region); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				for _, h := range r.Heads {
					if rid, ok, _ := w.hub.HeldRID(h.Position); !ok || rid != h.RID {
						t.Errorf("seed %d: promised what is not held: %+v", seed, h)
					}
				}
			}
			if seed == 0 {
				t.Logf("%d meetings, %d receipts", cuts+1, len(p.list()))
			}
		})
	}
}

// TestForkedHubIsLeft: a hub whose ledger contradicts this box's keeps its session
// for records, and another one is found at once.
func TestForkedHubIsLeft(t *testing.T) {
	w, lie := twoViews(t, 82, 2)
	c := w.clinics[0]
	other := newMemory(deviceOf(deviceKey(7, 'h')))
	if err := w.copyFounding(other); err != nil {
		t.Fatal(err)
	}
	if err := w.copyFrom(lie, other); err != nil {
		t.Fatal(err)
	}
	isHub := func(d record.DeviceID) bool { return d == w.hub.self || d == other.self }
	all := w.witnesses(c.memory, other)
	tweak := w.tweak
	w.tweak = func(m *memory, o *peersync.Options) {
		tweak(m, o)
		o.Hub = isHub
		if m == other {
			o.Role, o.WantOrdered, o.PushPending = record.RoleHub, nil, func(record.DeviceID) bool { return false }
		}
	}
	allow := func(d record.DeviceID) bool { return isHub(d) || w.member(d) }
	ho := peersync.HostOptions{Hub: true, Allow: allow}
	good := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{Allow: allow}, ho)
	bad := w.start(t, other, deviceKey(7, 'h'), peersync.LinksOptions{Allow: allow}, ho)
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Allow: allow, Hubs: fixed(bad.address(t), good.address(t)), HubsWanted: 1, NoProgress: time.Second}, peersync.HostOptions{Allow: allow})
	until(t, "both sessions, one of them forked", func() bool {
		forked, fine := 0, 0
		for _, p := range b.links.Peers() {
			switch {
			case p.Connected && p.Forked && p.Device == other.self:
				forked++
			case p.Connected && !p.Forked && p.Device == w.hub.self:
				fine++
			}
		}
		return forked == 1 && fine == 1
	})
	if len(all[c.memory].known) == 0 {
		t.Error("no evidence")
	}
}

// TestProtocolOne: a peer of the first protocol gets whole notes and no frame that
// it does not know.
func TestProtocolOne(t *testing.T) {
	w, _ := twoViews(t, 83, 2)
	a, b, c := w.clinics[0].memory, w.clinics[1].memory, w.clinics[2].memory
	all := w.witnesses(a, b)
	if _, _, err := w.meet(a, b, noLimit); err != nil || len(all[a].known) == 0 {
		t.Fatal(err)
	}
	s := peersync.NewSession(a, c.self, w.options(a))
	if _, _, err := s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Handle(t.Context(), hello(w, c, func([]any) {})); err != nil {
		t.Fatal(err)
	}
	whole := false
	for {
		f, ok, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		switch f.Type {
		case peersync.TypeCheckpoint:
			whole = bytes.HasPrefix(f.Payload, []byte("healthpost/"))
		case peersync.TypeEvidence, peersync.TypeReceipt, peersync.TypeReset, peersync.TypeEntries:
			t.Errorf("frame of type %#x", f.Type)
		}
	}
	if !whole {
		t.Error("no whole note")
	}
}
