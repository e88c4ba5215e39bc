package store_test

import (
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// check verifies every invariant of a store: all that Verify knows, and that the
// readers agree with each other.
func check(t testing.TB, s *store.Store) {
	t.Helper()
	rep, err := s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil {
		t.Fatalf("verifying: %v", err)
	}
	for _, d := range rep.Damage {
		t.Errorf("verifying: %v", &d)
	}
	head := s.Head()
	if rep.Entries+rep.Absent != head.Size || rep.Absent != s.Absent() {
		t.Errorf("verified %d entries and %d in holes, ledger of size %d", rep.Entries, rep.Absent, head.Size)
	}
	if root, err := s.RootAt(head.Size); err != nil || root != head.Root {
		t.Errorf("root at %d is %x, %v; want %x", head.Size, root, err, head.Root)
	}
	if _, _, size := s.Applied(); size != head.Size {
		t.Errorf("applied says size %d, head %d", size, head.Size)
	}
	checkPending(t, s)
	if !s.HasHoles() {
		checkProofs(t, s, head)
	}
}

func checkPending(t testing.TB, s *store.Store) {
	t.Helper()
	feeds, err := s.PendingFeeds()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range feeds {
		if f.HeldN <= f.OrderedN && !(f.Opening && f.Lane == record.LaneControl) {
			t.Errorf("feed %v is listed as pending but holds nothing: %+v", f.Feed, f)
		}
		recs, err := s.Pending(f.Feed, 0, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		want := f.HeldN - f.OrderedN
		if f.Opening && f.Lane == record.LaneControl {
			want++
		}
		if uint64(len(recs)) != want {
			t.Errorf("feed %v holds %d pending records, want %d", f.Feed, len(recs), want)
		}
		for i := range recs {
			loc, ok, err := s.Locate(recs[i].RID())
			if err != nil || !ok || !loc.Pending || loc.Position != recs[i].Position() {
				t.Errorf("pending record %s is at %+v, %v, %v", recs[i].RID().Short(), loc, ok, err)
			}
			rid, ok, err := s.HeldRID(recs[i].Position())
			if err != nil || !ok || rid != recs[i].RID() {
				t.Errorf("position of pending record %s holds %s, %v, %v", recs[i].RID().Short(), rid.Short(), ok, err)
			}
		}
	}
}

// checkProofs proves some entries and some older sizes.
func checkProofs(t testing.TB, s *store.Store, head record.TreeHead) {
	t.Helper()
	for _, seq := range []uint64{0, head.Size / 3, head.Size / 2, head.Size - 1} {
		if seq >= head.Size {
			continue
		}
		e, err := s.Entry(seq)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := s.InclusionProof(seq, head.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := record.VerifyInclusion(head, seq, record.LeafHash(e.EncodeLeaf()), proof); err != nil {
			t.Error(err)
		}
		root, err := s.RootAt(seq + 1)
		if err != nil {
			t.Fatal(err)
		}
		proof, err = s.ConsistencyProof(seq+1, head.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := record.VerifyConsistency(record.TreeHead{Size: seq + 1, Root: root}, head, proof); err != nil {
			t.Error(err)
		}
	}
}
