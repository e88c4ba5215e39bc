package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// TestExpelledAuthor: a carrier goes on offering what it has of a device until its
// own ledger says that the membership ended and a hub has refused the record too;
// the record stays.
func TestExpelledAuthor(t *testing.T) {
	hub, clinic := pair(t)
	carrier := newBox(t, 3, record.RoleClinic)
	hub.admit(carrier)
	carrier.pull(hub)
	clinic.push(hub)
	hub.order()
	clinic.pull(hub)
	carrier.pull(hub)
	recs := clinic.append(visit(1, 100, rand.New(rand.NewPCG(1, 1))))
	clinic.push(carrier)
	offered := func(what string, want bool) {
		t.Helper()
		feeds, err := carrier.s.PendingFeeds()
		if err != nil || (len(feeds) > 0) != want {
			t.Errorf("%s: %d feeds are offered, %v; want some: %v", what, len(feeds), err, want)
		}
	}
	refusal := record.Outcome{RID: recs[0].RID(), Verdict: record.Quarantined}
	if err := carrier.s.PutRefused(refusal, hub.a.Device); err != nil {
		t.Fatal(err)
	}
	offered("a hub's word alone", true)
	hub.append(store.Draft{Lane: record.LaneControl, Kind: record.KindMemberRevoke, Seal: fixed(marshal(record.MemberRevoke{Device: clinic.a.Device[:], Reason: "lost"}))})
	hub.order()
	carrier.pull(hub)
	for range 2 {
		offered("refused, and revoked in the ledger", false)
		if r, ok, err := carrier.s.ByRID(recs[0].RID()); err != nil || !ok || string(r.Body) != string(recs[0].Body) {
			t.Errorf("the record is gone: %v, %v", ok, err)
		}
		carrier.reopen()
	}
	late := newBox(t, 4, record.RoleClinic)
	hub.admit(late)
	late.pull(hub)
	carrier.pull(hub)
	if in, err := late.s.Ingest(ctx, carrier.a.Device, recs); err != nil || in.New != 1 {
		t.Fatalf("a box that holds nothing of it: %+v, %v", in, err)
	}
	carrier = late
	offered("revoked in the ledger, and no hub was asked", true)
	if err := late.s.PutRefused(refusal, hub.a.Device); err != nil {
		t.Fatal(err)
	}
	offered("and then one was", false)
}
