package peersync_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
	"github.com/healthpost/healthpost/test/fuzz"
)

// greeted gives a session of m that has heard the peer's hello and said its own.
func (w *world) greeted(t testing.TB, m, peer *memory) *peersync.Session {
	t.Helper()
	s := peersync.NewSession(m, peer.self, w.options(m))
	if _, ok, err := s.Next(t.Context()); err != nil || !ok {
		t.Fatal(err)
	}
	if err := s.Handle(t.Context(), w.helloOf(t, peer, m.self)); err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) helloOf(t testing.TB, m *memory, to record.DeviceID) peersync.Frame {
	t.Helper()
	f, _, err := peersync.NewSession(m, to, w.options(m)).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// hello is HELLO's array as a hostile peer fills it.
func hello(w *world, m *memory, change func(h []any)) peersync.Frame {
	head := m.Head()
	h := []any{uint64(1), uint64(1), w.region[:], m.self[:], "clinic", "test", uint64(8192), head.Size, head.Root[:], []byte{}, false, []any{}}
	change(h)
	return peersync.Frame{Type: peersync.TypeHello, Flags: peersync.FlagCritical, Payload: mustMarshal(h)}
}

func TestHelloRefused(t *testing.T) {
	w := newWorld(t, 20, 1)
	c := w.clinics[0].memory
	for _, x := range []struct {
		name   string
		want   error
		change func(h []any)
	}{
		{"good", nil, func([]any) {}},
		{"another region", peersync.ErrRegion, func(h []any) { h[2] = make([]byte, 32) }},
		{"newer protocol", peersync.ErrVersion, func(h []any) { h[0], h[1] = uint64(4), uint64(5) }},
		{"another device", peersync.ErrMisbehaved, func(h []any) { h[3] = make([]byte, 32) }},
		{"another root", peersync.ErrFork, func(h []any) { h[8] = make([]byte, 32) }},
		{"no window", peersync.ErrMisbehaved, func(h []any) { h[6] = uint64(0) }},
		{"short epoch", peersync.ErrMisbehaved, func(h []any) { h[11] = []any{[]any{[]byte{1}, true, []uint64{0, 0, 0, 0}}} }},
		{"too few lanes", peersync.ErrMisbehaved, func(h []any) { h[11] = []any{[]any{make([]byte, 16), true, []uint64{0}}} }},
	} {
		s := peersync.NewSession(w.hub, c.self, w.options(w.hub))
		if err := s.Handle(t.Context(), hello(w, c, x.change)); !errors.Is(err, x.want) || x.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
}

func TestFramesRefused(t *testing.T) {
	w := newWorld(t, 21, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 3)
	good := c.allPending()
	forged := good[1]
	forged.Sig[5] ^= 1
	note, _, _ := w.hub.Final()
	zero := make([]byte, 32)
	run := func(r ...record.Record) []byte { return record.AppendRun(nil, r) }
	for _, x := range []struct {
		name  string
		frame peersync.Frame
	}{
		{"second hello", hello(w, c.memory, func([]any) {})},
		{"entries nobody asked for", peersync.Frame{Type: peersync.TypeSegment, Payload: append([]byte{0}, record.AppendSegment(nil, w.hub.entries[:1], func(record.Position) bool { return false })...)}},
		{"segment without proof", peersync.Frame{Type: peersync.TypeSegment}},
		{"proof of a hash never sent", peersync.Frame{Type: peersync.TypeSegment, Payload: []byte{1, 7, 0, 1}}},
		{"garbage run", peersync.Frame{Type: peersync.TypePending, Payload: []byte("garbage")}},
		{"credit for nothing", peersync.Frame{Type: peersync.TypeAck, Payload: mustMarshal([]any{uint64(1), uint64(0), []any{}})}},
		{"pull backwards", peersync.Frame{Type: peersync.TypePull, Payload: mustMarshal([]any{uint64(2), uint64(1), uint64(0)})}},
		{"reject without final verdict", peersync.Frame{Type: peersync.TypeReject, Payload: mustMarshal([]any{[]any{[]any{zero, zero[:16], uint64(0), uint64(1), uint64(record.Gap)}}})}},
		{"long bye", peersync.Frame{Type: peersync.TypeBye, Payload: mustMarshal([]any{uint64(0), string(make([]byte, 500))})}},
		{"unknown critical", peersync.Frame{Type: 0x66, Flags: peersync.FlagCritical}},
		{"note of another ledger", peersync.Frame{Type: peersync.TypeCheckpoint, Payload: bytes.Replace(note, []byte("healthpost/"), []byte("healthpest/"), 1)}},
	} {
		before := w.hub.sum()
		s := w.greeted(t, w.hub, c.memory)
		err := s.Handle(t.Context(), x.frame)
		if !errors.Is(err, peersync.ErrMisbehaved) {
			t.Errorf("%s: %v, want ErrMisbehaved", x.name, err)
		}
		if w.hub.sum() != before {
			t.Errorf("%s changed the replica", x.name)
		}
	}
	s := w.greeted(t, w.hub, c.memory)
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypePending, Payload: run(good[0])}); err != nil {
		t.Fatal(err)
	}
	before := w.hub.sum()
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypePending, Payload: run(forged)}); !errors.Is(err, peersync.ErrMisbehaved) || w.hub.sum() != before {
		t.Errorf("forged signature: %v, changed %t", err, w.hub.sum() != before)
	}
	s = w.greeted(t, w.hub, c.memory)
	if err := s.Handle(t.Context(), peersync.Frame{Type: 0x66, Payload: []byte("later")}); err != nil {
		t.Errorf("unknown frame that may be skipped: %v", err)
	}
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypePending, Payload: run(good[2:]...)}); err != nil {
		t.Errorf("run after a gap: %v, want an answer", err)
	}
	w.hub.fault = errLocal
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypePending, Payload: run(good[1])}); !errors.Is(err, peersync.ErrLocal) {
		t.Errorf("with a broken disk: %v, want ErrLocal", err)
	}
}

func TestCheckpointsRefused(t *testing.T) {
	w := newWorld(t, 22, 2)
	c := w.clinics[0]
	older, _, _ := w.hub.Final()
	w.save(w.clinics[1], record.LaneClinical, 2)
	if _, _, err := w.meet(w.clinics[1].memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	newer, head, _ := w.hub.Final()
	s := w.greeted(t, c.memory, w.hub)
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeCheckpoint, Payload: newer}); err != nil {
		t.Fatal(err)
	}
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeCheckpoint, Payload: older}); !errors.Is(err, peersync.ErrMisbehaved) {
		t.Errorf("a smaller checkpoint after a larger one: %v, want ErrMisbehaved", err)
	}
	// A hub that signs another root for a size that the clinic has.
	had := c.Head()
	had.Root[3] ^= 1
	note, err := record.Cosign(w.region.Ledger(1), had, w.hubKey, 1)
	if err != nil {
		t.Fatal(err)
	}
	s = peersync.NewSession(c.memory, w.hub.self, w.options(c.memory))
	err = s.Handle(t.Context(), hello(w, w.hub, func(h []any) { h[9] = note; h[7], h[8] = head.Size, head.Root[:] }))
	if !errors.Is(err, peersync.ErrFork) {
		t.Errorf("two roots for one size: %v, want ErrFork", err)
	}
	// Somebody else's signature decides nothing.
	note, err = record.Cosign(w.region.Ledger(1), record.TreeHead{Size: 99}, deviceKey(5, 'x'), 1)
	if err != nil {
		t.Fatal(err)
	}
	s = w.greeted(t, c.memory, w.hub)
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeCheckpoint, Payload: note}); err != nil {
		t.Errorf("a note that no hub signed: %v, want it left alone", err)
	}
}

// TestFlipsAndDuplicates changes one frame of a meeting in one bit, or delivers
// it twice. Whatever follows, nothing false is stored, and an untouched meeting
// afterwards puts everything right.
func TestFlipsAndDuplicates(t *testing.T) {
	flips, refused := 0, 0
	for seed := range uint64(150) {
		w := newWorld(t, seed%8, 2)
		rng := rand.New(rand.NewPCG(seed, 7))
		a, b := w.clinics[0], w.clinics[1]
		w.save(a, record.LaneClinical, 6)
		w.save(b, record.LaneClinical, 6)
		if _, _, err := w.meet(b.memory, w.hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.orderAll()
		sa, sb := w.pair(a.memory, w.hub)
		at, n := rng.IntN(9), 0
		x := &exchange{a: sa, b: sb, tap: func(_ bool, f peersync.Frame) []peersync.Frame {
			if n++; n-1 != at {
				return []peersync.Frame{f}
			}
			if seed%5 == 0 || len(f.Payload) == 0 {
				return []peersync.Frame{f, f}
			}
			flips++
			f.Payload = bytes.Clone(f.Payload)
			f.Payload[rng.IntN(len(f.Payload))] ^= 1 << rng.IntN(8)
			return []peersync.Frame{f}
		}}
		if _, err := x.run(t.Context(), rng, 1<<20); err != nil {
			refused++
			if !errors.Is(err, peersync.ErrMisbehaved) && !errors.Is(err, peersync.ErrBye) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		w.check(a.memory)
		w.check(w.hub)
		for _, r := range w.hub.allPending() {
			if p := r.Position(); p.Epoch == a.author.epoch && r.VerifySignature(a.self) != nil {
				t.Fatalf("seed %d: the hub holds a record that its author did not sign", seed)
			}
		}
		if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
			t.Fatalf("seed %d: the meeting after: %v", seed, err)
		}
		if a.Head() != w.hub.Head() || len(w.hub.allPending()) != 7 {
			t.Fatalf("seed %d: clinic at %d, hub at %d with %d pending", seed, a.Head().Size, w.hub.Head().Size, len(w.hub.allPending()))
		}
	}
	t.Logf("%d bits flipped, %d sessions ended by it", flips, refused)
}

func TestRefusalReachesTheAuthor(t *testing.T) {
	w := newWorld(t, 23, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 2)
	bad := c.author.write(record.LaneControl, record.KindMemberAdd, []byte("not a member"))
	keep(t, c.memory, bad)
	if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	for _, out := range w.hub.order(w.now, w.hub.allPending()) {
		if out.RID == bad.RID() {
			w.hub.refused[out.RID] = peersync.Refusal{Outcome: out, Position: bad.Position()}
		}
	}
	w.checkpoint()
	if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	if got := c.refused[bad.RID()].Verdict; got != record.NotAllowed {
		t.Errorf("the author heard %q, want %q", got, record.NotAllowed)
	}
	if got := len(c.allPending()); got != 1 {
		t.Errorf("%d records pending, want the refused one", got)
	}
}

func TestRestoredBoxGetsItsRecordsBack(t *testing.T) {
	w := newWorld(t, 24, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 5)
	if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	restored := newMemory(c.self)
	if err := w.copyTo(restored); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.meet(restored, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	if restored.sum() != c.sum() {
		t.Errorf("%d records came back, want %d", len(restored.allPending()), len(c.allPending()))
	}
}

func TestHubThatLostPendingGetsItAgain(t *testing.T) {
	w := newWorld(t, 25, 1)
	c := w.clinics[0]
	w.save(c, record.LaneClinical, 5)
	if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	clear(w.hub.pending)
	clear(w.hub.opening)
	w.save(c, record.LaneClinical, 1)
	if _, _, err := w.meet(c.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	if got := len(w.hub.allPending()); got != 7 {
		t.Errorf("hub holds %d pending records, want 7", got)
	}
}

// TestEmptyReplicaLearnsAuthors pushes records of devices that the receiver does
// not know before the entries that admit them have come.
func TestEmptyReplicaLearnsAuthors(t *testing.T) {
	w := newWorld(t, 26, 2)
	a := w.clinics[0]
	w.save(a, record.LaneControl, 30)
	empty := newMemory(w.clinics[1].self)
	if _, _, err := w.meet(a.memory, empty, noLimit); err != nil {
		t.Fatal(err)
	}
	if empty.sum() != a.sum() {
		t.Errorf("at size %d with %d pending, want %d with %d", empty.Head().Size, len(empty.allPending()), a.Head().Size, len(a.allPending()))
	}
}

// TestHubThatIsBehindIsGivenTime: a hub that does not know an author yet, and gets no
// entries over this link, has what was sent to it wait until its ledger grows. The
// session may last for ever, so nothing may be given up in it.
func TestHubThatIsBehindIsGivenTime(t *testing.T) {
	for seed := range uint64(20) { // in which order frames and answers cross
		w := newWorld(t, 28+seed, 1)
		a := w.clinics[0]
		w.save(a, record.LaneControl, 3)
		late := newMemory(w.hub.self)
		sa, sb := w.pair(a.memory, late)
		x := &exchange{a: sa, b: sb}
		if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
			t.Fatal(err)
		}
		if n := x.frames[peersync.TypePending]; n > 4 || len(late.allPending()) != 0 {
			t.Errorf("seed %d: %d frames of records went to a hub that could take none, %d are there", seed, n, len(late.allPending()))
		}
		if err := w.copyTo(late); err != nil {
			t.Fatal(err)
		}
		sa.Changed()
		sb.Changed()
		if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
			t.Fatal(err)
		}
		if late.sum() != a.sum() {
			t.Errorf("seed %d: %d records are there, want %d", seed, len(late.allPending()), len(a.allPending()))
		}
		sa.Close()
		sb.Close()
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte{0x20, 0, 3, 1, 2, 3})
	f.Add(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypePull, Payload: []byte{0x83, 0, 0, 0}}))
	f.Add(peersync.AppendFrame(nil, peersync.Frame{Type: peersync.TypeAck, Payload: []byte{0x83, 0, 0, 0x80}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { peersync.NewFrameReader(bytes.NewReader(b)).Read() })
		r := peersync.NewFrameReader(bytes.NewReader(b))
		for range 64 {
			fr, err := r.Read()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, peersync.ErrMisbehaved) {
					t.Fatalf("reading frames: %v", err)
				}
				return
			}
			if len(fr.Payload) > 256<<10 {
				t.Fatalf("payload of %d bytes", len(fr.Payload))
			}
			again, err := peersync.NewFrameReader(bytes.NewReader(peersync.AppendFrame(nil, fr))).Read()
			if err != nil || !bytes.Equal(again.Payload, fr.Payload) {
				t.Fatalf("a frame does not read back: %v", err)
			}
		}
	})
}

// FuzzHandle gives a session that stands any frame: it never panics and stores
// nothing, for the fuzzer cannot sign.
func FuzzHandle(f *testing.F) {
	f.Add(byte(peersync.TypePending), byte(0), []byte{1, 2, 3})
	f.Add(byte(peersync.TypeSegment), byte(0), []byte{0, 0, 1, 0})
	f.Add(byte(peersync.TypeEntries), byte(0), []byte{0, 1, 0, 0})
	f.Add(byte(peersync.TypePull), byte(0), []byte{0x83, 0, 0, 1})
	f.Add(byte(peersync.TypePull), byte(0), []byte{0x83, 0, 0, 12})
	f.Add(byte(peersync.TypePull), byte(0), []byte{0x83, 0, 3, 16})
	f.Add(byte(peersync.TypeAck), byte(0), []byte{0x83, 0, 0, 0x80})
	f.Add(byte(peersync.TypeReject), byte(0), []byte{0x81, 0x80})
	f.Add(byte(peersync.TypeReceipt), byte(0), mustMarshal([]any{1, 2, []any{[]any{make([]byte, 16), 1, 3}}, make([]byte, 64)}))
	f.Add(byte(peersync.TypeEvidence), byte(0), mustMarshal([]any{[][]byte{make([]byte, 8)}, [][]byte{make([]byte, 8)}, []byte{1}}))
	f.Add(byte(peersync.TypeReset), byte(0), []byte("statement"))
	for _, m := range [][]any{{1, 0, 0, 0, 9, 1, []byte{}}, {2, 0, 3, 3, 0, 0, []byte{}}, {3, 0, 3, 3, 0, 0, make([]byte, 16)}, {4, 0, 1, 3, 0, 0, make([]byte, 49)}} {
		f.Add(byte(peersync.TypeAsk), byte(0), mustMarshal(m))
	}
	f.Add(byte(peersync.TypeSpan), byte(0), []byte{0, 0, 1, 0, 3, 1, 2, 3})
	f.Add(byte(peersync.TypeFill), byte(0), []byte{3, 0, 0, 0, 1, 0, 2, 0})
	f.Add(byte(peersync.TypeFilled), byte(0), mustMarshal([]any{3}))
	f.Add(byte(peersync.TypeCheckpoint), byte(2), []byte{})
	f.Add(byte(peersync.TypeCheckpoint), byte(0), append([]byte{9}, make([]byte, 32+76)...))
	f.Fuzz(func(t *testing.T, kind, flags byte, p []byte) {
		w := newWorld(t, 27, 1)
		w.save(w.clinics[0], record.LaneClinical, 2)
		w.fuzzed()
		for _, pair := range [][2]*memory{{w.hub, w.clinics[0].memory}, {w.clinics[0].memory, w.hub}} {
			before := pair[0].sum()
			s := w.greeted(t, pair[0], pair[1])
			err := s.Handle(t.Context(), peersync.Frame{Type: peersync.Type(kind), Flags: flags, Payload: p})
			for ok := err == nil; ok; {
				if _, ok, err = s.Next(t.Context()); err != nil && !errors.Is(err, peersync.ErrBehind) {
					t.Fatal(err)
				}
			}
			if pair[0].sum() != before {
				t.Fatal("the replica changed")
			}
		}
	})
}

// fuzzed gives every session all that Options can do.
func (w *world) fuzzed() {
	all := map[*memory]*witness{}
	w.tweak = func(m *memory, o *peersync.Options) {
		if all[m] == nil {
			all[m] = &witness{w: w, m: m}
		}
		x := all[m]
		o.Evidence, o.TakeEvidence, o.Contradiction = x.evidence, x.take, x.contradiction
		o.Receipt = func(heads []record.ReceiptHead) (record.Receipt, bool) {
			return record.SignReceipt(w.region, w.now, w.now+1, heads, w.hubKey), m == w.hub
		}
		o.TakeReceipt = func(record.DeviceID, record.Receipt) error { return nil }
		o.Handover = func(uint64) ([]byte, []byte, bool) { return nil, []byte("reset"), true }
		o.HubsSize = func() uint64 { return 3 }
		o.TakeReset = func(record.DeviceID, []byte) error { return record.ErrMalformed }
	}
}
