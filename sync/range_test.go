package peersync_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestRangeFromNeighbourAndHub asks for entries that this box holds already: whole,
// in order, with bodies, from a box on the LAN, and from the hub where that one
// fails.
func TestRangeFromNeighbourAndHub(t *testing.T) {
	w := newWorld(t, 70, 3)
	w.save(w.clinics[0], record.LaneClinical, 400)
	if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	for _, c := range w.clinics {
		if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
	}
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	near := w.start(t, w.clinics[1].memory, w.clinics[1].key, peersync.LinksOptions{}, peersync.HostOptions{})
	b := w.start(t, w.clinics[0].memory, w.clinics[0].key, peersync.LinksOptions{Hubs: fixed(hub.address(t)), Neighbours: fixed(near.address(t))}, peersync.HostOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	size := w.hub.Head().Size
	var got []record.Entry
	take := func(list []record.Entry) error {
		got = append(got, list...)
		return nil
	}
	check := func(what string, from, to uint64) {
		t.Helper()
		if uint64(len(got)) != to-from {
			t.Fatalf("%s: %d entries, want %d", what, len(got), to-from)
		}
		for i := range got {
			want := w.hub.entries[from+uint64(i)]
			if got[i].Seq != want.Seq || string(got[i].EncodeLeaf()) != string(want.EncodeLeaf()) || string(got[i].Record.Body) != string(want.Record.Body) {
				t.Fatalf("%s: entry %d differs", what, want.Seq)
			}
		}
		got = nil
	}
	if err := b.links.FetchRange(ctx, 3, size-2, take); err != nil {
		t.Fatal(err)
	}
	check("from the neighbour", 3, size-2)
	if p := b.links.Peers(); len(p) != 2 {
		t.Errorf("%d peers", len(p))
	}
	// The neighbour holds less: the rest comes from the hub.
	near.mu.Lock()
	near.final.Size = 100
	near.mu.Unlock()
	if err := b.links.FetchRange(ctx, 50, 200, take); err != nil {
		t.Fatal(err)
	}
	check("past the neighbour's checkpoint", 50, 200)
	// What take refuses is asked of the next peer.
	refused := 0
	if err := b.links.FetchRange(ctx, 10, 20, func(list []record.Entry) error {
		if refused++; refused == 1 {
			return errors.New("another leaf than the tree says")
		}
		return take(list)
	}); err != nil {
		t.Fatal(err)
	}
	check("after a refusal", 10, 20)
	// A full disk here is nobody's fault there.
	calls := 0
	err := b.links.FetchRange(ctx, 10, 20, func([]record.Entry) error { calls++; return errLocal })
	if !errors.Is(err, errLocal) || calls != 1 {
		t.Errorf("a full disk: %v after %d calls", err, calls)
	}
	if err := b.links.FetchRange(ctx, 10, size+1, take); !errors.Is(err, peersync.ErrNoPeer) || !errors.Is(err, peersync.ErrBehind) {
		t.Errorf("past everybody's checkpoint: %v, want ErrNoPeer and ErrBehind", err)
	}
}

// TestWholeRangesRefused holds the frames of a range to what was asked.
func TestWholeRangesRefused(t *testing.T) {
	w := newWorld(t, 71, 1)
	pull := func(from, to, flags uint64) peersync.Frame {
		return peersync.Frame{Type: peersync.TypePull, Payload: mustMarshal([]any{from, to, flags})}
	}
	for _, x := range []struct {
		name  string
		frame peersync.Frame
		want  error
	}{
		{"good", pull(0, 3, 16), nil},
		{"past the final checkpoint", pull(0, 4, 16), peersync.ErrBehind},
		{"past it, as segments", pull(0, 4, 0), peersync.ErrBehind},
		{"no end", pull(0, 0, 16), peersync.ErrMisbehaved},
		{"empty", pull(2, 2, 16), peersync.ErrMisbehaved},
		{"with a handover", pull(0, 3, 24), peersync.ErrMisbehaved},
		{"entries that nobody asked for", peersync.Frame{Type: peersync.TypeEntries, Payload: []byte{0, 1, 0, 0}}, peersync.ErrMisbehaved},
	} {
		s := w.greeted(t, w.hub, w.clinics[0].memory)
		if err := s.Handle(t.Context(), x.frame); !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
}

// TestIdleExchangeIsSmall: nothing new to say with three hubs takes at most 500 bytes
// both ways, with a hub and with a neighbour, however long the ledger is.
func TestIdleExchangeIsSmall(t *testing.T) {
	x := newSuccession(t, 72)
	x.eras[0].keys = keysOf(0, 1, 2)
	x.finish(x.hub)
	x.grow(5)
	x.finish(x.hub)
	c := x.clinics[0].memory
	if n, e, err := x.meet(c, x.hub, noLimit); err != nil || c.Head() != x.hub.Head() {
		t.Fatalf("%d bytes, %v, %v", n, e.frames, err)
	}
	if _, _, err := x.meet(x.clinics[2].memory, c, noLimit); err != nil {
		t.Fatal(err)
	}
	idle := func(peer *memory) int {
		x.tweak = func(m *memory, o *peersync.Options) { o.Answers = m == peer }
		defer func() { x.tweak = nil }()
		n, e, err := x.meet(c, peer, noLimit)
		if err != nil || n > 500 || len(e.frames) != 1 {
			t.Errorf("nothing new took %d bytes, frames %v, %v", n, e.frames, err)
		}
		return n
	}
	short, neighbour := idle(x.hub), idle(x.clinics[2].memory)
	x.grow(1000)
	x.finish(x.hub)
	if _, _, err := x.meet(c, x.hub, noLimit); err != nil || c.Head() != x.hub.Head() {
		t.Fatal(err)
	}
	long := idle(x.hub)
	if long > short+8 {
		t.Errorf("nothing new took %d bytes with a short ledger, %d with %d entries", short, long, c.Head().Size)
	}
	t.Logf("nothing new with three hubs: %d bytes both ways with a hub, %d with a neighbour, %d with %d entries; a note of a majority is %d bytes whole", short, neighbour, long, c.Head().Size, len(c.note))
}

// TestTurnOfAHubThatStalls: a hub that announces a checkpoint and sends nothing
// loses the turn to another one within half a minute.
func TestTurnOfAHubThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 73, 2)
		c := w.clinics[0]
		w.save(w.clinics[1], record.LaneClinical, 30)
		if _, _, err := w.meet(w.clinics[1].memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
		turn := peersync.NewTurn(nil)
		w.tweak = func(m *memory, o *peersync.Options) {
			if m == c.memory {
				o.Turn = turn
			}
		}
		began := time.Now()
		// The first hub greets, and keeps quiet from then on.
		mute := peersync.NewSession(c.memory, w.hub.self, w.options(c.memory))
		defer mute.Close()
		if _, _, err := mute.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := mute.Handle(t.Context(), w.helloOf(t, w.hub, c.self)); err != nil {
			t.Fatal(err)
		}
		m := w.begin(c.memory, w.hub, lay(50*time.Millisecond, 0, -1), 0)
		for c.Head() != w.hub.Head() && time.Since(began) < 5*time.Minute {
			time.Sleep(time.Second)
		}
		m.end()
		took := time.Since(began)
		t.Logf("the other hub's entries were in after %s", took)
		if took > 45*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// TestFrozen: a box whose confirmation is frozen takes no entries and no
// checkpoint, in the middle of a stream too, its records go on, and when it thaws
// the same session brings it up to date.
func TestFrozen(t *testing.T) {
	w := newWorld(t, 74, 2)
	w.save(w.clinics[1], record.LaneClinical, 200)
	if _, _, err := w.meet(w.clinics[1].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	c, frozen := w.clinics[0], false
	w.tweak = func(m *memory, o *peersync.Options) {
		if m == c.memory {
			o.Window, o.WantOrdered = peersync.WindowSlow, func() bool { return !frozen }
		}
	}
	sa, sb := w.pair(c.memory, w.hub)
	x := &exchange{a: sa, b: sb}
	if _, err := x.run(t.Context(), w.rng, 30_000); err != nil {
		t.Fatal(err)
	}
	frozen = true
	sa.Changed()
	at, final := c.Head(), c.final
	if at.Size == 5 || at == w.hub.Head() {
		t.Fatalf("at size %d, want the middle of the stream", at.Size)
	}
	w.save(c, record.LaneClinical, 3)
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if c.Head() != at || c.final != final {
		t.Errorf("frozen at size %d, now %d", at.Size, c.Head().Size)
	}
	if n := len(w.hub.allPending()); n != 4 {
		t.Errorf("the hub holds %d pending records of the frozen box, want 4", n)
	}
	if sa.Waiting() || sb.Waiting() {
		t.Error("a side waits for what will not come")
	}
	frozen = false
	sa.Changed()
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if c.Head() != w.hub.Head() {
		t.Errorf("thawed at size %d, want %d", c.Head().Size, w.hub.Head().Size)
	}
	w.check(c.memory)
}

// TestAnotherHub: a hub that takes records and orders none of them loses this box
// to one that does.
func TestAnotherHub(t *testing.T) {
	w := newWorld(t, 75, 2)
	c := w.clinics[0]
	mute := newMemory(deviceOf(deviceKey(7, 'h'))) // a hub too; keeps what it takes to itself
	if err := w.copyTo(mute); err != nil {
		t.Fatal(err)
	}
	isHub := func(d record.DeviceID) bool { return d == w.hub.self || d == mute.self }
	w.tweak = func(m *memory, o *peersync.Options) {
		o.Hub = isHub
		o.Hubs = func() []record.DeviceID { return []record.DeviceID{w.hub.self, mute.self}[:1] }
		if m == mute {
			o.Role, o.WantOrdered, o.PushPending = record.RoleHub, nil, func(record.DeviceID) bool { return false }
		}
	}
	allow := func(d record.DeviceID) bool { return isHub(d) || w.member(d) }
	ho := peersync.HostOptions{Hub: true, Allow: allow}
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{Allow: allow}, ho)
	bad := w.start(t, mute, deviceKey(7, 'h'), peersync.LinksOptions{Allow: allow}, ho)
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Allow: allow, Hubs: fixed(bad.address(t), hub.address(t)), HubsWanted: 1, NoProgress: 300 * time.Millisecond}, peersync.HostOptions{Allow: allow})
	connected := func() (n int, first bool) {
		for _, p := range b.links.Peers() {
			if p.Connected {
				n++
				first = first || p.Device == mute.self
			}
		}
		return n, first
	}
	until(t, "session with the preferred hub", func() bool { n, first := connected(); return n == 1 && first })
	w.save(c, record.LaneClinical, 3)
	until(t, "records at the other hub", func() bool { return len(w.hub.allPending()) == 4 })
	w.orderAll()
	until(t, "confirmed", func() bool { return len(c.allPending()) == 0 })
	// Whoever has found out something about a hub says so.
	w.save(c, record.LaneClinical, 1)
	b.links.Another(hub.self)
	until(t, "both sessions", func() bool { n, _ := connected(); return n == 2 })
}

func TestReceiverOfABranch(t *testing.T) {
	w := newWorld(t, 76, 2)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 2)
	branch := newMemory(c.self) // a copy of the box that goes on by itself
	if err := w.copyFounding(branch); err != nil {
		t.Fatal(err)
	}
	recs := c.allPending()
	keep(t, branch, recs...)
	fork := *c.author
	keep(t, branch, fork.write(record.LaneClinical, record.KindClinical, []byte("one way")))
	keep(t, branch, fork.write(record.LaneClinical, record.KindClinical, []byte("and on")))
	w.save(c, record.LaneClinical, 2)
	if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	before := w.hub.sum()
	if _, _, err := w.meet(branch, w.hub, noLimit); err != nil {
		t.Errorf("the carrier of a branch is blamed: %v", err)
	}
	if w.hub.sum() != before {
		t.Error("the branch changed what the hub holds")
	}
}

// TestStaleHubIsFoundOut: a hub that goes on showing an old ledger is found out by
// a look at another one, which gets none of this box's records for it.
func TestStaleHubIsFoundOut(t *testing.T) {
	w := newWorld(t, 77, 2)
	c, writer := w.clinics[0], w.clinics[1]
	stale := newMemory(deviceOf(deviceKey(7, 'h'))) // a hub too
	if err := w.copyTo(stale); err != nil {
		t.Fatal(err)
	}
	isHub := func(d record.DeviceID) bool { return d == w.hub.self || d == stale.self }
	w.tweak = func(m *memory, o *peersync.Options) {
		o.Hub = isHub
		if m == stale {
			o.Role, o.WantOrdered, o.PushPending = record.RoleHub, nil, func(record.DeviceID) bool { return false }
		}
	}
	w.save(writer, record.LaneClinical, 20)
	if _, _, err := w.meet(writer.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	allow := func(d record.DeviceID) bool { return isHub(d) || w.member(d) }
	ho := peersync.HostOptions{Hub: true, Allow: allow}
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{Allow: allow}, ho)
	bad := w.start(t, stale, deviceKey(7, 'h'), peersync.LinksOptions{Allow: allow}, ho)
	b := w.start(t, c.memory, c.key, peersync.LinksOptions{Allow: allow, Hubs: fixed(bad.address(t), hub.address(t)), HubsWanted: 1,
		NoProgress: 600 * time.Millisecond, LookAround: 300 * time.Millisecond}, peersync.HostOptions{Allow: allow})
	until(t, "the newest ledger", func() bool { return c.Head() == w.hub.Head() })
	until(t, "a session to stay with the hub that has it", func() bool {
		for _, p := range b.links.Peers() {
			if p.Device == w.hub.self && p.Connected && time.Since(p.Since) > 4*time.Second {
				return true
			}
		}
		return false
	})
	w.save(c, record.LaneClinical, 2)
	until(t, "records at the hub that orders", func() bool { return len(w.hub.allPending()) == 3 })
}
