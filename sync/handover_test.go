package peersync_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// era is a hub set that holds from a size of the ledger on, and the checkpoint
// that it signed together with the set before.
type era struct {
	from uint64
	keys []ed25519.PrivateKey
	note []byte
	at   uint64
}

func (e *era) hubs() []record.DeviceID {
	var out []record.DeviceID
	for _, k := range e.keys {
		out = append(out, deviceOf(k))
	}
	return out
}

// succession is a region whose hubs were replaced again and again.
type succession struct {
	*world
	eras  []era
	reset []byte // statement of a reset, nil for none
	resAt uint64 // the ledger's size when it was reset
	gen   map[*memory]uint64

	joined map[*memory]uint64 // the ledger's size when a box was invited

	window int
}

func (x *succession) eraOf(size uint64) *era {
	i := len(x.eras) - 1
	for x.eras[i].from > size {
		i--
	}
	return &x.eras[i]
}

// ledger is what a box takes for the ledger and its hubs: by its own entries, or
// by the statement of a reset that it was given.
func (x *succession) ledger(m *memory) (record.LedgerID, []record.DeviceID) {
	g := uint64(1)
	if x.reset != nil && m.Head().Size > x.resAt {
		g = 2
	}
	e := x.eraOf(max(m.Head().Size, x.joined[m]))
	if x.gen[m] > g {
		g, e = x.gen[m], &x.eras[len(x.eras)-1]
	}
	return x.region.Ledger(g), e.hubs()
}

// hubsSize is as of when that is.
func (x *succession) hubsSize(m *memory) uint64 {
	if x.gen[m] > 1 {
		return x.resAt + 1
	}
	return x.joined[m]
}

func (x *succession) cosign(g uint64, keys []ed25519.PrivateKey) []byte {
	x.t.Helper()
	var note []byte
	var hubs []record.DeviceID
	for _, k := range keys {
		one, err := record.Cosign(x.region.Ledger(g), x.hub.Head(), k, x.now)
		if hubs = append(hubs, deviceOf(k)); err == nil && note != nil {
			one, err = record.MergeCosignatures(x.region.Ledger(g), note, one, hubs)
		}
		if err != nil {
			x.t.Fatal(err)
		}
		note = one
	}
	return note
}

// grow adds entries to the ledger, written by clinic 1.
func (x *succession) grow(n int) {
	x.t.Helper()
	c := x.clinics[1]
	x.save(c, record.LaneClinical, n)
	x.now += 5
	x.hub.order(x.now, c.allPending())
	// The writer has its own records ordered as everybody has.
	c.memory = newMemory(c.self)
	root := x.hub.Head()
	entries, err := x.hub.Entries(0, root.Size, 1<<30)
	if err == nil {
		err = c.Extend(x.t.Context(), entries, root, nil)
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// replaceHubs has another set from here on, and after some entries both sign.
func (x *succession) replaceHubs(keys ...ed25519.PrivateKey) {
	old := x.eras[len(x.eras)-1].keys
	x.grow(3)
	e := era{from: x.hub.Head().Size, keys: keys}
	x.grow(2)
	e.at, e.note = x.hub.Head().Size, x.cosign(1, slices.Concat(old, keys))
	x.eras = append(x.eras, e)
	x.grow(4)
}

func newSuccession(t *testing.T, seed uint64) *succession {
	x := &succession{world: newWorld(t, seed, 3), gen: map[*memory]uint64{}, joined: map[*memory]uint64{}}
	x.eras = []era{{keys: []ed25519.PrivateKey{x.hubKey}}}
	x.tweak = func(m *memory, o *peersync.Options) {
		o.Window = x.window
		o.HubsSize = func() uint64 { return x.hubsSize(m) }
		o.Hubs = func() []record.DeviceID { _, hubs := x.ledger(m); return hubs }
		o.Ledger = func() record.LedgerID { l, _ := x.ledger(m); return l }
		o.Final = func(note []byte) (record.Checkpoint, error) {
			l, hubs := x.ledger(m)
			return record.VerifyFinal(l, note, hubs)
		}
		o.Handover = func(size uint64) ([]byte, []byte, bool) { return x.handover(m, size) }
		o.TakeReset = func(_ record.DeviceID, b []byte) error {
			if !bytes.Equal(b, x.reset) {
				return fmt.Errorf("another statement: %w", record.ErrMalformed)
			}
			x.gen[m] = 2
			return nil
		}
	}
	return x
}

func (x *succession) handover(m *memory, size uint64) (note, reset []byte, ok bool) {
	for i := range x.eras {
		if e := &x.eras[i]; e.note != nil && e.from > size && e.at <= m.Head().Size {
			return e.note, nil, true
		}
	}
	if x.reset != nil && size <= x.resAt && m.Head().Size > x.resAt {
		return nil, x.reset, true
	}
	return nil, nil, false
}

// finish makes the newest head final for the last hub set and gives it to m.
func (x *succession) finish(m *memory) {
	x.t.Helper()
	g := uint64(1)
	if x.reset != nil {
		g = 2
	}
	note := x.cosign(g, x.eras[len(x.eras)-1].keys)
	if err := x.hub.PutFinal(note, x.hub.Head()); err != nil {
		x.t.Fatal(err)
	}
	if m == x.hub {
		return
	}
	entries, err := x.hub.Entries(m.Head().Size, x.hub.Head().Size, 1<<30)
	if err == nil {
		err = m.Extend(x.t.Context(), entries, x.hub.Head(), nil)
	}
	if err == nil {
		err = m.PutFinal(note, x.hub.Head())
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

func keysOf(seeds ...byte) []ed25519.PrivateKey {
	var out []ed25519.PrivateKey
	for _, s := range seeds {
		out = append(out, deviceKey(s, 'h'))
	}
	return out
}

// TestHandedOver: a box that slept through three changes of the hubs gets to the
// newest checkpoint in one meeting, from a hub or from a neighbour, and after cuts.
func TestHandedOver(t *testing.T) {
	for _, from := range []string{"hub", "neighbour", "neighbour, cut"} {
		t.Run(from, func(t *testing.T) {
			x := newSuccession(t, 60)
			x.replaceHubs(keysOf(0, 1, 2)...)
			x.replaceHubs(keysOf(3, 4, 5)...) // nobody of the set before
			x.replaceHubs(keysOf(5, 6, 7)...)
			sleeper, source := x.clinics[0].memory, x.hub
			if from != "hub" {
				source = x.clinics[2].memory
			}
			x.finish(source)
			meetings, total := 1, 0
			rng := rand.New(rand.NewPCG(60, 1))
			for most := noLimit; sleeper.Head() != source.Head() && meetings < 60; meetings++ {
				if from == "neighbour, cut" {
					most, x.window = 400+rng.IntN(8000), peersync.WindowSlow
				}
				n, e, err := x.meet(sleeper, source, most)
				if total += n; err != nil {
					t.Fatal(err)
				}
				if most == noLimit {
					t.Logf("%d entries over three changes of hubs: %d bytes, frames %v", source.Head().Size-5, n, e.frames)
					break
				}
			}
			if sleeper.Head() != source.Head() || sleeper.final != source.Head() {
				t.Fatalf("at size %d, final %d, want %d", sleeper.Head().Size, sleeper.final.Size, source.Head().Size)
			}
			x.check(sleeper)
			t.Logf("%d meetings, %d bytes", meetings, total)
			n, e, err := x.meet(sleeper, source, noLimit)
			if err != nil || n > 1000 {
				t.Errorf("nothing new took %d bytes, frames %v, %v", n, e.frames, err)
			}
		})
	}
}

// TestNoHandover: where nobody can lead it on, the box asks once and stays as it is.
func TestNoHandover(t *testing.T) {
	x := newSuccession(t, 61)
	x.replaceHubs(keysOf(1, 2, 3)...)
	x.eras[1].note = nil // nobody kept it
	x.finish(x.hub)
	m := x.clinics[0].memory
	head := m.Head()
	sa, sb := x.pair(m, x.hub)
	e := &exchange{a: sa, b: sb}
	n, err := e.run(t.Context(), x.rng, noLimit)
	if err != nil || m.Head() != head || e.frames[peersync.TypePull] != 1 || sa.Waiting() || sb.Waiting() {
		t.Errorf("%d bytes, frames %v, at size %d, %v", n, e.frames, m.Head().Size, err)
	}
	for range 20 { // newer checkpoints that it cannot verify either
		x.grow(1)
		x.finish(x.hub)
		sb.Changed()
		if _, err := e.run(t.Context(), x.rng, noLimit); err != nil {
			t.Fatal(err)
		}
		if e.frames[peersync.TypePull]+e.frames[peersync.TypeSegment] > 1 { // one that stops the stream
			t.Fatalf("frames %v after a checkpoint that is not final here", e.frames)
		}
	}
}

// TestResetIsHandedOver: a majority of hubs was lost and the ledger reset. Boxes
// learn of it from any peer, also one that had confirmation frozen.
func TestResetIsHandedOver(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		x := newSuccession(t, 62)
		x.grow(3)
		x.reset, x.resAt = []byte("signed by recovery keys"), x.hub.Head().Size
		x.grow(2)
		x.eras = append(x.eras, era{from: x.resAt + 1, keys: keysOf(8, 9)})
		source, m := x.clinics[2].memory, x.clinics[0].memory
		x.finish(source)
		thaw := !frozen
		tweak := x.tweak
		x.tweak = func(r *memory, o *peersync.Options) {
			tweak(r, o)
			if r == m {
				o.WantOrdered = func() bool { return thaw || x.gen[m] == 2 }
			}
		}
		sa, sb := x.pair(m, source)
		e := &exchange{a: sa, b: sb}
		n, err := e.run(t.Context(), x.rng, noLimit)
		if err != nil || e.frames[peersync.TypeReset] != 1 {
			t.Fatalf("frozen %t: frames %v, %v", frozen, e.frames, err)
		}
		if m.Head() != source.Head() || m.final != source.Head() {
			t.Errorf("frozen %t: at size %d, final %d, want %d", frozen, m.Head().Size, m.final.Size, source.Head().Size)
		}
		t.Logf("frozen %t: %d bytes, frames %v", frozen, n, e.frames)
	}
}

// TestHostileHandover: answers and resets that nobody asked for, that lead nowhere
// or that are false.
func TestHostileHandover(t *testing.T) {
	x := newSuccession(t, 63)
	x.replaceHubs(keysOf(1, 2, 3)...)
	x.reset = []byte("statement")
	x.resAt = 1 << 40
	x.finish(x.hub)
	m := x.clinics[0].memory
	newest, _, _ := x.hub.Final()
	ask := func() *peersync.Session {
		s := x.greeted(t, m, x.hub)
		if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeCheckpoint, Payload: newest}); err != nil {
			t.Fatal(err)
		}
		for {
			f, ok, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				t.Fatal("a note that cannot be verified was not asked about")
			}
			if f.Type == peersync.TypePull {
				return s
			}
		}
	}
	answer := func(note []byte) peersync.Frame {
		return peersync.Frame{Type: peersync.TypeCheckpoint, Flags: 2, Payload: note}
	}
	before := m.sum()
	for _, c := range []struct {
		name  string
		s     *peersync.Session
		frame peersync.Frame
		want  error
	}{
		{"reset that nobody asked for", x.greeted(t, m, x.hub), peersync.Frame{Type: peersync.TypeReset, Payload: x.reset}, peersync.ErrMisbehaved},
		{"false reset", ask(), peersync.Frame{Type: peersync.TypeReset, Payload: []byte("false")}, peersync.ErrMisbehaved},
		{"answer that nobody asked for", x.greeted(t, m, x.hub), answer(nil), nil},
		{"answer that is not final here", ask(), answer(newest), nil},
		{"answer of garbage", ask(), answer([]byte("garbage that is no note of anything at all")), peersync.ErrMisbehaved},
		{"answer of nothing", ask(), answer(nil), nil},
		{"handover to before", x.greeted(t, x.hub, m), peersync.Frame{Type: peersync.TypePull, Payload: mustMarshal([]any{uint64(2), uint64(1), uint64(8)})}, peersync.ErrMisbehaved},
		{"unknown flags", x.greeted(t, x.hub, m), peersync.Frame{Type: peersync.TypePull, Payload: mustMarshal([]any{uint64(0), uint64(0), uint64(32)})}, peersync.ErrMisbehaved},
	} {
		err := c.s.Handle(t.Context(), c.frame)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if m.sum() != before {
			t.Errorf("%s changed the replica", c.name)
		}
	}
	// An answer that is not final is not asked for again at this size.
	s := ask()
	for range 10_000 {
		for _, f := range []peersync.Frame{answer(newest), answer(nil), {Type: peersync.TypeCheckpoint, Payload: newest}} {
			if err := s.Handle(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			s.Changed()
		}
		if f, ok, err := s.Next(t.Context()); err != nil || ok {
			t.Fatalf("frame of type %#x, %v", f.Type, err)
		}
	}
	// Resets of one session are few.
	x.gen = map[*memory]uint64{}
	s, n := ask(), 0
	for ; n < 10_000; n++ {
		if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeReset, Payload: x.reset}); err != nil {
			if !errors.Is(err, peersync.ErrMisbehaved) {
				t.Error(err)
			}
			break
		}
	}
	if n > 4 {
		t.Errorf("%d resets taken in one session", n)
	}
	// Ten thousand questions get an answer at a time.
	server := x.greeted(t, x.hub, m)
	pull := peersync.Frame{Type: peersync.TypePull, Payload: mustMarshal([]any{m.Head().Size, uint64(0), uint64(12)})}
	for range 10_000 {
		if err := server.Handle(t.Context(), pull); err != nil {
			t.Fatal(err)
		}
	}
	answers := 0
	for {
		f, ok, err := server.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if f.Type == peersync.TypeReset || f.Flags == 2 {
			answers++
		}
	}
	if answers > 2 {
		t.Errorf("%d frames answer questions that were never waited for", answers)
	}
}

// TestResetIsToldAcrossAFork: a box whose ledger contradicts the one that was reset
// hears of the reset all the same, for staff have to.
func TestResetIsToldAcrossAFork(t *testing.T) {
	x := newSuccession(t, 64)
	x.grow(3)
	x.reset, x.resAt = []byte("signed by recovery keys"), x.hub.Head().Size
	x.grow(2)
	x.eras = append(x.eras, era{from: x.resAt + 1, keys: keysOf(8, 9)})
	source, m := x.clinics[2].memory, x.clinics[0]
	x.finish(source)
	lie := newMemory(x.hub.self) // what hubs of before showed this box
	if err := x.copyFounding(lie); err != nil {
		t.Fatal(err)
	}
	x.save(m, record.LaneClinical, 1)
	lie.order(x.now, m.allPending())
	head := lie.Head()
	entries, err := lie.Entries(m.Head().Size, head.Size, 1<<30)
	if err == nil {
		err = m.Extend(t.Context(), entries, head, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	tweak := x.tweak
	x.tweak = func(r *memory, o *peersync.Options) {
		tweak(r, o)
		o.Contradiction = func(record.DeviceID, []byte) []byte { return nil }
		if r == m.memory {
			o.TakeReset = func(record.DeviceID, []byte) error {
				told++
				return errors.New("it would take back confirmed records")
			}
		}
	}
	sa, sb := x.pair(m.memory, source)
	e := &exchange{a: sa, b: sb}
	if _, err := e.run(t.Context(), x.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if m.Head() != head || sa.Waiting() || sb.Waiting() || e.frames[peersync.TypeSegment] != 0 {
		t.Errorf("at size %d, frames %v", m.Head().Size, e.frames)
	}
	if told != 1 {
		t.Errorf("told %d times of the reset, want once", told)
	}
}

// TestInvitedBeforeTheHubsChanged: a box that holds nothing yet knows the hubs as
// of its invitation, not as of its ledger, and is led on from there.
func TestInvitedBeforeTheHubsChanged(t *testing.T) {
	x := newSuccession(t, 65)
	x.replaceHubs(keysOf(1, 2, 3)...)
	x.grow(2)
	m := newMemory(x.clinics[0].self)
	x.joined[m] = x.hub.Head().Size
	x.finish(x.hub)
	for range 2 {
		n, e, err := x.meet(m, x.hub, noLimit)
		if err != nil || m.Head() != x.hub.Head() || m.final != x.hub.Head() {
			t.Fatalf("at size %d, want %d; %d bytes, frames %v, %v", m.Head().Size, x.hub.Head().Size, n, e.frames, err)
		}
		x.replaceHubs(keysOf(4, 5, 6)...) // nobody of those who invited it
		x.finish(x.hub)
		m = newMemory(x.clinics[0].self)
		x.joined[m] = x.eras[1].from + 6
	}
}
