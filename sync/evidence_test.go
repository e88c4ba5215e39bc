package peersync_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// witness is what a box does about evidence, as package node does it.
type witness struct {
	w     *world
	m     *memory
	known [][]byte // newest first
	told  int      // contradictions
	heard int      // pieces of peers

	declines bool // keeps nothing of peers
	seen     map[[8]byte]bool
}

func (w *world) witnesses(ms ...*memory) map[*memory]*witness {
	all := map[*memory]*witness{}
	for _, m := range ms {
		all[m] = &witness{w: w, m: m}
	}
	w.tweak = func(m *memory, o *peersync.Options) {
		if x := all[m]; x != nil {
			o.Evidence, o.TakeEvidence, o.Contradiction = x.evidence, x.take, x.contradiction
			o.LooksAt = func(id [8]byte) bool { return !x.seen[id] }
		}
	}
	return all
}

func (x *witness) evidence() [][]byte { return x.known }

func (x *witness) take(_ record.DeviceID, b []byte) error {
	x.heard++
	e, err := record.DecodeEvidence(b)
	if err != nil {
		return err
	}
	if _, err := e.Verify(x.w.region, []record.DeviceID{x.w.hub.self}); err != nil {
		return err
	}
	if x.declines {
		id := e.ID()
		if x.seen == nil {
			x.seen = map[[8]byte]bool{}
		}
		x.seen[[8]byte(id[:8])] = true
		return nil
	}
	x.keep(b)
	return nil
}

func (x *witness) keep(b []byte) {
	if !slices.ContainsFunc(x.known, func(k []byte) bool { return bytes.Equal(k, b) }) {
		x.known = slices.Insert(x.known, 0, b)
	}
}

func (x *witness) contradiction(_ record.DeviceID, theirs []byte) []byte {
	x.told++
	own, head, _ := x.m.Final()
	cp, err := x.w.final(theirs)
	if err != nil || cp.Head.Size > head.Size {
		return nil
	}
	root, err := x.m.RootAt(cp.Head.Size)
	if err != nil {
		return nil
	}
	proof, err := x.m.ConsistencyProof(cp.Head.Size, head.Size)
	if err != nil {
		return nil
	}
	e, err := record.NewSplitView(x.w.region.Ledger(1), theirs, own, root, proof, []record.DeviceID{x.w.hub.self})
	if err != nil {
		return nil
	}
	x.keep(e.Encode())
	return e.Encode()
}

// twoViews gives a region whose hub shows clinic 0 one ledger and clinic 1
// another, which is larger by more entries.
func twoViews(t *testing.T, seed uint64, more int) (w *world, lie *memory) {
	t.Helper()
	w = newWorld(t, seed, 3)
	lie = newMemory(w.hub.self)
	if err := w.copyTo(lie); err != nil {
		t.Fatal(err)
	}
	for i, hub := range []*memory{w.hub, lie} {
		c := w.clinics[i]
		w.save(c, record.LaneClinical, 3+i*more)
		if _, _, err := w.meet(c.memory, hub, noLimit); err != nil {
			t.Fatal(err)
		}
		w.now += 5
		hub.order(w.now, hub.allPending())
		w.sign(hub)
		if _, _, err := w.meet(c.memory, hub, noLimit); err != nil {
			t.Fatal(err)
		}
		if c.Head() != hub.Head() {
			t.Fatalf("clinic %d at size %d, want %d", i, c.Head().Size, hub.Head().Size)
		}
	}
	return w, lie
}

func TestTwoViewsBecomeEvidence(t *testing.T) {
	for _, more := range []int{0, 4} {
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			w, _ := twoViews(t, 40, more)
			a, b := w.clinics[0], w.clinics[1]
			all := w.witnesses(a.memory, b.memory, w.clinics[2].memory)
			w.save(a, record.LaneClinical, 2)
			w.save(b, record.LaneControl, 2)
			heads := [2]record.TreeHead{a.Head(), b.Head()}
			if _, x, err := w.meet(a.memory, b.memory, noLimit); err != nil {
				t.Fatal(err)
			} else if x.frames[peersync.TypeSegment] != 0 {
				t.Errorf("%d segments between ledgers that contradict each other", x.frames[peersync.TypeSegment])
			}
			if got := [2]record.TreeHead{a.Head(), b.Head()}; got != heads {
				t.Errorf("ledgers moved from %v to %v", heads, got)
			}
			for i, m := range []*memory{a.memory, b.memory} {
				x := all[m]
				if len(x.known) == 0 {
					t.Fatalf("clinic %d has no evidence after one meeting", i)
				}
				e, err := record.DecodeEvidence(x.known[0])
				if err != nil {
					t.Fatal(err)
				}
				f, err := e.Verify(w.region, []record.DeviceID{w.hub.self})
				if err != nil || !f.Final || len(f.Culprits) != 1 || f.Culprits[0] != w.hub.self {
					t.Errorf("clinic %d: finding %+v, %v", i, f, err)
				}
				t.Logf("evidence of %d bytes", len(x.known[0]))
			}
			// What staff wrote goes on between them, whatever hubs did.
			for _, c := range []*clinic{a, b} {
				peer := map[*clinic]*clinic{a: b, b: a}[c]
				for _, f := range c.allFeeds() {
					if f.Author != c.self {
						continue
					}
					if _, ok, err := peer.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: f.HeldN}); err != nil || !ok && peer.knowsEpoch(f.Epoch) {
						t.Errorf("n %d of lane %d did not reach the other side (%v)", f.HeldN, f.Lane, err)
					}
				}
			}
		})
	}
}

func (m *memory) knowsEpoch(id record.EpochID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.authorLocked(id)
	return ok
}

// TestPendingCrossesAFork: a box whose own records are not in the other's ledger
// hands them over all the same, opening record first.
func TestPendingCrossesAFork(t *testing.T) {
	w, _ := twoViews(t, 41, 2)
	c := w.clinics[2] // follows the lie and writes its first record
	all := w.witnesses(w.clinics[0].memory, c.memory)
	if err := w.copyFrom(w.clinics[1].memory, c.memory); err != nil {
		t.Fatal(err)
	}
	w.save(c, record.LaneClinical, 5)
	if _, _, err := w.meet(w.clinics[0].memory, c.memory, noLimit); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := w.clinics[0].HeldRID(record.Position{Epoch: c.author.epoch, Lane: record.LaneClinical, N: 5}); err != nil || !ok {
		t.Errorf("the records did not cross (%v)", err)
	}
	if all[c.memory].known == nil || all[w.clinics[0].memory].known == nil {
		t.Error("no evidence after one meeting")
	}
}

func (w *world) copyFrom(from, to *memory) error {
	note, head, _ := from.Final()
	entries, err := from.Entries(to.Head().Size, head.Size, 1<<30)
	if err != nil {
		return err
	}
	if err := to.Extend(w.t.Context(), entries, head, nil); err != nil {
		return err
	}
	return to.PutFinal(note, head)
}

// TestForkWithoutNotes: a head that nobody signed ends the exchange of entries
// and nothing else.
func TestForkWithoutNotes(t *testing.T) {
	w, _ := twoViews(t, 42, 3)
	a, b := w.clinics[0], w.clinics[1]
	all := w.witnesses(a.memory, b.memory)
	a.note, a.final = nil, record.TreeHead{}
	w.save(a, record.LaneBulk, 1)
	sa, sb := w.pair(a.memory, b.memory)
	x := &exchange{a: sa, b: sb}
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if sa.Waiting() || sb.Waiting() {
		t.Error("a side waits for an answer that will not come")
	}
	if x.frames[peersync.TypeSegment] != 0 || len(all[a.memory].known)+len(all[b.memory].known) != 0 {
		t.Errorf("frames %v, %d pieces of evidence", x.frames, len(all[a.memory].known))
	}
	// Without anybody to tell, the session ends as it did before.
	w.tweak = nil
	if _, _, err := w.meet(a.memory, b.memory, noLimit); !errors.Is(err, peersync.ErrFork) {
		t.Errorf("without a place for contradictions: %v, want ErrFork", err)
	}
}

// TestForkProvedLater: the two have nothing signed that contradicts the other, until
// one of them gets there while the session stands.
func TestForkProvedLater(t *testing.T) {
	w, _ := twoViews(t, 49, 3)
	for i, late := range []*memory{w.clinics[0].memory, w.clinics[1].memory} {
		note, final := late.note, late.final
		late.note, late.final = nil, record.TreeHead{}
		all := w.witnesses(w.clinics[0].memory, w.clinics[1].memory)
		sa, sb := w.pair(w.clinics[0].memory, w.clinics[1].memory)
		x := &exchange{a: sa, b: sb}
		if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
			t.Fatal(err)
		}
		for m, y := range all {
			if len(y.known) != 0 {
				t.Fatalf("clinic %d late: %s has evidence of nothing", i, m.self.Short())
			}
		}
		late.note, late.final = note, final
		sa.Changed()
		sb.Changed()
		if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
			t.Fatal(err)
		}
		for m, y := range all {
			if len(y.known) != 1 {
				t.Errorf("clinic %d late: %s has %d pieces of evidence, want 1", i, m.self.Short(), len(y.known))
			}
		}
	}
}

// TestOvertakenTarget: a final checkpoint that one session announced contradicts
// what another session brought.
func TestOvertakenTarget(t *testing.T) {
	w, lie := twoViews(t, 43, 4)
	c := w.clinics[2]
	all := w.witnesses(c.memory)
	s := peersync.NewSession(c.memory, w.hub.self, w.options(c.memory))
	if _, _, err := s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Handle(t.Context(), w.helloOf(t, w.hub, c.self)); err != nil {
		t.Fatal(err)
	}
	if err := w.copyFrom(lie, c.memory); err != nil { // the other session
		t.Fatal(err)
	}
	s.Changed()
	kinds := map[peersync.Type]int{}
	for {
		f, ok, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		kinds[f.Type]++
	}
	if x := all[c.memory]; x.told != 1 || len(x.known) != 1 || kinds[peersync.TypeEvidence] != 1 {
		t.Errorf("told %d times, %d pieces known, frames %v", x.told, len(x.known), kinds)
	}
}

// TestEvidenceIsGossiped passes evidence along a row of boxes; who has it does not
// get it again.
func TestEvidenceIsGossiped(t *testing.T) {
	w, _ := twoViews(t, 44, 2)
	a, b, c := w.clinics[0].memory, w.clinics[1].memory, w.clinics[2].memory
	all := w.witnesses(a, b, c, w.hub)
	if _, _, err := w.meet(a, b, noLimit); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]*memory{{a, c}, {c, w.hub}} {
		if _, _, err := w.meet(pair[0], pair[1], noLimit); err != nil {
			t.Fatal(err)
		}
		if x := all[pair[1]]; !slices.EqualFunc(x.known, all[a].known, bytes.Equal) {
			t.Errorf("%d pieces arrived, want %d", len(x.known), len(all[a].known))
		}
	}
	heard := all[c].heard
	n, x, err := w.meet(a, c, noLimit)
	if err != nil || all[c].heard != heard {
		t.Errorf("known evidence was sent again: %d pieces, %v", all[c].heard-heard, err)
	}
	if n > 1000 {
		t.Errorf("nothing new took %d bytes, frames %v", n, x.frames)
	}
	t.Logf("nothing new where both know %d pieces: %d bytes, frames %v", len(all[a].known), n, x.frames)
}

// TestEvidenceThatWasNotKept: who looked at a piece and keeps it not, because it has
// one like it, does not ask for it at every meeting.
func TestEvidenceThatWasNotKept(t *testing.T) {
	w, _ := twoViews(t, 47, 2)
	a, b, c := w.clinics[0].memory, w.clinics[1].memory, w.clinics[2].memory
	all := w.witnesses(a, b, c)
	all[c].declines = true
	if _, _, err := w.meet(a, b, noLimit); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, _, err := w.meet(a, c, noLimit); err != nil {
			t.Fatal(err)
		}
		if want := len(all[a].known); all[c].heard != want || want == 0 {
			t.Errorf("meeting %d: %d pieces came, want %d once", i, all[c].heard, want)
		}
	}
}

// TestEvidenceGoesFirst: before pending records, and before entries.
func TestEvidenceGoesFirst(t *testing.T) {
	w, _ := twoViews(t, 45, 2)
	a, b, c := w.clinics[0].memory, w.clinics[1].memory, w.clinics[2].memory
	w.witnesses(a, b, c)
	if _, _, err := w.meet(a, b, noLimit); err != nil {
		t.Fatal(err)
	}
	w.save(w.clinics[0], record.LaneControl, 5)
	s := w.greeted(t, a, c)
	if f, ok, err := s.Next(t.Context()); err != nil || !ok || f.Type != peersync.TypeEvidence {
		t.Errorf("first frame after the greeting is of type %#x (%t, %v), want evidence", f.Type, ok, err)
	}
}

func TestHostileEvidence(t *testing.T) {
	w, _ := twoViews(t, 46, 2)
	a, b, c := w.clinics[0].memory, w.clinics[1].memory, w.clinics[2].memory
	all := w.witnesses(a, b, c)
	if _, _, err := w.meet(a, b, noLimit); err != nil {
		t.Fatal(err)
	}
	good := all[a].known[0]
	none := [][]byte{}
	ids := func(n, size int) [][]byte {
		out := make([][]byte, n)
		for i := range out {
			out[i] = bytes.Repeat([]byte{byte(i)}, size)
		}
		return out
	}
	for _, x := range []struct {
		name string
		m    []any
		ok   bool
	}{
		{"true", []any{none, none, good}, true},
		{"one byte changed", []any{none, none, append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1)}, true}, // not proven: left alone
		{"garbage", []any{none, none, []byte("garbage")}, false},
		{"cut short", []any{none, none, good[:len(good)-1]}, false},
		{"bytes after it", []any{none, none, append(bytes.Clone(good), 0)}, false},
		{"too long", []any{none, none, make([]byte, 8<<10+1)}, false},
		{"nine names", []any{ids(9, 8), none, []byte{}}, false},
		{"short names", []any{none, ids(2, 7), []byte{}}, false},
		{"wanted of what is not here", []any{none, ids(8, 8), []byte{}}, true},
		{"two fields", []any{none, none}, false},
	} {
		s := w.greeted(t, c, a)
		known := len(all[c].known)
		err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeEvidence, Payload: mustMarshal(x.m)})
		if x.ok != (err == nil) || err != nil && !errors.Is(err, peersync.ErrMisbehaved) {
			t.Errorf("%s: %v", x.name, err)
		}
		if x.name != "true" && len(all[c].known) != known {
			t.Errorf("%s was kept", x.name)
		}
	}
	// Ten thousand of each: bounded, and the same piece twice changes nothing.
	for name, m := range map[string][]any{"pieces": {none, none, good}, "names": {ids(8, 8), none, []byte{}}, "questions": {none, ids(8, 8), []byte{}}} {
		s := w.greeted(t, c, a)
		before, n := all[c].heard, 0
		for ; n < 10_000; n++ {
			if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeEvidence, Payload: mustMarshal(m)}); err != nil {
				if !errors.Is(err, peersync.ErrMisbehaved) {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
		}
		if n > 1024 || all[c].heard-before > 64 {
			t.Errorf("%s: %d frames taken, %d pieces verified", name, n, all[c].heard-before)
		}
	}
	// A full disk is not the peer's fault.
	w.tweak = func(_ *memory, o *peersync.Options) {
		o.TakeEvidence = func(record.DeviceID, []byte) error { return errLocal }
	}
	s := w.greeted(t, c, a)
	if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeEvidence, Payload: mustMarshal([]any{none, none, good})}); !errors.Is(err, peersync.ErrLocal) {
		t.Errorf("a full disk: %v, want ErrLocal", err)
	}
}

// TestContradictionsAreBounded: a peer that signs ever new trees is told of a few.
func TestContradictionsAreBounded(t *testing.T) {
	w, _ := twoViews(t, 47, 0)
	c := w.clinics[0].memory
	all := w.witnesses(c)
	s := w.greeted(t, c, w.hub)
	head := c.Head()
	for i := range 10_000 {
		head.Root = record.Hash{byte(i), byte(i >> 8), 1}
		note, err := record.Cosign(w.region.Ledger(1), head, w.hubKey, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Handle(t.Context(), peersync.Frame{Type: peersync.TypeCheckpoint, Payload: note}); err != nil {
			t.Fatal(err)
		}
	}
	if n := all[c].told; n == 0 || n > 16 {
		t.Errorf("told %d times", n)
	}
}

// TestForkedSessionStays holds a session of two contradicting boxes open: it rests,
// and what is written later crosses.
func TestForkedSessionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := twoViews(t, 48, 2)
		a, b := w.clinics[0], w.clinics[1]
		w.witnesses(a.memory, b.memory)
		line := lay(50*time.Millisecond, 0, -1)
		m := w.begin(a.memory, b.memory, line, 0)
		time.Sleep(time.Hour)
		moved := line.moved()
		w.save(a, record.LaneClinical, 1)
		time.Sleep(time.Minute)
		if ea, eb := m.end(); !linkOnly(ea) || !linkOnly(eb) {
			t.Errorf("ended with %v; %v", ea, eb)
		}
		if moved > 4000 {
			t.Errorf("an hour of nothing took %d bytes", moved)
		}
		t.Logf("greeting, evidence and an hour of nothing: %d bytes", moved)
	})
}
