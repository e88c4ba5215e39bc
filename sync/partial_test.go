package peersync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// assign has the hub say what a clinic's replica holds.
func (w *world) assign(c *clinic, mode record.Mode, add ...record.CompartmentID) {
	w.t.Helper()
	list := [][]byte{}
	for _, id := range add {
		list = append(list, id[:])
	}
	c.assigned = append(c.assigned, add...)
	w.now++
	outs := w.hub.order(w.now, []record.Record{w.founder.write(0, record.KindAssign, mustMarshal(record.Assign{Device: c.self[:], Mode: mode, Add: list, Remove: [][]byte{}}))})
	if outs[0].Verdict != record.Ordered {
		w.t.Fatalf("assigning: %s", outs[0].Verdict)
	}
	w.checkpoint()
}

// partialWorld has clinics whose compartments are their own; those that m.part
// names hold a part.
func partialWorld(t *testing.T, seed uint64, clinics, parts int) *world {
	t.Helper()
	w := newWorld(t, seed, clinics)
	part := map[record.DeviceID]bool{}
	for i, c := range w.clinics {
		c.author.home = byte(i + 1)
		if i < parts {
			part[c.self] = true
			w.assign(c, record.ModePartial)
		}
	}
	w.tweak = func(m *memory, o *peersync.Options) {
		if part[m.self] {
			o.Partial = func() bool { return true }
		}
	}
	return w
}

func (w *world) mustMeet(a, b *memory) (int, *exchange) {
	w.t.Helper()
	n, x, err := w.meet(a, b, noLimit)
	if err != nil {
		w.t.Fatal(err)
	}
	return n, x
}

// has reports whether a replica holds the entry.
func (m *memory) has(seq uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return seq < uint64(len(m.entries)) && !m.inHole(seq)
}

// checkPart holds a partial replica to its profile: all of it, and nothing else.
func (w *world) checkPart(m *memory) {
	w.t.Helper()
	w.check(m)
	head := m.Head()
	root, err := w.hub.RootAt(head.Size)
	if err != nil || root != head.Root {
		w.t.Fatalf("size %d has another root than the hub's", head.Size)
	}
	for seq := range head.Size {
		w.hub.mu.Lock()
		e := w.hub.entries[seq]
		want := w.hub.holdsFor(m.self, &e, nil)
		w.hub.mu.Unlock()
		if got := m.has(seq); got != want && (want || seq >= uint64(2+len(w.clinics))) {
			w.t.Fatalf("holds entry %d of kind %d: %v, want %v", seq, e.Record.Core.Kind, got, want)
		}
	}
}

func TestPartialReplicaHoldsItsProfile(t *testing.T) {
	w := partialWorld(t, 51, 3, 1)
	p := w.clinics[0]
	for range 4 {
		for _, c := range w.clinics {
			w.save(c, record.LaneClinical, 5+w.rng.IntN(20))
			w.mustMeet(c.memory, w.hub)
		}
		w.orderAll()
		w.mustMeet(p.memory, w.hub)
		if p.Head() != w.hub.Head() {
			t.Fatalf("the partial replica is at size %d, the hub at %d", p.Head().Size, w.hub.Head().Size)
		}
		w.checkPart(p.memory)
	}
	if _, final, _ := p.Final(); final != w.hub.final {
		t.Errorf("final checkpoint of size %d, want %d", final.Size, w.hub.final.Size)
	}
	if len(p.holes) == 0 || len(p.allPending()) != 0 {
		t.Errorf("%d holes, %d records still pending", len(p.holes), len(p.allPending()))
	}
	if n, x := w.mustMeet(p.memory, w.hub); n > 1000 || x.frames[peersync.TypeSpan] != 0 {
		t.Errorf("a second exchange: %d bytes, %v", n, x.frames)
	}
}

func TestAssignedCompartmentIsFilled(t *testing.T) {
	w := partialWorld(t, 52, 2, 1)
	p, other := w.clinics[0], w.clinics[1]
	w.save(other, record.LaneClinical, 30)
	w.mustMeet(other.memory, w.hub)
	w.orderAll()
	w.mustMeet(p.memory, w.hub)
	given := record.CompartmentID{3, 1, 2}
	w.assign(p, "", given)
	w.save(other, record.LaneClinical, 30)
	w.mustMeet(other.memory, w.hub)
	w.orderAll()
	_, x := w.mustMeet(p.memory, w.hub)
	if x.frames[peersync.TypeFill] == 0 {
		t.Errorf("nothing was filled: %v", x.frames)
	}
	w.checkPart(p.memory)
	if list, err := p.Missing(9); err != nil || len(list) != 0 {
		t.Errorf("still missing: %v %v", list, err)
	}
}

// A partial device gets nothing outside of its profile, whatever it asks.
func TestPartialPeerGetsNoMore(t *testing.T) {
	w := partialWorld(t, 53, 2, 1)
	p, other := w.clinics[0], w.clinics[1]
	w.save(other, record.LaneClinical, 20)
	w.mustMeet(other.memory, w.hub)
	w.orderAll()
	strange := record.CompartmentID{3, 1, 2}
	size := w.hub.Head().Size
	ask := func(kind, from, to, recent uint64, c []byte) peersync.Frame {
		return peersync.Frame{Type: peersync.TypeAsk, Payload: mustMarshal([]any{kind, from, to, size, recent, uint64(0), c})}
	}
	frame := func(p pullArray) peersync.Frame {
		return peersync.Frame{Type: peersync.TypePull, Payload: mustMarshal(p)}
	}
	for _, x := range []struct {
		name string
		f    peersync.Frame
	}{
		{"spans with the newest whole", ask(1, 0, 0, 1<<40, []byte{})},
		{"a range", ask(2, 0, size, 0, []byte{})},
		{"a compartment", ask(3, 0, size, 0, strange[:])},
		{"segments", frame(pullArray{From: 0, To: size})},
		{"entries", frame(pullArray{From: 0, To: size, Flags: 16})},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := peersync.NewSession(w.hub, p.self, w.options(w.hub))
			h := hello(w, p.memory, func(h []any) { h[1] = uint64(3) })
			for _, f := range []peersync.Frame{h, x.f} {
				if err := s.Handle(t.Context(), f); err != nil {
					t.Fatal(err)
				}
			}
			for range 100 {
				f, ok, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return
				}
				switch f.Type {
				case peersync.TypeSegment, peersync.TypeEntries, peersync.TypeFill:
					t.Fatalf("got a frame of type %#02x", byte(f.Type))
				case peersync.TypeSpan:
					for _, e := range spanOf(t, f).Entries {
						if c := e.Record.Core.Compartment; !c.IsZero() {
							t.Fatalf("got entry %d of compartment %s", e.Seq, c)
						}
					}
				}
			}
		})
	}
}

type pullArray struct {
	_               struct{} `cbor:",toarray"`
	From, To, Flags uint64
}

// spanOf reads a SPAN whose proof has no references.
func spanOf(t *testing.T, f peersync.Frame) record.Span {
	t.Helper()
	b := f.Payload[1:]
	for range f.Payload[0] {
		if b[0] == 0xff {
			b = b[33:]
		} else {
			b = b[1:]
		}
	}
	s, err := record.ReadSpan(b, func(record.Position) (record.Record, bool, error) { return record.Record{}, false, nil })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fresh is a replica that joins with nothing.
func (w *world) fresh(i int) *memory {
	m := newMemory(w.clinics[i].self)
	return m
}

func TestJoiningTakesTheNewestFirst(t *testing.T) {
	w := partialWorld(t, 54, 3, 0)
	for range 5 {
		for _, c := range w.clinics[1:] {
			w.save(c, record.LaneClinical, 40)
			w.mustMeet(c.memory, w.hub)
		}
		w.orderAll()
	}
	const recent = 60
	m := w.fresh(0)
	w.tweak = func(x *memory, o *peersync.Options) {
		if x == m {
			o.Recent = recent
		}
	}
	sm, sh := w.pair(m, w.hub)
	x := &exchange{a: sm, b: sh}
	useful := false
	x.onStep = func() {
		if useful || m.final.Size == 0 {
			return
		}
		useful = true
		size := w.hub.Head().Size
		for seq := size - recent; seq < size; seq++ {
			if !m.has(seq) {
				t.Fatalf("entry %d of %d is not here when the checkpoint is", seq, size)
			}
		}
		if len(m.holes) == 0 {
			t.Error("nothing is left for later")
		}
	}
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if m.Head() != w.hub.Head() || len(m.holes) != 0 || !useful {
		t.Fatalf("size %d of %d, %d holes", m.Head().Size, w.hub.Head().Size, len(m.holes))
	}
	w.check(m)
	w.save(w.clinics[1], record.LaneClinical, 4)
	w.mustMeet(w.clinics[1].memory, w.hub)
	w.orderAll()
	if _, x := w.mustMeet(m, w.hub); x.frames[peersync.TypeSegment] == 0 || x.frames[peersync.TypeSpan] != 0 || m.Head() != w.hub.Head() {
		t.Errorf("a full replica does not go on with segments: %v", x.frames)
	}
}

// Cut anywhere, joining goes on where it was.
func TestJoiningCut(t *testing.T) {
	w := partialWorld(t, 55, 2, 0)
	w.save(w.clinics[1], record.LaneClinical, 150)
	w.mustMeet(w.clinics[1].memory, w.hub)
	w.orderAll()
	var m *memory
	w.tweak = func(x *memory, o *peersync.Options) {
		if x == m {
			o.Recent = 20
		}
	}
	m = w.fresh(0)
	whole, _ := w.mustMeet(m, w.hub)
	for range 3 {
		m = w.fresh(0)
		total, cuts := 0, 0
		for ; m.Head() != w.hub.Head() || len(m.holes) > 0; cuts++ {
			n, _, err := w.meet(m, w.hub, 4000+w.rng.IntN(60_000))
			if err != nil {
				t.Fatal(err)
			}
			w.check(m)
			if total += n; cuts > 200 {
				t.Fatal("does not come to an end")
			}
		}
		// What is under way at a cut is lost: a window of 64 KiB each time, and a HELLO.
		if most := whole*11/10 + cuts*(64<<10+1<<10); total > most {
			t.Errorf("%d bytes with %d cuts, %d without any", total, cuts, whole)
		}
	}
}

func TestPartialNeighbourServesNothingItLacks(t *testing.T) {
	w := partialWorld(t, 56, 3, 2)
	a, b, c := w.clinics[0], w.clinics[1], w.clinics[2]
	for range 3 {
		w.save(c, record.LaneClinical, 20)
		w.save(a, record.LaneClinical, 5)
		w.mustMeet(c.memory, w.hub)
		w.mustMeet(a.memory, w.hub)
		w.orderAll()
	}
	w.mustMeet(a.memory, w.hub)
	w.save(b, record.LaneClinical, 3)
	w.mustMeet(b.memory, a.memory)
	if b.Head().Size == a.Head().Size {
		t.Error("a replica with holes served another one over them")
	}
	if got := len(a.allPending()); got != 4 { // what b wrote is carried
		t.Errorf("carries %d records, want 4", got)
	}
	w.mustMeet(a.memory, w.hub)
	w.orderAll()
	w.mustMeet(a.memory, w.hub)
	if got := len(a.allPending()); got != 0 {
		t.Errorf("still carries %d records that are ordered", got)
	}
	w.mustMeet(b.memory, w.hub)
	w.checkPart(b.memory)
}

func TestSpanTampered(t *testing.T) {
	w := partialWorld(t, 57, 2, 1)
	p := w.clinics[0]
	w.save(w.clinics[1], record.LaneClinical, 20)
	w.mustMeet(w.clinics[1].memory, w.hub)
	w.orderAll()
	before := p.sum()
	for i := range 60 {
		sp, sh := w.pair(p.memory, w.hub)
		x := &exchange{a: sp, b: sh}
		hit := false
		x.tap = func(toA bool, f peersync.Frame) []peersync.Frame {
			if toA && f.Type == peersync.TypeSpan {
				hit = true
				f.Payload = slices.Clone(f.Payload)
				f.Payload[(i*37)%len(f.Payload)] ^= 1 << (i % 8)
			}
			return []peersync.Frame{f}
		}
		_, err := x.run(t.Context(), w.rng, noLimit)
		sp.Close()
		if !hit || !errors.Is(err, peersync.ErrMisbehaved) && p.sum() != before {
			t.Fatalf("flip %d: hit %v, %v", i, hit, err)
		}
	}
}

func TestFillTampered(t *testing.T) {
	w := partialWorld(t, 58, 2, 0)
	w.save(w.clinics[1], record.LaneClinical, 90)
	w.mustMeet(w.clinics[1].memory, w.hub)
	w.orderAll()
	for i := range 40 {
		m := w.fresh(0)
		w.tweak = func(x *memory, o *peersync.Options) {
			if x == m {
				o.Recent = 10
			}
		}
		sm, sh := w.pair(m, w.hub)
		x := &exchange{a: sm, b: sh}
		hit := false
		x.tap = func(toA bool, f peersync.Frame) []peersync.Frame {
			if toA && f.Type == peersync.TypeFill {
				hit = true
				f.Payload = slices.Clone(f.Payload)
				f.Payload[(i*53)%len(f.Payload)] ^= 1 << (i % 8)
			}
			return []peersync.Frame{f}
		}
		_, err := x.run(t.Context(), w.rng, noLimit)
		sm.Close()
		w.check(m)
		if !hit || !errors.Is(err, peersync.ErrMisbehaved) {
			t.Fatalf("flip %d: hit %v, %v", i, hit, err)
		}
	}
}

// Two sessions fill the holes of one box and no entry comes twice.
func TestHolesAreFilledByTwo(t *testing.T) {
	w := partialWorld(t, 59, 3, 0)
	w.save(w.clinics[1], record.LaneClinical, 200)
	w.mustMeet(w.clinics[1].memory, w.hub)
	w.orderAll()
	if err := w.copyTo(w.clinics[2].memory); err != nil {
		t.Fatal(err)
	}
	m := w.fresh(0)
	turn := peersync.NewTurn(nil)
	w.tweak = func(x *memory, o *peersync.Options) {
		if x == m {
			o.Recent, o.Turn = 10, turn
		}
	}
	var xs []*exchange
	entries := 0
	for _, peer := range []*memory{w.hub, w.clinics[2].memory} {
		a, b := w.pair(m, peer)
		x := &exchange{a: a, b: b, frames: map[peersync.Type]int{}}
		x.tap = func(toA bool, f peersync.Frame) []peersync.Frame {
			if toA && f.Type == peersync.TypeFill {
				entries++
			}
			return []peersync.Frame{f}
		}
		xs = append(xs, x)
	}
	for range 200 {
		for _, x := range xs {
			if _, err := x.step(t.Context(), w); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(m.holes) != 0 || m.Head() != w.hub.Head() {
		t.Fatalf("%d holes, size %d", len(m.holes), m.Head().Size)
	}
	w.check(m)
	t.Logf("%d fills, %v", entries, fmt.Sprint(xs[0].frames, xs[1].frames))
}

// step moves an exchange by a few random moves.
func (x *exchange) step(ctx context.Context, w *world) (int, error) {
	for range 8 {
		var err error
		switch w.rng.IntN(4) {
		case 0:
			_, err = x.send(ctx, x.a, &x.toB)
		case 1:
			_, err = x.send(ctx, x.b, &x.toA)
		case 2:
			_, err = x.receive(ctx, x.a, &x.toA, true)
		case 3:
			_, err = x.receive(ctx, x.b, &x.toB, false)
		}
		if err != nil {
			return 0, err
		}
	}
	return x.toA.bytes + x.toB.bytes, nil
}

// What a partial replica gets to carry after it was ordered is not carried for ever.
func TestCarriedRecordOrderedInAHole(t *testing.T) {
	w := partialWorld(t, 60, 3, 1)
	p, c := w.clinics[0], w.clinics[2]
	w.save(c, record.LaneClinical, 30)
	w.save(c, record.LaneAudit, 3)
	w.mustMeet(c.memory, w.hub)
	w.orderAll()
	w.mustMeet(p.memory, w.hub)
	w.mustMeet(c.memory, p.memory) // c has not heard that they are ordered
	carried := len(p.allPending())
	w.mustMeet(p.memory, w.hub)
	if left := len(p.allPending()); carried != 34 || left != 0 {
		t.Errorf("carried %d records, %d of them for ever", carried, left)
	}
	w.check(p.memory)
}

// A compartment outside of the profile comes from whoever may give it, and from
// nobody else.
func TestFetchCompartment(t *testing.T) {
	w := partialWorld(t, 64, 3, 1)
	p, other := w.clinics[0], w.clinics[2]
	w.save(other, record.LaneClinical, 30)
	w.mustMeet(other.memory, w.hub)
	w.orderAll()
	w.mustMeet(p.memory, w.hub)
	hub := w.start(t, w.hub, w.hubKey, peersync.LinksOptions{}, peersync.HostOptions{Hub: true})
	b := w.start(t, p.memory, p.key, peersync.LinksOptions{Hubs: fixed(hub.address(t))}, peersync.HostOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	c := record.CompartmentID{3, 1, 3}
	more := func() (bool, error) { return false, nil }
	if n, err := b.links.FetchCompartment(ctx, c, more); n != 0 || !errors.Is(err, peersync.ErrNotAllowed) {
		t.Errorf("a compartment of others: got %d entries, %v; want %v", n, err, peersync.ErrNotAllowed)
	}
	w.hub.mu.Lock()
	w.hub.wrote[place{p.self, c}] = true
	w.hub.mu.Unlock()
	if n, err := b.links.FetchCompartment(ctx, c, more); n != 6 || err != nil {
		t.Errorf("got %d entries, %v; want 6", n, err)
	}
}
