package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
)

func TestVisitGoesFromClinicToLedger(t *testing.T) {
	hub, clinic := pair(t)
	r := rand.New(rand.NewPCG(1, 1))
	recs := clinic.append(visit(1, 900, r), visit(2, 900, r))
	if in := clinic.push(hub); in.New != 3 || len(in.Refused) != 0 {
		t.Fatalf("hub took in %+v, want the opening record first, then the others", in)
	}
	if in := clinic.push(hub); in.New != 0 || in.Known != 3 {
		t.Errorf("hub took in %+v the second time, want nothing new", in)
	}
	for _, o := range hub.order() {
		if o.Verdict != record.Ordered {
			t.Errorf("record %s: %s, want ordered", o.RID.Short(), o.Verdict)
		}
	}
	clinic.pull(hub)
	for i := range recs {
		loc, ok, err := clinic.s.Locate(recs[i].RID())
		if err != nil || !ok || loc.Pending {
			t.Errorf("record %d is at %+v, %v, %v; want it ordered", i, loc, ok, err)
		}
	}
	if feeds, err := clinic.s.PendingFeeds(); err != nil || len(feeds) != 0 {
		t.Errorf("clinic still has %v pending, %v", feeds, err)
	}
	hub.reopen()
	clinic.reopen()
	if hub.s.Head() != clinic.s.Head() {
		t.Errorf("hub is at %v, clinic at %v", hub.s.Head(), clinic.s.Head())
	}
}
