package store_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// branch signs a chain of clinical records behind a head of a feed.
func branch(a store.Author, f record.Feed, head record.Head, n int, mark byte) []record.Record {
	var recs []record.Record
	for range n {
		r := record.Sign(record.Core{Epoch: f.Epoch, Lane: f.Lane, N: head.N + 1, Prev: head.RID, HLC: 1, Kind: record.KindClinical, Compartment: record.CompartmentID{1, mark}},
			[]byte{mark, byte(head.N), byte(head.N >> 8)}, a.Key)
		recs = append(recs, r)
		head = record.Head{N: head.N + 1, RID: r.RID()}
	}
	return recs
}

func (b *box) verdicts(recs []record.Record) []record.Verdict {
	b.t.Helper()
	in, err := b.s.Ingest(ctx, b.a.Device, recs)
	if err != nil {
		b.t.Fatal(err)
	}
	var out []record.Verdict
	for _, o := range in.Refused {
		out = append(out, o.Verdict)
	}
	return out
}

// TestBothBranchesAreKept: a second chain of an author, longer than the first, is
// kept whole with its bodies, whichever comes first and whatever order it comes in.
func TestBothBranchesAreKept(t *testing.T) {
	hub, clinic := pair(t)
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	epoch := clinic.append(visit(1, 100, rand.New(rand.NewPCG(1, 1))))[0].Core.Epoch
	f := record.Feed{Epoch: epoch, Lane: record.LaneClinical}
	head, _, err := hub.s.State().Head(f)
	if err != nil {
		t.Fatal(err)
	}
	first, second := branch(clinic.a, f, head, 3, 1), branch(clinic.a, f, head, 6, 2)
	if got := hub.verdicts(first); len(got) != 0 {
		t.Fatalf("first branch: %v", got)
	}
	forged := second[0]
	forged.Sig[3] ^= 1
	stranger := branch(hub.a, f, head, 1, 3)[0]
	for what, c := range map[string]struct {
		r    record.Record
		want record.Verdict
	}{"forged": {forged, record.BadSignature}, "another author": {stranger, record.BadSignature}, "other body": {second[0].WithBody([]byte("x")), record.BadBody}, "no body": {second[0].WithBody(nil), record.BadBody}} {
		if got := hub.verdicts([]record.Record{c.r}); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	if list, err := hub.s.Refused(); err != nil || len(list) != 0 {
		t.Fatalf("kept what the author did not sign: %+v, %v", list, err)
	}
	want := []record.Verdict{record.Equivocation, record.Equivocation, record.Equivocation, record.BadPrev, record.BadPrev, record.BadPrev}
	mark := hub.s.RefusedMark()
	for round := range 2 {
		got := hub.verdicts(second)
		if now := hub.s.RefusedMark(); (now == mark) != (round == 1) {
			t.Errorf("round %d: mark %x, before %x", round, now, mark)
		}
		mark = hub.s.RefusedMark()
		for i := range want {
			if len(got) != len(want) || got[i] != want[i] {
				t.Fatalf("second branch: %v, want %v", got, want)
			}
		}
		checkKept(t, hub.s, first, second)
		hub.reopen()
	}
	// The other branch is the one that gets ordered: the first moves aside whole.
	hub.orderRecords(second)
	checkKept(t, hub.s, first, second)
	if list, err := hub.s.Refused(); err != nil || len(list) != 3 {
		t.Errorf("%d refusals, %v; want the three that lost", len(list), err)
	}
	hub.reopen()
	checkKept(t, hub.s, first, second)
}

func checkKept(t *testing.T, s *store.Store, branches ...[]record.Record) {
	t.Helper()
	for b, recs := range branches {
		for i := range recs {
			got, ok, err := s.ByRID(recs[i].RID())
			if err != nil || !ok || !bytes.Equal(got.Body, recs[i].Body) || got.Sig != recs[i].Sig {
				t.Errorf("branch %d, record %d: found %v, %v; it must stay", b, i, ok, err)
			}
		}
	}
}

// TestLongBranchThatLosesIsListed: what was pending behind a record that lost its
// place is refused with it, in one transaction with the winner.
func TestLongBranchThatLosesIsListed(t *testing.T) {
	hub, clinic := pair(t)
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	epoch := clinic.append(visit(1, 100, rand.New(rand.NewPCG(1, 1))))[0].Core.Epoch
	f := record.Feed{Epoch: epoch, Lane: record.LaneClinical}
	head, _, _ := hub.s.State().Head(f)
	long, short := branch(clinic.a, f, head, 300, 1), branch(clinic.a, f, head, 2, 2)
	hub.verdicts(long)
	hub.orderRecords(short)
	list, err := hub.s.Refused()
	if err != nil || len(list) != len(long) {
		t.Fatalf("%d refusals, %v; want %d", len(list), err, len(long))
	}
	checkKept(t, hub.s, long, short)
	hub.reopen()
	if got := hub.verdicts(branch(clinic.a, f, record.Head{N: 2, RID: short[1].RID()}, 5, 4)); len(got) != 0 {
		t.Errorf("the winning branch does not go on: %v", got)
	}
	hub.order()
	checkKept(t, hub.s, long, short)
}

// TestRefusalsOfOneAuthorAreBounded: the oldest stay, and others are not touched.
func TestRefusalsOfOneAuthorAreBounded(t *testing.T) {
	const kept, more = 1000, 40
	hub, clinic := pair(t)
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	epoch := clinic.append(visit(1, 100, rand.New(rand.NewPCG(1, 1))))[0].Core.Epoch
	f := record.Feed{Epoch: epoch, Lane: record.LaneClinical}
	head, _, _ := hub.s.State().Head(f)
	hub.verdicts(branch(clinic.a, f, head, 1, 1))
	second := branch(clinic.a, f, head, kept+more, 2)
	hub.verdicts(second[:kept-10])
	hub.reopen()
	hub.verdicts(second[kept-10:])
	list, err := hub.s.Refused()
	if err != nil || len(list) != kept {
		t.Errorf("%d refusals kept, %v; want %d", len(list), err, kept)
	}
	checkKept(t, hub.s, second[:kept])
}

// TestFrozenFeedIsKept: once the ledger holds the proof of two records for one place,
// what comes behind the place is kept and goes nowhere.
func TestFrozenFeedIsKept(t *testing.T) {
	hub, clinic := pair(t)
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	epoch := clinic.append(visit(1, 100, rand.New(rand.NewPCG(1, 1))))[0].Core.Epoch
	f := record.Feed{Epoch: epoch, Lane: record.LaneClinical}
	head, _, _ := hub.s.State().Head(f)
	first, second := branch(clinic.a, f, head, 4, 1), branch(clinic.a, f, head, 1, 2)
	hub.verdicts(first[:2])
	hub.order()
	opening, ok, err := hub.s.Held(record.Position{Epoch: epoch})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	proof, err := record.NewEquivocation(opening, first[0], second[0])
	if err != nil {
		t.Fatal(err)
	}
	hub.beginEpoch()
	hub.append(store.Draft{Lane: record.LaneControl, Kind: record.KindEvidence, Seal: fixed(proof.Encode())})
	hub.order()
	for _, b := range []*box{hub, clinic} {
		if b == clinic {
			clinic.pull(hub)
		}
		late := branch(clinic.a, f, record.Head{N: 2, RID: first[1].RID()}, 3, 5)
		if got := b.verdicts(late); len(got) != 3 || got[0] != record.Frozen || got[2] != record.Frozen {
			t.Errorf("records behind the freeze: %v, want frozen", got)
		}
		if got := b.verdicts(second); len(got) != 1 || got[0] != record.Equivocation {
			t.Errorf("the other record of the place: %v", got)
		}
		checkKept(t, b.s, late, second, first[:2])
		b.reopen()
		checkKept(t, b.s, late, second, first[:2])
	}
}
