package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestCarrier: a clinic that no hub can reach and hubs that cannot reach it
// exchange by a worker's device that meets one after the other: its visits go to
// the hubs, theirs come to it, and so does the word that its own are final.
func TestCarrier(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	away, near := r.clinics[0], r.clinics[1]
	carrier := newBox(t, "Carrier", "field")
	r.clinics = append(r.clinics, carrier)
	r.admit(carrier)
	patient := away.Page().Register("Imani", "Carried")
	near.Page()
	r.waitSame(r.boxes()...)
	r.linkAll(away, false)
	r.linkHubs(carrier, false)
	r.link(carrier, near, false)

	s := newSaved()
	var last Visit
	for range 12 {
		last = newVisit(rnd, patient)
		s.posted(last)
		if err := s.acked(last, away.Page().mustSave(last)); err != nil {
			t.Fatal(err)
		}
	}
	theirs := newVisit(rnd, patient)
	near.Page().mustSave(theirs)
	r.waitSame(append([]*Box{near}, r.hubs...)...)

	t.Log("the carrier comes by")
	r.link(carrier, away, true)
	copied(t, away, patient, last.marker, s.rid[last.marker], carrier.name)
	r.link(carrier, away, false)
	if got := carrier.Status(); got.Carried < 12 {
		t.Errorf("the carrier left with %s, want 12 visits at least", describe(got))
	}
	if got, err := carrier.Page().Get("/patient/" + patient); err != nil || got.status != http.StatusNotFound {
		t.Errorf("the carrier opens a chart that it only carries: status %d, %v", got.status, err)
	}

	t.Log("it meets the hubs")
	r.linkHubs(carrier, true)
	r.waitSame(append([]*Box{carrier, near}, r.hubs...)...)
	for _, b := range append([]*Box{near}, r.hubs...) {
		s.markersOnce(t, b)
	}
	r.linkHubs(carrier, false)
	if st, err := away.recordState(s.rid[last.marker]); err != nil || st.State != "copied" {
		t.Errorf("before the carrier is back: %+v, %v; want a copied record", st, err)
	}

	t.Log("it comes back")
	r.link(carrier, away, true)
	r.waitSame(r.boxes()...)
	s.waitConfirmed(away)
	away.eventually(convergeMax, "the other clinic's visit on the chart", func() string {
		if got := mainWords(away.Page().must("/patient/" + patient)); !strings.Contains(got, theirs.marker) || strings.Contains(got, "Saved here") {
			return fmt.Sprintf("%.600s", got)
		}
		return ""
	})
	r.check(r.boxes()...)
}
