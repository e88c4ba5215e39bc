package node_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// signedInAs adds somebody with these roles and signs them in.
func (c *clinic) signedInAs(t *testing.T, name, roles string) web.Session {
	t.Helper()
	const pin = "271828"
	if err := c.n.AddStaff(t.Context(), &c.token, web.NewStaff{Name: name, PIN: pin, Role: roles}); err != nil {
		t.Fatal(err)
	}
	tiles, err := c.n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range tiles {
		if x.Name != name {
			continue
		}
		token, err := c.n.SignIn(t.Context(), x.ID, pin)
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.n.Session(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Fatalf("no tile for %s", name)
	return web.Session{}
}

// TestRolesDecide tries every use case of the page in every role, and wants what the
// rules say: refused, and with nothing stored, or not refused.
func TestRolesDecide(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-first", "Role")
	ctx := t.Context()
	all := func(s web.Session) map[string]error {
		tries := map[string]error{}
		note := func(right string, err error) { tries[right] = err }
		_, err := c.n.Find(ctx, s, "Role")
		note("find", err)
		_, err = c.n.Register(ctx, s, "form-"+s.StaffID, fhir.Registration{Given: "New", Family: s.StaffName, Sex: "female"})
		note("register", err)
		_, err = c.n.SaveVisit(ctx, s, patient, "visit-"+s.StaffID, fhir.Visit{At: time.Now(), Note: "one"})
		note("write", err)
		note("amend", c.n.AmendPatient(ctx, s, patient, "amend-"+s.StaffID, fhir.Registration{Given: "Role", Family: "Amended", Sex: "female"}, nil))
		note("retract", c.n.Retract(ctx, s, patient, "retract-"+s.StaffID, chart.Ref{}, "twice"))
		note("give", c.n.GiveTo(ctx, s, patient, "00", true))
		_, err = c.n.File(ctx, s, patient, "00")
		note("view", err)
		_, err = c.n.RootSheet(ctx, s)
		note("prove", err)
		_, err = c.n.Sticks(ctx, s)
		note("carry", err)
		note("staff", c.n.AddStaff(ctx, &s, web.NewStaff{Name: "By " + s.StaffName, PIN: "161803"}))
		view, err := c.n.Open(ctx, s, patient)
		note("identify", err)
		if err == nil && view.Limited != !s.May["view"] {
			t.Errorf("%s: a chart that is limited: %v", s.StaffName, view.Limited)
		}
		return tries
	}
	for _, role := range node.RoleNames() {
		s := c.signedInAs(t, "Person "+role, role)
		before := c.n.Counts(ctx).Pending
		for right, err := range all(s) {
			if refused := errors.Is(err, web.ErrRefused); right != "give" && refused == s.May[right] {
				t.Errorf("%s, %s: %v, and the rules say %v", role, right, err, s.May[right])
			}
		}
		if role == "auditor" {
			if after := c.n.Counts(ctx).Pending; after > before+1 { // the access record of its refusals
				t.Errorf("an auditor stored %d records", after-before)
			}
		}
	}
}

// TestRegistrarSeesWhoNotWhat: nothing that a visit said reaches who may only identify.
func TestRegistrarSeesWhoNotWhat(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-first", "Only")
	if _, err := c.n.SaveVisit(t.Context(), c.token, patient, "form-of-visit", fhir.Visit{At: time.Now(), Note: "secret of the visit", Allergy: "penicillin", Problem: "malaria"}); err != nil {
		t.Fatal(err)
	}
	s := c.signedInAs(t, "Desk", "registrar")
	view, err := c.n.Open(t.Context(), s, patient)
	if err != nil {
		t.Fatal(err)
	}
	if !view.Limited || view.Chart.Patient == nil || len(view.Chart.Lines) != 1 || len(view.Chart.Visits)+len(view.Chart.Allergies)+len(view.Chart.Problems) != 0 {
		t.Errorf("a registrar's chart has %d lines, %d visits", len(view.Chart.Lines), len(view.Chart.Visits))
	}
	today, err := c.n.Today(t.Context(), s)
	if err != nil || len(today.Recent) != 0 {
		t.Errorf("today's visits: %d, %v", len(today.Recent), err)
	}
}

// TestEndedStaff: the account's sessions end at once, the PIN opens nothing, and what was
// written keeps its name.
func TestEndedStaff(t *testing.T) {
	c := newClinic(t)
	s := c.signedInAs(t, "Leaving Person", "nurse")
	patient := c.register("form-first", "Seen")
	if _, err := c.n.SaveVisit(t.Context(), s, patient, "a-form", fhir.Visit{At: time.Now(), Note: "before"}); err != nil {
		t.Fatal(err)
	}
	if err := c.n.EndStaff(t.Context(), s, s.StaffID); !errors.Is(err, web.ErrRefused) {
		t.Fatalf("a nurse ends an account: %v", err)
	}
	if err := c.n.EndStaff(t.Context(), c.token, s.StaffID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.n.Open(t.Context(), s, patient); !errors.Is(err, web.ErrNotSignedIn) {
		t.Errorf("an ended session opens a chart: %v", err)
	}
	if _, err := c.n.SignIn(context.WithoutCancel(t.Context()), s.StaffID, "271828"); !errors.Is(err, web.ErrWrongPIN) {
		t.Errorf("an ended account signs in: %v", err)
	}
	if err := c.n.EndStaff(t.Context(), c.token, c.token.StaffID); !errors.Is(err, web.ErrLastStaff) {
		t.Errorf("the last one that adds staff was ended: %v", err)
	}
	view, err := c.n.Open(t.Context(), c.token, patient)
	if err != nil || len(view.Chart.Visits) != 1 {
		t.Fatalf("chart after: %d visits, %v", len(view.Chart.Visits), err)
	}
}

// TestLooks: who looked at a chart, on this box and on another that got the access record,
// with what was refused.
func TestLooks(t *testing.T) {
	c := newClinic(t)
	patient := c.register("form-first", "Looked")
	c.open(patient)
	desk := c.signedInAs(t, "Desk Person", "registrar")
	if _, err := c.n.SaveVisit(t.Context(), desk, patient, "a-form", fhir.Visit{At: time.Now(), Note: "not hers to write"}); !errors.Is(err, web.ErrRefused) {
		t.Fatalf("a registrar writes a visit: %v", err)
	}
	if _, err := c.n.Looks(t.Context(), desk, patient); !errors.Is(err, web.ErrRefused) {
		t.Fatalf("a registrar reads who looked: %v", err)
	}
	check := func(when string, read int) {
		t.Helper()
		page, err := c.n.Looks(t.Context(), c.token, patient)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, l := range page.Looks {
			if l.Box != "Test box" {
				t.Errorf("%s: a look from %q", when, l.Box)
			}
			key := l.Who + " " + l.What
			if l.Refused {
				key += " refused"
			}
			got[key]++
		}
		want := map[string]int{"Amina Test view": 1, "Amina Test review": read, "Desk Person write refused": 1, "Desk Person review refused": 1}
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	check("before they are in a record", 1)
	if err := c.n.FlushAccess(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("from the record", 1)
	c.stop()
	c.start()
	c.signIn()
	check("after a restart", 2)
}
