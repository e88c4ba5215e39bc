package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

const visitsApart = 100

// TestConflict: two clinics write while they are apart. Both changes of the same
// details stay, on every box alike, until a person chooses.
func TestConflict(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, b := r.Clinics[0], r.Clinics[1]
	patient := a.Page().Register("Neema", "Shared")
	b.Page()
	r.WaitSame(r.Boxes()...)
	path := "/patient/" + patient
	if got := rig.MainWords(b.Page().Must(path)); !strings.Contains(got, "Neema Shared") {
		t.Fatalf("the other clinic does not show the patient: %s", got)
	}

	r.SetLinks(a, false)
	r.SetLinks(b, false)
	var wg sync.WaitGroup
	all := []*rig.Saved{rig.NewSaved(), rig.NewSaved()}
	for i, box := range r.Clinics {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		wg.Go(func() { apart(t, box, all[i], mine, patient, []string{"Gisenyi", "Nyanza"}[i]) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	r.SetLinks(a, true)
	r.SetLinks(b, true)
	r.WaitSame(r.Boxes()...)
	for i := range r.Clinics {
		for _, x := range r.Boxes() {
			all[i].MarkersOnce(t, x)
		}
	}

	chart := sameEverywhere(t, r, path)
	if !strings.Contains(chart, "Two versions of the details") || !strings.Contains(chart, "The details were changed in 2 places.") {
		t.Errorf("the chart does not tell of the conflict: %.400s", chart)
	}
	versions := sameEverywhere(t, r, path+"/conflict")
	for _, want := range []string{"Gisenyi", "Nyanza", rig.StaffName + " at Clinic 1 (Clinic 1)", rig.StaffName + " at Clinic 2 (Clinic 2)"} {
		if !strings.Contains(versions, want) {
			t.Errorf("the conflict page does not show %q: %s", want, versions)
		}
	}

	resolve(t, b, path+"/conflict")
	r.WaitSame(r.Boxes()...)
	chart = sameEverywhere(t, r, path)
	if strings.Contains(chart, "Two versions of the details") {
		t.Errorf("the conflict stands after one version was chosen: %.400s", chart)
	}
	for _, x := range r.Clinics {
		if a, err := x.Page().Get(path + "/conflict"); err != nil || a.Status != http.StatusSeeOther || a.Location != path {
			t.Errorf("%s: the conflict page: %v, status %d to %q", x.Name, err, a.Status, a.Location)
		}
	}
	r.Check(r.Boxes()...)
}

// apart is a day at a clinic that hears of nobody.
func apart(t *testing.T, box *rig.Box, s *rig.Saved, rnd *rand.Rand, patient, village string) {
	p := box.Page()
	path := "/patient/" + patient
	own := p.Register("Own", box.Name)
	for i := range visitsApart {
		v := rig.NewVisit(rnd, own)
		if i%10 == 0 {
			v.Patient = patient
		}
		s.Posted(v)
		rid, _, err := p.Save(v)
		if err == nil {
			err = s.Acked(v, rid)
		}
		if err != nil {
			t.Errorf("%s: %v", box.Name, err)
			return
		}
	}
	v := p.Form(path+"/details", url.Values{"given": {"Neema"}, "family": {"Shared"}, "sex": {"female"}, "village": {village}})
	if a, err := p.Post(path+"/details", v); err != nil || a.Location != path+"?done=changed" {
		t.Errorf("%s: changing details: %v, status %d to %q: %s", box.Name, err, a.Status, a.Location, rig.Words(a.Body))
	}
}

// resolve keeps the first version that the page offers.
func resolve(t *testing.T, box *rig.Box, path string) {
	t.Helper()
	p := box.Page()
	v := p.Form(path, url.Values{"step": {"keep"}})
	if a, err := p.Post(path, v); err != nil || !strings.HasSuffix(a.Location, "?done=resolved") {
		t.Fatalf("%s: choosing a version: %v, status %d to %q: %s", box.Name, err, a.Status, a.Location, rig.Words(a.Body))
	}
}

// sameEverywhere compares what the clinics show at a path, and what all boxes
// export, and gives what the first clinic shows.
func sameEverywhere(t *testing.T, r *rig.Region, path string) string {
	t.Helper()
	shown := rig.MainWords(r.Clinics[0].Page().Must(path))
	for _, x := range r.Clinics[1:] {
		if got := rig.MainWords(x.Page().Must(path)); got != shown {
			t.Errorf("%s shows something else than %s at %s:\n%s\n%s", x.Name, r.Clinics[0].Name, path, difference(got, shown), difference(shown, got))
		}
	}
	want := r.Clinics[0].Export()
	slices.Sort(want)
	for _, x := range r.Boxes() {
		got := x.Export()
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s exports %d resources, %s %d, not the same", x.Name, len(got), r.Clinics[0].Name, len(want))
		}
	}
	return shown
}

// difference is where a differs from b first.
func difference(a, b string) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("%d: ...%s", i, a[max(0, i-80):min(len(a), i+120)])
}
