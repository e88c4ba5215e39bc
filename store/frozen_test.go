package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// TestFrozenFeed: what is pending of a feed when evidence in the ledger freezes
// it, and what comes later, is refused with its body and offered to no peer.
func TestFrozenFeed(t *testing.T) {
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
	first, second := branch(clinic.a, f, head, 5, 1), branch(clinic.a, f, head, 1, 2)
	if got := hub.verdicts(first[:4]); len(got) != 0 {
		t.Fatalf("first branch: %v", got)
	}
	hub.orderRecords(first[:1])
	opening, ok, err := hub.s.Held(record.Position{Epoch: epoch})
	if err != nil || !ok {
		t.Fatalf("opening record: %v, %v", ok, err)
	}
	e, err := record.NewEquivocation(opening, first[0], second[0])
	if err != nil {
		t.Fatal(err)
	}
	hub.orderRecords(hub.append(store.Draft{Lane: record.LaneAudit, Kind: record.KindEvidence, Seal: func(record.Position) ([]byte, error) { return e.Encode(), nil }}))
	for range 2 {
		feeds, err := hub.s.PendingFeeds()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range feeds {
			if p.Feed == f {
				t.Errorf("the frozen feed is still offered: %+v", p)
			}
		}
		if got := hub.verdicts(first[4:]); len(got) != 1 || got[0] != record.Frozen {
			t.Errorf("a later record: %v, want %v", got, record.Frozen)
		}
		frozen := 0
		list, err := hub.s.Refused()
		for _, x := range list {
			if x.Verdict == record.Frozen && x.By == (record.DeviceID{}) {
				frozen++
			}
		}
		if err != nil || frozen != len(first)-1 {
			t.Errorf("%d records refused as frozen, %v; want %d", frozen, err, len(first)-1)
		}
		checkKept(t, hub.s, first)
		hub.reopen()
	}
}
