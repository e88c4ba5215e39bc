package record_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/record"
)

// batch is what a leader proposed at one moment.
type batch struct {
	millis  int64
	records []record.Record
}

// history is what hubs may be handed: honest work of five boxes in any order,
// with restarts, repeats, losses, forgeries, contradictions and changing members.
func history(t *testing.T, rng *rand.Rand, batches int) (*region, []batch) {
	t.Helper()
	g := newRegion(t)
	boxes := append(g.hubs[:], g.clinics[:]...)
	for i := range 3 {
		boxes = append(boxes, newBox(fmt.Sprintf("later %d", i)))
	}
	var out []batch
	var old []record.Record
	millis := int64(startMillis + 60_000)
	for range batches {
		// Small steps: past a day in one batch the bound on ledger time counts
		// batches, so cutting one would show.
		millis += rng.Int64N(40*60*1000) - 10*60*1000
		b := batch{millis: millis}
		for range 1 + rng.IntN(12) {
			r := someRecord(rng, boxes, old)
			old = append(old, r)
			b.records = append(b.records, r)
		}
		if rng.IntN(3) == 0 {
			rng.Shuffle(len(b.records), func(i, j int) { b.records[i], b.records[j] = b.records[j], b.records[i] })
		}
		out = append(out, b)
	}
	return g, out
}

func someRecord(rng *rand.Rand, boxes []*box, old []record.Record) record.Record {
	b := boxes[rng.IntN(len(boxes))]
	other := boxes[rng.IntN(len(boxes))]
	if b.epoch == (record.EpochID{}) {
		return b.open()
	}
	b.size += uint64(rng.IntN(4))
	patient := fmt.Sprint("patient ", rng.IntN(4))
	switch n := rng.IntN(43); {
	case n < 22:
		return b.write(record.Lane(rng.IntN(record.LaneCount)), record.KindClinical, compartment(patient), randomBytes(rng, 1+rng.IntN(90)))
	case n < 25:
		return b.open()
	case n < 28:
		return b.add(other, []record.Role{record.RoleHub, record.RoleClinic, record.RoleField}[rng.IntN(3)])
	case n < 29:
		return b.revoke(other)
	case n < 31:
		return b.session(staffKey(patient))
	case n < 32: // never arrives
		b.visit(patient, "lost")
		return b.visit(patient, "after the lost one")
	case n < 34: // an attempt that the box forgets: the position is used twice
		was := *b
		r := b.visit(patient, "forgotten")
		*b = was
		return r
	case n < 35:
		return signedBy(b.visit(patient, "forged"), other)
	case n < 36:
		return b.visit(patient, "changed").WithBody([]byte("another"))
	case n < 37:
		return b.recovery(1, other)
	case n < 38:
		return b.write(record.LaneAudit, record.KindAttest, record.CompartmentID{}, mustMarshal(record.Attest{Size: b.size, Root: make([]byte, 32)}))
	case n < 39:
		return someEvidence(rng, b, other, old)
	}
	if len(old) == 0 {
		return b.open()
	}
	return old[rng.IntN(len(old))]
}

// someEvidence has b show that other contradicted itself, where its opening record
// is among the old ones, and remembers one of the two records as other's.
func someEvidence(rng *rand.Rand, b, other *box, old []record.Record) record.Record {
	at := slices.IndexFunc(old, func(r record.Record) bool { return r.RID() == other.opened })
	if at < 0 || b == other {
		return b.open()
	}
	was := *other
	one := was.visit("a", "one")
	two := other.visit("a", "two")
	e, err := record.NewEquivocation(old[at], one, two)
	if err != nil {
		panic(err)
	}
	return b.write(record.Lane(rng.IntN(record.LaneCount)), record.KindEvidence, record.CompartmentID{}, e.Encode())
}

func (l *ledger) leaves() []byte {
	var out bytes.Buffer
	for i := range l.entries {
		out.Write(l.entries[i].EncodeLeaf())
		out.Write(l.entries[i].Record.Body)
	}
	return out.Bytes()
}

func sameLedger(t *testing.T, what string, got, want *ledger) {
	t.Helper()
	if got.head() != want.head() || !bytes.Equal(got.leaves(), want.leaves()) {
		t.Errorf("%s: got head %v, want %v", what, got.head(), want.head())
	}
	if d := cmp.Diff(want.members, got.members); d != "" {
		t.Errorf("%s: members (-want +got):\n%s", what, d)
	}
	if d := cmp.Diff(want.epochs, got.epochs); d != "" {
		t.Errorf("%s: epochs (-want +got):\n%s", what, d)
	}
	if d := cmp.Diff(want.registry, got.registry); d != "" {
		t.Errorf("%s: registry (-want +got):\n%s", what, d)
	}
}

// Ordering is a pure function: a second hub comes to the same entries and the
// same answers, however the batches were cut, and whether it took them apart
// from bytes or met them in memory.
func TestOrderingIsPure(t *testing.T) {
	seed := testSeed(t)
	for round := range uint64(12) {
		rng := newRand(seed + round)
		g, batches := history(t, rng, 30)
		var want []record.Outcome
		verdicts := map[record.Verdict]int{}
		for _, b := range batches {
			want = append(want, g.order(t, b.millis, b.records...)...)
		}
		for _, o := range want {
			verdicts[o.Verdict]++
		}
		g.Check(t)
		if verdicts[record.Ordered] < 30 || len(verdicts) < 6 {
			t.Errorf("a history that tests little: %v", verdicts)
		}

		again, split := newRegion(t), newRegion(t)
		var got, gotSplit []record.Outcome
		for _, b := range batches {
			item := record.Batch{LeaderMillis: b.millis, Records: b.records}
			read, err := record.DecodeBatch(item.Encode())
			if err != nil {
				t.Fatalf("reading a batch: %v", err)
			}
			got = append(got, again.order(t, read.LeaderMillis, read.Records...)...)
			for rest := b.records; len(rest) > 0; {
				n := 1 + rng.IntN(len(rest))
				gotSplit = append(gotSplit, split.order(t, b.millis, rest[:n]...)...)
				rest = rest[n:]
			}
		}
		sameLedger(t, "from bytes", again.ledger, g.ledger)
		sameLedger(t, "split", split.ledger, g.ledger)
		if !slices.Equal(got, want) || !slices.Equal(gotSplit, want) {
			t.Errorf("the answers differ: %v", cmp.Diff(want, got)+cmp.Diff(want, gotSplit))
		}
	}
}

// Handing everything in again changes nothing, in any order.
func TestOrderingTwiceIsHarmless(t *testing.T) {
	seed := testSeed(t)
	rng := newRand(seed)
	g, batches := history(t, rng, 60)
	var ordered []record.Record
	for _, b := range batches {
		for i, out := range g.order(t, b.millis, b.records...) {
			if out.Verdict == record.Ordered {
				ordered = append(ordered, b.records[i])
			}
		}
	}
	before := g.head()
	rng.Shuffle(len(ordered), func(i, j int) { ordered[i], ordered[j] = ordered[j], ordered[i] })
	for i, out := range g.order(t, startMillis, ordered...) {
		if out.Verdict != record.Duplicate || g.entries[out.Seq].Record.RID() != ordered[i].RID() {
			t.Errorf("record %d: got %q at seq %d, want a duplicate at its own", i, out.Verdict, out.Seq)
		}
	}
	if g.head() != before {
		t.Errorf("got head %v, want %v", g.head(), before)
	}
}

// A caller may take the changes away between batches and go on.
func TestOrdererSeesWhatWasTakenAway(t *testing.T) {
	g := newRegion(t)
	o := record.NewOrderer(g, nil)
	c := g.clinics[0]
	first := c.visit("a", "1")
	for i, r := range []record.Record{first, c.visit("a", "2"), first} {
		out, err := o.Add(0, r)
		if err != nil || (out.Verdict == record.Duplicate) != (i == 2) {
			t.Errorf("record %d: got %q, %v", i, out.Verdict, err)
		}
		o.Changes = record.Changes{}
	}
}
