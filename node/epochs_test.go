package node_test

import (
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// key is the box's own, as a copy of its memory has it.
func (c *clinic) key() ed25519.PrivateKey {
	c.t.Helper()
	k, _, err := seal.LoadKeyring(filepath.Join(c.o.Data, "keys"))
	if err != nil {
		c.t.Fatal(err)
	}
	return k.Signer()
}

// place is where the box's own record of this id stands.
func (c *clinic) place(rid string) record.Record {
	c.t.Helper()
	id, err := record.ParseRID(rid)
	if err != nil {
		c.t.Fatal(err)
	}
	r, ok, err := c.n.Store().ByRID(id)
	if err != nil || !ok {
		c.t.Fatalf("record %s: %v, %v", rid, ok, err)
	}
	return r
}

func (c *clinic) visit(id, problem string) (rid string) {
	c.t.Helper()
	saved, err := c.n.SaveVisit(c.t.Context(), c.token, id, "visit-"+problem, fhir.Visit{At: time.Now(), Problem: problem})
	if err != nil {
		c.t.Fatal(err)
	}
	return saved.RID
}

// sibling is another record for the place of r, by whoever has the device's key.
func sibling(r record.Record, k ed25519.PrivateKey) record.Record {
	core := r.Core
	core.Compartment = record.CompartmentID{1, 2, 3}
	return record.Sign(core, []byte(strings.Repeat("x", 64)), k)
}

// A copy of a running box's memory wrote for the same place and was quicker.
func TestWhatLostItsPlaceIsWrittenAgain(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	id := c.register("form-1", "Nakato")
	c.confirmed()
	if err := c.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	rids := []string{c.visit(id, "fever"), c.visit(id, "cough"), c.visit(id, "skin")}
	in, err := hub.n.Store().Ingest(t.Context(), record.DeviceID{}, []record.Record{sibling(c.place(rids[0]), c.key())})
	if err != nil || in.New != 1 {
		t.Fatalf("the copy's record: %+v, %v", in, err)
	}
	if err := c.n.SetLink(true); err != nil {
		t.Fatal(err)
	}
	c.untilTold("3 records of this box were refused and written again")
	c.until("all three visits in the region's record", func(node.Status) bool {
		states, err := c.n.States(t.Context(), c.token, rids)
		if err != nil {
			t.Fatal(err)
		}
		for _, rid := range rids {
			if states[rid].Kind != chart.Confirmed {
				return false
			}
		}
		return true
	})
	v := c.open(id)
	if len(v.Chart.Visits) != 3 || !strings.Contains(v.Chart.Visits[0].Shown.Author, "Amina Test") {
		t.Errorf("chart: %d visits, the first by %q; want 3, by who was signed in", len(v.Chart.Visits), v.Chart.Visits[0].Shown.Author)
	}
	today, err := c.n.Today(t.Context(), c.token)
	if err != nil || len(today.Recent) != 3 {
		t.Errorf("list of visits: %d lines, %v; want 3", len(today.Recent), err)
	}
	if err := c.n.Retract(t.Context(), c.token, id, "retract", v.Chart.Visits[0].Shown.Ref, "wrong person"); err != nil {
		t.Errorf("withdrawing a visit that was written again: %v", err)
	}
	if n := len(c.open(id).Chart.Visits); n != 2 {
		t.Errorf("after withdrawing one: %d visits, want 2", n)
	}
	c.confirmed()
	s, err := c.n.Status(t.Context())
	if err != nil || s.Refused != 0 || s.Pending != 0 {
		t.Errorf("counts: %d refused, %d pending, %v; want none", s.Refused, s.Pending, err)
	}
	other := newMember(t, hub, "Other")
	other.until("the patient", func(node.Status) bool { return len(other.find("nakato")) == 1 })
	if v := other.open(id); len(v.Chart.Visits) != 2 || !strings.Contains(v.Chart.Visits[0].Shown.Author, "Amina Test (Clinic)") {
		t.Errorf("elsewhere: %d visits by %q", len(v.Chart.Visits), v.Chart.Visits[0].Shown.Author)
	}
	other.stop()
	c.confirmed()
	before := hubSize(t, hub)
	c.stop()
	c.start()
	c.untilTold("3 records of this box")
	c.confirmed()
	if after := hubSize(t, hub); after > before+1 { // the access log of the stop
		t.Errorf("after a restart something was written again: %d entries, before %d", after, before)
	}
}

func hubSize(t testing.TB, hub *clinic) uint64 {
	t.Helper()
	s, err := hub.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Size
}

// A record that the rules never allow stops its lane; what comes after goes on
// elsewhere, without a restart.
func TestALaneThatStoppedGoesOnInANewEpoch(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	c.confirmed()
	body, err := record.Marshal(record.MemberRevoke{Device: make([]byte, 32), Reason: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	draft := store.Draft{Lane: record.LaneControl, Kind: record.KindMemberRevoke, Seal: func(record.Position) ([]byte, error) { return body, nil }}
	if _, err := c.n.Store().Append(t.Context(), []store.Draft{draft}, nil); err != nil {
		t.Fatal(err)
	}
	urgent, err := c.n.SaveVisit(t.Context(), c.token, id, "urgent", fhir.Visit{At: time.Now(), Problem: "fever", Urgent: true})
	if err != nil {
		t.Fatal(err)
	}
	c.untilTold("records of this box were refused and written again")
	c.until("the urgent visit", func(node.Status) bool {
		states, err := c.n.States(t.Context(), c.token, []string{urgent.RID})
		return err == nil && states[urgent.RID].Kind == chart.Confirmed
	})
	c.visit(id, "cough")
	c.confirmed()
	v := c.open(id)
	for _, visit := range v.Chart.Visits {
		if !strings.Contains(visit.Shown.Author, "Amina Test") {
			t.Errorf("a visit by %q, want who was signed in", visit.Shown.Author)
		}
	}
	if len(v.Chart.Visits) != 2 {
		t.Errorf("visits: %d, want 2", len(v.Chart.Visits))
	}
}
