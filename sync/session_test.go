package peersync_test

import (
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

const noLimit = 1 << 40

func TestClinicPushesAndIsConfirmed(t *testing.T) {
	w := newWorld(t, 1, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 20)
	w.save(c, record.LaneControl, 2)
	n, _, err := w.meet(c.memory, w.hub, noLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("22 records up: %d bytes", n)
	if got, want := len(w.hub.allPending()), 23; got != want {
		t.Fatalf("hub holds %d pending records, want %d", got, want)
	}
	if got := c.acked[w.hub.self][record.Feed{Epoch: c.author.epoch, Lane: record.LaneClinical}]; got != 20 {
		t.Errorf("acknowledged up to n %d, want 20", got)
	}
	w.orderAll()
	n, x, err := w.meet(c.memory, w.hub, noLimit)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("22 records confirmed: %d bytes, frames %v", n, x.frames)
	if c.Head() != w.hub.Head() || len(c.allPending()) != 0 {
		t.Fatalf("clinic at %d with %d pending, want %d with none", c.Head().Size, len(c.allPending()), w.hub.Head().Size)
	}
	if x.frames[peersync.TypePending] != 0 || n > 1500 {
		t.Errorf("confirming records that the clinic holds took %d bytes, frames %v", n, x.frames)
	}
	n, x, err = w.meet(c.memory, w.hub, noLimit)
	if err != nil || n > 1000 || x.frames[peersync.TypePending]+x.frames[peersync.TypeSegment] != 0 {
		t.Errorf("nothing new: %d bytes, frames %v, %v", n, x.frames, err)
	}
	t.Logf("nothing new: %d bytes", n)
	w.check(c.memory)
}

func TestTwoClinicsWithoutHub(t *testing.T) {
	w := newWorld(t, 2, 2)
	a, b := w.clinics[0], w.clinics[1]
	w.save(a, record.LaneClinical, 5)
	w.save(b, record.LaneBulk, 7)
	if _, _, err := w.meet(a.memory, b.memory, noLimit); err != nil {
		t.Fatal(err)
	}
	if a.sum() != b.sum() {
		t.Fatal("the two differ after an exchange")
	}
	if got := len(a.allPending()); got != 14 {
		t.Fatalf("%d pending records each, want 14", got)
	}
	// b carries a's records to the hub, which orders them; a hears it from b.
	if _, _, err := w.meet(b.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	for _, p := range [][2]*memory{{b.memory, w.hub}, {a.memory, b.memory}} {
		if _, _, err := w.meet(p[0], p[1], noLimit); err != nil {
			t.Fatal(err)
		}
	}
	if a.Head() != w.hub.Head() || len(a.allPending()) != 0 {
		t.Fatalf("a at size %d with %d pending, want %d with none", a.Head().Size, len(a.allPending()), w.hub.Head().Size)
	}
}

// TestConvergence gives replicas random states, cuts random meetings at random
// bytes, and in the end every replica holds the same.
func TestConvergence(t *testing.T) {
	for seed := range uint64(25) {
		w := newWorld(t, seed, 3)
		all := []*memory{w.clinics[0].memory, w.clinics[1].memory, w.clinics[2].memory, w.hub}
		for step := range 12 {
			c := w.clinics[w.rng.IntN(3)]
			w.save(c, record.Lane(w.rng.IntN(4)), w.rng.IntN(12))
			if w.rng.IntN(3) == 0 {
				w.orderAll()
			}
			i, j := w.rng.IntN(4), w.rng.IntN(3)
			if j >= i {
				j++
			}
			if _, _, err := w.meet(all[i], all[j], 200+w.rng.IntN(20000)); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			w.check(all[i])
			w.check(all[j])
		}
		w.settle(seed, all)
	}
}

// settle lets everybody meet until all is ordered everywhere.
func (w *world) settle(seed uint64, all []*memory) {
	w.t.Helper()
	for range 2 {
		for _, c := range w.clinics {
			if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
				w.t.Fatalf("seed %d: %v", seed, err)
			}
		}
		w.orderAll()
	}
	for _, c := range w.clinics {
		if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
			w.t.Fatalf("seed %d: %v", seed, err)
		}
	}
	var written uint64
	for _, c := range w.clinics {
		if c.opened {
			written++
		}
		for _, h := range c.author.heads {
			written += h.N
		}
	}
	for i, m := range all {
		if m.sum() != w.hub.sum() {
			w.t.Fatalf("seed %d: replica %d differs from the hub: size %d and %d, pending %d and %d", seed, i, m.Head().Size, w.hub.Head().Size, len(m.allPending()), len(w.hub.allPending()))
		}
		w.check(m)
		if i < len(w.clinics) {
			if n, x, err := w.meet(m, w.hub, noLimit); err != nil || n > 1000 || x.frames[peersync.TypePending]+x.frames[peersync.TypeSegment] != 0 {
				w.t.Fatalf("seed %d: nothing new took %d bytes, frames %v, %v", seed, n, x.frames, err)
			}
		}
	}
	if want := uint64(2+len(w.clinics)) + written; w.hub.Head().Size != want {
		w.t.Fatalf("seed %d: ledger of %d entries, want %d", seed, w.hub.Head().Size, want)
	}
}

func TestUrgentOvertakesBulk(t *testing.T) {
	w := newWorld(t, 3, 1)
	c := w.clinics[0]
	w.save(c, record.LaneBulk, 300)
	o := w.options(c.memory)
	o.Window = peersync.WindowSlow
	sa := peersync.NewSession(c.memory, w.hub.self, o)
	sb := peersync.NewSession(w.hub, c.self, w.options(w.hub))
	ctx := t.Context()
	pass := func(from, to *peersync.Session) (f peersync.Frame, ok bool) {
		f, ok, err := from.Next(ctx)
		if err == nil && ok && to != nil {
			err = to.Handle(ctx, f)
		}
		if err != nil {
			t.Fatal(err)
		}
		return f, ok
	}
	pass(sa, sb)
	pass(sb, sa)
	inflight := 0
	for { // fill the window without an answer
		f, ok := pass(sa, nil)
		if !ok {
			break
		}
		if f.Type == peersync.TypePending {
			inflight += len(f.Payload)
		}
	}
	if inflight > peersync.WindowSlow+peersync.WindowSlow/2 {
		t.Fatalf("%d bytes under way without an answer, the window is %d", inflight, peersync.WindowSlow)
	}
	w.save(c, record.LaneControl, 1)
	sa.Changed()
	ack := mustMarshal([]any{uint64(inflight), w.hub.Head().Size, []any{}})
	if err := sa.Handle(ctx, peersync.Frame{Type: peersync.TypeAck, Payload: ack}); err != nil {
		t.Fatal(err)
	}
	f, ok := pass(sa, nil)
	first, _, _, err := record.RunHead(f.Payload)
	if !ok || err != nil || f.Type != peersync.TypePending || first.Lane != record.LaneControl {
		t.Fatalf("after the window opened, got a frame of type %#x, lane %d; want the urgent record", f.Type, first.Lane)
	}
}

func TestLiveSession(t *testing.T) {
	w := newWorld(t, 4, 1)
	c := w.clinics[0]
	sa, sb := w.pair(c.memory, w.hub)
	x := &exchange{a: sa, b: sb}
	rng := rand.New(rand.NewPCG(4, 4))
	for range 10 {
		w.save(c, record.LaneClinical, 1)
		sa.Changed()
		if _, err := x.run(t.Context(), rng, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
		sb.Changed()
		if _, err := x.run(t.Context(), rng, noLimit); err != nil {
			t.Fatal(err)
		}
		if c.Head() != w.hub.Head() || len(c.allPending()) != 0 {
			t.Fatalf("clinic at %d with %d pending, want %d with none", c.Head().Size, len(c.allPending()), w.hub.Head().Size)
		}
	}
	t.Logf("10 saves, each confirmed: %d bytes up, %d down", x.toB.bytes, x.toA.bytes)
}

// TestCatchUpBytes holds what a clinic far behind pays for each entry to the
// record's own size: proofs and frames may add a tenth, also in small frames.
func TestCatchUpBytes(t *testing.T) {
	w := newWorld(t, 31, 2)
	w.save(w.clinics[0], record.LaneClinical, 600)
	if _, _, err := w.meet(w.clinics[0].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	floor := 0
	for _, e := range w.hub.entries[4:] {
		floor += len(e.Record.Body) + record.WireBytesMax
	}
	for _, window := range []int{peersync.WindowSlow, peersync.WindowDefault, peersync.WindowLAN} {
		m := newMemory(w.clinics[1].self)
		if err := w.copyFounding(m); err != nil {
			t.Fatal(err)
		}
		o := w.options(m)
		o.Window = window
		sa, sb := peersync.NewSession(m, w.hub.self, o), peersync.NewSession(w.hub, m.self, w.options(w.hub))
		x := &exchange{a: sa, b: sb}
		if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
			t.Fatal(err)
		}
		if m.Head() != w.hub.Head() {
			t.Fatalf("at size %d, want %d", m.Head().Size, w.hub.Head().Size)
		}
		t.Logf("window %d: %d bytes down in %d segments, %d up; records alone %d", window, x.toA.bytes, x.frames[peersync.TypeSegment], x.toB.bytes, floor)
		if x.toA.bytes > floor*11/10 {
			t.Errorf("window %d: %d bytes for records of %d", window, x.toA.bytes, floor)
		}
	}
}

// TestViewStaysFresh: hubs sign an unchanged head again; boxes on open sessions
// hear of it once, and it goes no further than it is news.
func TestViewStaysFresh(t *testing.T) {
	w := newWorld(t, 32, 2)
	a, b := w.clinics[0].memory, w.clinics[1].memory
	for _, m := range []*memory{w.hub, a, b} {
		m.renews = true
	}
	pairs := [][2]*memory{{a, w.hub}, {a, b}}
	var xs []*exchange
	for _, p := range pairs {
		sa, sb := w.pair(p[0], p[1])
		xs = append(xs, &exchange{a: sa, b: sb})
	}
	rng := rand.New(rand.NewPCG(32, 1))
	frames := func() (n int) {
		for _, x := range xs {
			x.a.Changed()
			x.b.Changed()
			if _, err := x.run(t.Context(), rng, noLimit); err != nil {
				t.Fatal(err)
			}
			for _, k := range x.frames {
				n += k
			}
		}
		return n
	}
	for frames() > 0 {
	}
	for range 5 {
		w.now += 3600
		w.sign(w.hub)
		if n := frames(); n != len(pairs) {
			t.Errorf("%d frames for a later checkpoint, want %d", n, len(pairs))
		}
		for i, m := range []*memory{a, b} {
			if cp, err := w.final(m.note); err != nil || cp.Time != w.now {
				t.Errorf("clinic %d: view as of %d, want %d (%v)", i, cp.Time, w.now, err)
			}
		}
		if n := frames(); n != 0 {
			t.Errorf("%d frames afterwards", n)
		}
	}
}
