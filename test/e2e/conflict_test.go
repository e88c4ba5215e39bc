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
)

const visitsApart = 100

// TestConflict: two clinics write while they are apart. Both changes of the same
// details stay, on every box alike, until a person chooses.
func TestConflict(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	a, b := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Neema", "Shared")
	b.Page()
	r.waitSame(r.boxes()...)
	path := "/patient/" + patient
	if got := mainWords(b.Page().must(path)); !strings.Contains(got, "Neema Shared") {
		t.Fatalf("the other clinic does not show the patient: %s", got)
	}

	r.linkAll(a, false)
	r.linkAll(b, false)
	var wg sync.WaitGroup
	all := []*saved{newSaved(), newSaved()}
	for i, box := range r.clinics {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		wg.Go(func() { apart(t, box, all[i], mine, patient, []string{"Gisenyi", "Nyanza"}[i]) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	r.linkAll(a, true)
	r.linkAll(b, true)
	r.waitSame(r.boxes()...)
	for i := range r.clinics {
		for _, x := range r.boxes() {
			all[i].markersOnce(t, x)
		}
	}

	chart := sameEverywhere(t, r, path)
	if !strings.Contains(chart, "Two versions of the details") || !strings.Contains(chart, "The details were changed in 2 places.") {
		t.Errorf("the chart does not tell of the conflict: %.400s", chart)
	}
	versions := sameEverywhere(t, r, path+"/conflict")
	for _, want := range []string{"Gisenyi", "Nyanza", staffName + " at Clinic 1 (Clinic 1)", staffName + " at Clinic 2 (Clinic 2)"} {
		if !strings.Contains(versions, want) {
			t.Errorf("the conflict page does not show %q: %s", want, versions)
		}
	}

	resolve(t, b, path+"/conflict")
	r.waitSame(r.boxes()...)
	chart = sameEverywhere(t, r, path)
	if strings.Contains(chart, "Two versions of the details") {
		t.Errorf("the conflict stands after one version was chosen: %.400s", chart)
	}
	for _, x := range r.clinics {
		if a, err := x.Page().Get(path + "/conflict"); err != nil || a.status != http.StatusSeeOther || a.location != path {
			t.Errorf("%s: the conflict page: %v, status %d to %q", x.name, err, a.status, a.location)
		}
	}
	r.check(r.boxes()...)
}

// apart is a day at a clinic that hears of nobody.
func apart(t *testing.T, box *Box, s *saved, rnd *rand.Rand, patient, village string) {
	p := box.Page()
	path := "/patient/" + patient
	own := p.Register("Own", box.name)
	for i := range visitsApart {
		v := newVisit(rnd, own)
		if i%10 == 0 {
			v.patient = patient
		}
		s.posted(v)
		rid, _, err := p.Save(v)
		if err == nil {
			err = s.acked(v, rid)
		}
		if err != nil {
			t.Errorf("%s: %v", box.name, err)
			return
		}
	}
	v := p.Form(path+"/details", url.Values{"given": {"Neema"}, "family": {"Shared"}, "sex": {"female"}, "village": {village}})
	if a, err := p.Post(path+"/details", v); err != nil || a.location != path+"?done=changed" {
		t.Errorf("%s: changing details: %v, status %d to %q: %s", box.name, err, a.status, a.location, words(a.body))
	}
}

// resolve keeps the first version that the page offers.
func resolve(t *testing.T, box *Box, path string) {
	t.Helper()
	p := box.Page()
	v := p.Form(path, url.Values{"step": {"keep"}})
	if a, err := p.Post(path, v); err != nil || !strings.HasSuffix(a.location, "?done=resolved") {
		t.Fatalf("%s: choosing a version: %v, status %d to %q: %s", box.name, err, a.status, a.location, words(a.body))
	}
}

// sameEverywhere compares what the clinics show at a path, and what all boxes
// export, and gives what the first clinic shows.
func sameEverywhere(t *testing.T, r *Region, path string) string {
	t.Helper()
	shown := mainWords(r.clinics[0].Page().must(path))
	for _, x := range r.clinics[1:] {
		if got := mainWords(x.Page().must(path)); got != shown {
			t.Errorf("%s shows something else than %s at %s:\n%s\n%s", x.name, r.clinics[0].name, path, difference(got, shown), difference(shown, got))
		}
	}
	want := r.clinics[0].Export()
	slices.Sort(want)
	for _, x := range r.boxes() {
		got := x.Export()
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s exports %d resources, %s %d, not the same", x.name, len(got), r.clinics[0].name, len(want))
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
