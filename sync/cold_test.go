package peersync_test

import (
	"context"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// counter is a meter with so many bytes left of its month's budget; none for 0.
func counter(t *testing.T, budget uint64) *peersync.Meter {
	t.Helper()
	m, err := peersync.NewMeter(peersync.MeterOptions{MonthBytes: budget, Load: func() (peersync.Usage, error) { return peersync.Usage{}, nil },
		Save: func(peersync.Usage) error { return nil }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// through gives the address of a box behind a forwarder that counts.
func (b *box) through(t *testing.T) (*meter, peersync.Address) {
	t.Helper()
	_, at, err := peersync.SplitAddress(b.address(t).Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	port, err := at.ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	m := newMeter(t, "127.0.0.1:"+port)
	return m, peersync.Address{Device: b.self, Addresses: []string{"/ip4/127.0.0.1/tcp/" + portOf(m.listener)}}
}

// coldBytesMax leaves 2 kB of the 5 kB that a cold contact may cost for the headers
// of some 35 packets.
const coldBytesMax = 3000

// TestColdContactIsSmall counts what one urgent record costs from no connection
// at all: TCP payload of handshake, negotiation and session, both ways.
func TestColdContactIsSmall(t *testing.T) {
	w := newWorld(t, 31, 1)
	c := w.clinics[0]
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	m, at := hub.through(t)
	keep(t, c.memory, c.author.open)
	keep(t, c.memory, c.author.write(record.LaneControl, record.KindClinical, make([]byte, 450)))
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Hubs: fixed(at)}, peersync.HostOptions{Meter: counter(t, 0)})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	if _, err := b.links.SyncNow(ctx, w.hub.self); err != nil {
		t.Fatal(err)
	}
	if got := len(w.hub.allPending()); got != 2 {
		t.Errorf("%d records at the hub, want 2", got)
	}
	up, down, u := m.up.Load(), m.down.Load(), b.links.Usage()
	t.Logf("%d B up, %d B down; counted with headers %d, %d", up, down, u.BytesOut, u.BytesIn)
	if up+down > coldBytesMax {
		t.Errorf("one record from cold took %d B up and %d B down, want %d together at most", up, down, coldBytesMax)
	}
	if u.BytesOut <= uint64(up) || u.BytesIn <= uint64(down) || u.BytesOut+u.BytesIn > 5000 {
		t.Errorf("usage %+v, want more than the payload of %d and %d and at most 5,000", u, up, down)
	}
}

// TestCallsOnSchedule: a box with a schedule hangs up when nothing is left, keeps
// what is not urgent until the next call, and calls at once for what is.
func TestCallsOnSchedule(t *testing.T) {
	w := newWorld(t, 32, 1)
	c := w.clinics[0]
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	_, at := hub.through(t)
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Hubs: fixed(at), Schedule: peersync.Schedule{Every: time.Hour}}, peersync.HostOptions{Meter: counter(t, 0)})
	met := func() bool { p := b.links.Peers(); return len(p) == 1 && !p[0].LastContact.IsZero() }
	until(t, "the first call", met)
	hungUp := func() bool {
		return b.links.Why() == peersync.WhyWaiting && len(b.host.Libp2p().Network().Peers()) == 0
	}
	until(t, "the end of it", hungUp)
	if wait := time.Until(b.links.Usage().Next); wait < 59*time.Minute || wait > 67*time.Minute {
		t.Errorf("the next call comes in %s, want an hour and at most a tenth", wait)
	}
	w.save(c, record.LaneClinical, 1)
	w.save(c, record.LaneControl, 1)
	until(t, "both records at the hub", func() bool { return len(w.hub.allPending()) == 3 })
	w.orderAll()
	until(t, "their confirmation", func() bool { return c.Head() == w.hub.Head() })
	until(t, "the end of the second call", hungUp)
	w.save(c, record.LaneClinical, 1)
	if why := b.links.Why(); why != peersync.WhyWaiting || len(w.hub.allPending()) != 0 {
		t.Errorf("a record that is not urgent made the box call: %q", why)
	}
	b.links.Hurry()
	until(t, "the record at the hub, as asked for", func() bool { return len(w.hub.allPending()) == 1 })
}

// TestBudgetKeepsTheLink: with a fifth of the month's budget left audit and bulk
// stay; with nothing left all but what is urgent.
func TestBudgetKeepsTheLink(t *testing.T) {
	w := newWorld(t, 33, 1)
	c := w.clinics[0]
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	_, at := hub.through(t)
	used := peersync.Usage{Month: time.Now().UTC().Format("2006-01"), BytesOut: 85_000}
	m, err := peersync.NewMeter(peersync.MeterOptions{MonthBytes: 100_000, Load: func() (peersync.Usage, error) { return used, nil },
		Save: func(peersync.Usage) error { return nil }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for lane := range record.Lane(record.LaneCount) {
		w.save(c, lane, 1)
	}
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Hubs: fixed(at)}, peersync.HostOptions{Meter: m})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	sync := func(want int, why string) {
		t.Helper()
		if _, err := b.links.SyncNow(ctx, w.hub.self); err != nil {
			t.Fatal(err)
		}
		if got := len(w.hub.allPending()); got != want || b.links.Why() != why {
			t.Errorf("%d records at the hub because of %q, want %d because of %q", got, b.links.Why(), want, why)
		}
	}
	sync(3, peersync.WhyLow)          // the opening, urgent and clinical
	w.save(c, record.LaneControl, 60) // more than is left, in however few frames they go
	until(t, "the budget to be used", func() bool { return b.links.Why() == peersync.WhyEmpty })
	w.save(c, record.LaneClinical, 1)
	w.save(c, record.LaneControl, 1)
	sync(64, peersync.WhyEmpty)
}
