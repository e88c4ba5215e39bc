package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/record"
)

// chain draws records of one feed with every shape that a core may have, linked
// as a box links them, and gives what a receiver must hold to read them.
func chain(t *rapid.T, key *box, lane record.Lane, first uint64, count int) (prev record.RID, out []record.Record) {
	var epoch record.EpochID
	copy(epoch[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "epoch"))
	copy(prev[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
	last := prev
	patients := []record.CompartmentID{{}, compartment("a"), compartment("b"), compartment("c"), compartment("d")}
	for i := range count {
		c := cores().Draw(t, "core")
		if c.Kind == record.KindEpochOpen {
			c.Kind = record.KindClinical
		}
		c.Epoch, c.Lane, c.N, c.Prev = epoch, lane, first+uint64(i), last
		c.Compartment = rapid.SampledFrom(patients).Draw(t, "compartment")
		r := record.Sign(c, rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "body"), key.key)
		last = r.RID()
		if rapid.IntRange(0, 4).Draw(t, "absent") == 0 {
			r = r.WithBody(nil)
		}
		out = append(out, r)
	}
	return prev, out
}

func sameRecord(got, want record.Record) bool {
	return got.RID() == want.RID() && got.Sig == want.Sig && bytes.Equal(got.Body, want.Body) && (got.Body == nil) == (want.Body == nil) &&
		bytes.Equal(got.CoreBytes(), want.CoreBytes()) && bytes.Equal(got.Core.Encode(), want.CoreBytes())
}

func TestRunRoundTrip(t *testing.T) {
	key := newBox("author")
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64Range(1, 1<<40).Draw(t, "first")
		lane := record.Lane(rapid.IntRange(0, 3).Draw(t, "lane"))
		prev, want := chain(t, key, lane, first, rapid.IntRange(1, 12).Draw(t, "count"))
		b := record.AppendRun(nil, want)
		at := record.Position{Epoch: want[0].Core.Epoch, Lane: lane, N: first - 1}
		got, err := record.ReadRun(b, func(p record.Position) (record.RID, bool) { return prev, p == at })
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, sameRecord) {
			t.Fatalf("got %d records that differ from the %d sent", len(got), len(want))
		}
		head, opening, count, err := record.RunHead(b)
		if err != nil || opening || head != want[0].Position() || count != uint64(len(want)) {
			t.Fatalf("got head %v, %v, %d, %v", head, opening, count, err)
		}
	})
}

func TestRunOfAnOpening(t *testing.T) {
	want := newBox("author").open()
	b := record.AppendRun(nil, []record.Record{want})
	got, err := record.ReadRun(b, func(record.Position) (record.RID, bool) {
		t.Error("an opening record continues nothing")
		return record.RID{}, false
	})
	if err != nil || len(got) != 1 || !sameRecord(got[0], want) || got[0].Position() != want.Position() {
		t.Errorf("got %v, %v", got, err)
	}
	if head, opening, count, err := record.RunHead(b); err != nil || !opening || count != 1 || head != (record.Position{}) {
		t.Errorf("got head %v, %v, %d, %v", head, opening, count, err)
	}
}

func TestRunAfterAGap(t *testing.T) {
	c := newBox("author")
	c.open()
	c.visit("a", "1")
	b := record.AppendRun(nil, []record.Record{c.visit("a", "2")})
	if _, err := record.ReadRun(b, func(record.Position) (record.RID, bool) { return record.RID{}, false }); !errors.Is(err, record.ErrGap) || errors.Is(err, record.ErrMalformed) {
		t.Errorf("got %v, want ErrGap", err)
	}
	// Hung onto another record, it becomes a record that nobody signed.
	got, err := record.ReadRun(b, func(record.Position) (record.RID, bool) { return record.RID{9}, true })
	if err != nil || got[0].VerifySignature(c.id) == nil {
		t.Errorf("a record on another chain verifies: %v", err)
	}
}

// replica is a receiver of segments: a ledger and what it holds in pending.
type replica struct {
	*ledger
	pending map[record.Position]record.Record
}

func (r replica) Held(p record.Position) (record.Record, bool, error) {
	rec, ok := r.pending[p]
	return rec, ok, nil
}

// prefix is the ledger when it had n entries.
func (l *ledger) prefix(t testing.TB, n uint64) *ledger {
	t.Helper()
	out := newLedger()
	o := record.NewOrderer(out, func(record.RID, [64]byte) bool { return true }) // l has verified them
	for _, e := range l.entries[:n] {
		if r, err := o.Add(e.Time, e.Record); err != nil || r.Verdict != record.Ordered {
			t.Fatalf("entry %d: %v, %v", e.Seq, r.Verdict, err)
		}
	}
	out.commit(o.Changes)
	return out
}

// A segment of any history, to a receiver of any size that holds any part of it
// in pending, comes back as the same leaves.
func TestSegmentRoundTrip(t *testing.T) {
	seed := testSeed(t)
	rng := newRand(seed)
	g, batches := history(t, rng, 60)
	for _, b := range batches {
		g.order(t, b.millis, b.records...)
	}
	for round := range 60 {
		from := uint64(rng.IntN(int(g.Size())))
		to := from + 1 + uint64(rng.IntN(int(g.Size()-from)))
		entries := g.entries[from:to]
		rx := replica{g.prefix(t, from), map[record.Position]record.Record{}}
		for _, e := range entries {
			if rng.IntN(3) == 0 || round%10 == 0 {
				rx.pending[e.Record.Position()] = e.Record
			}
		}
		b := record.AppendSegment([]byte("x"), entries, func(p record.Position) bool { _, ok := rx.pending[p]; return ok })
		start, got, err := record.ReadSegment(b[1:], rx)
		if err != nil || start != from {
			t.Fatalf("seed %d, entries %d to %d: got start %d, %v", seed, from, to, start, err)
		}
		o := record.NewOrderer(rx, nil)
		for i := range got {
			if got[i].Seq != entries[i].Seq || got[i].Time != entries[i].Time || !sameRecord(got[i].Record, entries[i].Record) {
				t.Fatalf("seed %d: entry %d differs", seed, entries[i].Seq)
			}
			if out, err := o.Add(got[i].Time, got[i].Record); err != nil || out.Verdict != record.Ordered || out.Seq != got[i].Seq {
				t.Fatalf("seed %d: entry %d: got %v, %v", seed, got[i].Seq, out, err)
			}
		}
		rx.commit(o.Changes)
		want := g.prefix(t, to)
		if rx.head() != want.head() {
			t.Fatalf("seed %d: got head %v, want %v", seed, rx.head(), want.head())
		}
	}
}

func TestSegmentErrors(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	g.mustOrder(t, c.visit("a", "1"), c.visit("a", "2"))
	size := g.Size()
	entries := g.entries[size-2:]
	all := func(record.Position) bool { return true }
	none := func(record.Position) bool { return false }
	empty := replica{newLedger(), nil}
	behind := replica{g.prefix(t, size-2), map[record.Position]record.Record{}}

	if _, _, err := record.ReadSegment(record.AppendSegment(nil, entries, none), empty); !errors.Is(err, record.ErrGap) {
		t.Errorf("an epoch that the receiver does not know: got %v, want ErrGap", err)
	}
	if _, _, err := record.ReadSegment(record.AppendSegment(nil, entries, all), behind); !errors.Is(err, record.ErrGap) {
		t.Errorf("known records that are not here: got %v, want ErrGap", err)
	}
	for name, b := range map[string][]byte{
		"nothing":                       {},
		"no entries":                    {0, 0, 0},
		"too many entries":              binary.AppendUvarint([]byte{0}, record.FrameRecordsMax+1),
		"a start past all":              binary.AppendUvarint(nil, 1<<63),
		"a feed past those met":         {0, 1, 0, 4},
		"lane 4":                        append([]byte{0, 1, 0, 0, 4}, make([]byte, 17)...),
		"an opening sent as a known":    {0, 1, 0, 1, 0x80, 0},
		"an opening named as known":     openingNamed(g),
		"a start in two bytes":          append([]byte{byte(size-2) | 0x80, 0}, record.AppendSegment(nil, entries, none)[1:]...),
		"an integer of eleven bytes":    bytes.Repeat([]byte{0xff}, 11),
		"a byte after the last":         append(record.AppendSegment(nil, entries, none), 0),
		"a byte of the last left out":   func() []byte { b := record.AppendSegment(nil, entries, none); return b[:len(b)-1] }(),
		"an entry fewer than announced": func() []byte { b := record.AppendSegment(nil, entries, none); b[1] = 3; return b }(),
	} {
		if _, got, err := record.ReadSegment(b, behind); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %d entries and %v, want ErrMalformed", name, len(got), err)
		}
	}
}

// openingNamed is a segment of one opening record that is sent and yet names its
// epoch, as only a known one does.
func openingNamed(g *region) []byte {
	epoch := g.clinics[0].epoch
	seq, _, _, _ := g.Ordered(record.Position{Epoch: epoch})
	e := g.entries[seq]
	at := len(binary.AppendVarint(binary.AppendUvarint(binary.AppendUvarint(nil, seq), 1), e.Time)) + 1 // past the reference
	b := record.AppendSegment(nil, []record.Entry{e}, func(record.Position) bool { return false })
	return slices.Concat(b[:at], []byte{0x81}, epoch[:], b[at+1:])
}

// A few bytes that name known records must not call up more than a bounded heap.
func TestSegmentOfManyLargeKnown(t *testing.T) {
	g := newRegion(t)
	c := g.clinics[0]
	rx := replica{g.prefix(t, g.Size()), map[record.Position]record.Record{}}
	for range 100 {
		r := c.write(record.LaneBulk, record.KindClinical, compartment("a"), make([]byte, record.BodyBytesMax))
		rx.pending[r.Position()] = r
		g.order(t, startMillis, r)
	}
	b := record.AppendSegment(nil, g.entries[g.Size()-100:], func(record.Position) bool { return true })
	if _, _, err := record.ReadSegment(b, rx); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("got %v for 19 MiB named in %d bytes, want ErrMalformed", err, len(b))
	}
	few := record.AppendSegment(nil, g.entries[g.Size()-100:g.Size()-50], func(record.Position) bool { return true })
	if _, got, err := record.ReadSegment(few, rx); err != nil || len(got) != 50 {
		t.Errorf("half of them: got %d entries, %v", len(got), err)
	}
}

// Changed wire bytes are refused, or make records whose signature fails, or name
// other places: never a record of the author that he did not sign.
func TestFlippedRun(t *testing.T) {
	c := newBox("author")
	c.open()
	c.visit("a", "0")
	at := record.Position{Epoch: c.epoch, Lane: record.LaneClinical, N: 1}
	prev := c.heads[record.LaneClinical].RID
	want := []record.Record{c.visit("a", "one"), c.visit("b", "two"), c.visit("a", "three")}
	b := record.AppendRun(nil, want)
	for i := range b {
		for bit := range 8 {
			x := bytes.Clone(b)
			x[i] ^= 1 << bit
			got, err := record.ReadRun(x, func(p record.Position) (record.RID, bool) { return prev, p == at })
			if err != nil {
				if !errors.Is(err, record.ErrMalformed) && !errors.Is(err, record.ErrGap) {
					t.Errorf("byte %d, bit %d: got %v", i, bit, err)
				}
				continue
			}
			if slices.EqualFunc(got, want, sameRecord) {
				t.Errorf("byte %d, bit %d: another form of the same run", i, bit)
			}
			for j := range got {
				if got[j].VerifySignature(c.id) == nil && got[j].VerifyBody() == nil && (j >= len(want) || !sameRecord(got[j], want[j])) {
					t.Errorf("byte %d, bit %d: record %d is new and verifies", i, bit, j)
				}
			}
		}
	}
	millis, n := binary.Varint(b[20:])
	for name, x := range map[string][]byte{
		"a byte after the last": append(bytes.Clone(b), 0),
		"a counter of 17 bits":  slices.Concat(b[:20+n], []byte{0x80, 0x80, 0x04}, b[21+n:]),
		"a time of 49 bits":     slices.Concat(b[:20], binary.AppendVarint(nil, millis+1<<48), b[20+n:]),
		"a time before 1970":    slices.Concat(b[:20], binary.AppendVarint(nil, -1), b[20+n:]),
	} {
		if _, err := record.ReadRun(x, func(record.Position) (record.RID, bool) { return prev, true }); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
	for n := range b {
		if _, err := record.ReadRun(b[:n], func(record.Position) (record.RID, bool) { return prev, true }); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("the first %d bytes: got %v, want ErrMalformed", n, err)
		}
	}
}

// Hostile bytes cost memory in proportion to their own length.
func TestHostileFramesAllocateLittle(t *testing.T) {
	seed := testSeed(t)
	rng := newRand(seed)
	g, batches := history(t, rng, 20)
	for _, b := range batches {
		g.order(t, b.millis, b.records...)
	}
	rx := replica{g.prefix(t, g.Size()/2), nil}
	good := record.AppendSegment(nil, g.entries[g.Size()/2:], func(record.Position) bool { return false })
	run := record.AppendRun(nil, []record.Record{g.clinics[0].visit("a", "1"), g.clinics[0].visit("b", "2")})
	batch := (&record.Batch{LeaderMillis: 1, Records: []record.Record{g.clinics[0].visit("a", "1")}}).Encode()
	note := []byte("x\n")

	inputs := [][]byte{{0x9b, 0, 0, 0, 1, 0, 0, 0, 0}, {0x83, 1, 0, 0x9a, 0xff, 0xff, 0xff, 0xff}, append([]byte{1}, bytes.Repeat([]byte{0xff}, 40)...)}
	for range 3000 {
		src := [][]byte{good, run, batch, note}[rng.IntN(4)]
		b := bytes.Clone(src)
		for range 1 + rng.IntN(6) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		inputs = append(inputs, b[:rng.IntN(len(b)+1)])
	}
	for _, b := range inputs {
		spent := allocated(func() {
			record.ReadRun(b, func(record.Position) (record.RID, bool) { return record.RID{}, true })
			record.ReadSegment(b, rx)
			record.DecodeBatch(b)
			record.DecodeHeader(b)
			record.DecodeCore(b)
			record.OpenCheckpoint(g.id.Ledger(1), b, g.hubIDs())
		})
		if limit := uint64(512<<10 + 100*len(b)); spent > limit {
			t.Fatalf("seed %d: %d bytes of input took %d bytes of memory, want at most %d: %x", seed, len(b), spent, limit, b[:min(len(b), 64)])
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
