package node_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// second adds somebody who can agree to an erasure.
func (c *clinic) second(t *testing.T) web.Session {
	return c.signedInAs(t, "Second Person", "clinician")
}

const agreePIN = "271828"

// bodiesOf reads, of a stopped box, the sealed bodies and wraps of a chart and of all
// others.
func (c *clinic) bodiesOf(t *testing.T, chart record.CompartmentID) (of, others [][]byte) {
	t.Helper()
	s, err := store.Open(filepath.Join(c.o.Data, "db"), c.o.Store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Compartments()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range list {
		recs, err := s.Compartment(id)
		if err != nil {
			t.Fatal(err)
		}
		for i := range recs {
			if b := recs[i].Record.Body; id == chart {
				of = append(of, b)
			} else if recs[i].Record.Core.Kind == record.KindClinical {
				others = append(others, b)
			}
		}
	}
	return of, others
}

func (c *clinic) filesWith(t *testing.T, needles [][]byte) (files []string) {
	t.Helper()
	err := filepath.WalkDir(c.o.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, n := range needles {
			if bytes.Contains(b, n) {
				files = append(files, path)
				return err
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// attestedBy waits until so many boxes have done all they do about the one erasure.
func (c *clinic) attestedBy(t *testing.T, boxes int) node.ErasureState {
	t.Helper()
	changed := c.n.Watch(t.Context())
	late := time.After(2 * time.Minute)
	for {
		list, err := c.n.Erasures()
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && len(list[0].Attested) == boxes {
			return list[0]
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("erasures: %+v", list)
		}
	}
}

func TestEraseChart(t *testing.T) {
	c := newClinic(t)
	ctx := t.Context()
	gone, stays := c.register("form-gone", "Gone"), c.register("form-stays", "Stays")
	for _, id := range []string{gone, stays} {
		if _, err := c.n.SaveVisit(ctx, c.token, id, "visit-"+id, fhir.Visit{At: time.Now(), Note: "a visit of " + id}); err != nil {
			t.Fatal(err)
		}
	}
	second := c.second(t)
	c.stop()
	chart, err := record.ParseCompartmentID(gone)
	if err != nil {
		t.Fatal(err)
	}
	bodies, others := c.bodiesOf(t, chart)
	if len(bodies) < 3 || len(c.filesWith(t, bodies)) == 0 {
		t.Fatalf("%d bodies to erase, of which the folder shows none", len(bodies))
	}
	c.start()
	c.signIn()
	for name, x := range map[string]web.Erasure{
		"no such reason": {Reason: "because", Second: second.StaffID, PIN: agreePIN},
		"by oneself":     {Reason: "asked", Second: c.token.StaffID, PIN: pin},
		"a wrong PIN":    {Reason: "asked", Second: second.StaffID, PIN: "000000"},
		"nobody":         {Reason: "asked", PIN: agreePIN},
	} {
		if err := c.n.Erase(ctx, c.token, gone, x); err == nil {
			t.Errorf("%s: erased", name)
		}
	}
	if err := c.n.Erase(ctx, c.token, gone, web.Erasure{Reason: "asked", Second: second.StaffID, PIN: agreePIN}); err != nil {
		t.Fatal(err)
	}
	e := c.attestedBy(t, 1)
	if e.Chart != gone || e.Reason != "asked" || e.Overdue || e.Deadline.Sub(e.At) != record.EraseDays*24*time.Hour {
		t.Errorf("the erasure: %+v", e)
	}
	var erased *web.ErasedError
	if _, err := c.n.Open(ctx, c.token, gone); !errors.As(err, &erased) || erased.At.IsZero() {
		t.Errorf("opening the chart: %v", err)
	}
	if rows, err := c.n.Find(ctx, c.token, "Gone"); err != nil || len(rows) != 0 {
		t.Errorf("searching finds %d, %v", len(rows), err)
	}
	if today, err := c.n.Today(ctx, c.token); err != nil || len(today.Recent) != 1 || today.Recent[0].PatientID != stays {
		t.Errorf("today's list: %+v, %v", today.Recent, err)
	}
	if _, err := c.n.SaveVisit(ctx, c.token, gone, "visit-late", fhir.Visit{At: time.Now(), Note: "late"}); !errors.As(err, &erased) {
		t.Errorf("saving another visit: %v", err)
	}
	if v := c.open(stays); len(v.Chart.Visits) != 1 {
		t.Error("the other chart lost its visit")
	}
	c.stop()
	if files := c.filesWith(t, bodies); len(files) > 0 {
		t.Errorf("erased bodies or wraps are in %v", files)
	}
	if len(c.filesWith(t, others)) == 0 {
		t.Error("the scan does not find what stays")
	}
	c.start()
	c.signIn()
	if _, err := c.n.Open(ctx, c.token, gone); !errors.As(err, &erased) {
		t.Errorf("after a restart: %v", err)
	}
}

func TestEraseOneRecord(t *testing.T) {
	c := newClinic(t)
	ctx := t.Context()
	id := c.register("form-one", "One")
	var rids []string
	for _, note := range []string{"wrong", "right"} {
		saved, err := c.n.SaveVisit(ctx, c.token, id, "visit-"+note, fhir.Visit{At: time.Now(), Note: note})
		if err != nil {
			t.Fatal(err)
		}
		rids = append(rids, saved.RID)
	}
	other := c.register("form-other", "Other")
	second := c.second(t)
	x := web.Erasure{Record: rids[0], Reason: "mistake", Second: second.StaffID, PIN: agreePIN}
	if err := c.n.Erase(ctx, c.token, other, x); !errors.Is(err, web.ErrNotFound) {
		t.Errorf("a record of another chart: %v", err)
	}
	if err := c.n.Erase(ctx, c.token, id, x); err != nil {
		t.Fatal(err)
	}
	c.attestedBy(t, 1)
	v := c.open(id)
	if len(v.Chart.Visits) != 1 || v.Chart.Visits[0].Shown.RID.String() != rids[1] || v.Chart.Incomplete {
		t.Errorf("%d visits are left, incomplete %v", len(v.Chart.Visits), v.Chart.Incomplete)
	}
	if today, err := c.n.Today(ctx, c.token); err != nil || len(today.Recent) != 1 {
		t.Errorf("today's list: %+v, %v", today.Recent, err)
	}
}

// TestEraseReachesEveryBox erases on a clinic what a hub holds too; a box that joins
// later never gets it.
func TestEraseReachesEveryBox(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic one")
	ctx := t.Context()
	id := c.register("form-gone", "Gone")
	if _, err := c.n.SaveVisit(ctx, c.token, id, "visit-gone", fhir.Visit{At: time.Now(), Note: "a visit"}); err != nil {
		t.Fatal(err)
	}
	second := c.second(t)
	if err := c.n.Erase(ctx, c.token, id, web.Erasure{Reason: "asked", Second: second.StaffID, PIN: agreePIN}); err != nil {
		t.Fatal(err)
	}
	if x := hub.attestedBy(t, 2); len(x.Waiting) != 0 || x.By != "Clinic one" {
		t.Errorf("at the hub: %+v", x)
	}
	late := newMember(t, hub, "Clinic two")
	if x := late.attestedBy(t, 3); len(x.Waiting) != 0 {
		t.Errorf("at the box that joined later: %+v", x)
	}
	chart, err := record.ParseCompartmentID(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*clinic{"hub": hub, "clinic": c, "late clinic": late} {
		b.stop()
		bodies, _ := b.bodiesOf(t, chart)
		for _, body := range bodies {
			if body != nil {
				t.Errorf("%s holds a body of %d bytes", name, len(body))
			}
		}
		if len(bodies) < 3 {
			t.Errorf("%s holds %d headers of the chart", name, len(bodies))
		}
	}
}
