package node_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// What the region refuses of another box is no news about this box's own records.
func TestCountsAreOfOwnRecords(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.confirmed()
	if err := c.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	if n := c.n.Counts(t.Context()); n.Pending != 0 {
		t.Errorf("before a save: got %+v, want nothing pending", n)
	}
	id := c.register("form-1", "Nakato")
	if n := c.n.Counts(t.Context()); n.Pending == 0 { // asked at once, as the page after the save does
		t.Errorf("right after a save: got %+v, want records saved here only", n)
	}
	saved, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := c.n.Status(t.Context())
	if err != nil || before.Pending == 0 || before.Refused != 0 {
		t.Fatalf("with the link cut: got %d saved here only, %d refused, %v", before.Pending, before.Refused, err)
	}
	hub.stop()
	held, err := node.Open(hub.o) // holds records without ordering them
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	give(t, c.n.Store(), held.Store())
	rid, err := record.ParseRID(saved.RID)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node.Node{c.n, held} {
		if err := n.Store().PutRefused(record.Outcome{RID: rid, Verdict: record.Quarantined}, record.DeviceID{}); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := held.Status(t.Context()); err != nil || s.Refused != 0 || s.Pending != 0 {
		t.Errorf("the hub's own records: got %d saved here only, %d refused, %v; want none", s.Pending, s.Refused, err)
	}
	s, err := c.n.Status(t.Context())
	if err != nil || s.Refused != 1 || s.Pending != before.Pending-1 || len(s.Faults) == 0 {
		t.Errorf("the clinic's own records: got %d saved here only, %d refused, faults %q, %v; want %d, 1", s.Pending, s.Refused, s.Faults, err, before.Pending-1)
	}
	states, err := c.n.States(t.Context(), c.token, []string{saved.RID})
	if err != nil || states[saved.RID].Kind != chart.Refused {
		t.Errorf("state of the visit: got %+v, %v; want refused", states[saved.RID], err)
	}
	page, err := c.n.SyncPage(t.Context(), c.token)
	if err != nil || len(page.Refused) != 1 || page.Refused[0].PatientID != id {
		t.Errorf("refused records on the page: got %+v, %v", page.Refused, err)
	}
}

// give hands every pending record on, as a session does.
func give(t *testing.T, from, to *store.Store) {
	t.Helper()
	feeds, err := from.PendingFeeds()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range feeds {
		recs, err := from.Pending(f.Feed, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Ingest(t.Context(), f.Author, recs); err != nil {
			t.Fatal(err)
		}
	}
}
