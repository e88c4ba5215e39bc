package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestCarrier: a clinic that no hub can reach and hubs that cannot reach it
// exchange by a worker's device that meets one after the other: its visits go to
// the hubs, theirs come to it, and so does the word that its own are final.
func TestCarrier(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	away, near := r.Clinics[0], r.Clinics[1]
	carrier := rig.NewBox(t, "Carrier", "field")
	r.Clinics = append(r.Clinics, carrier)
	r.Admit(carrier)
	patient := away.Page().Register("Imani", "Carried")
	near.Page()
	r.WaitSame(r.Boxes()...)
	r.SetLinks(away, false)
	r.SetHubLinks(carrier, false)
	r.SetLink(carrier, near, false)

	s := rig.NewSaved()
	var last rig.Visit
	for range 12 {
		last = rig.NewVisit(rnd, patient)
		s.Posted(last)
		if err := s.Acked(last, away.Page().MustSave(last)); err != nil {
			t.Fatal(err)
		}
	}
	theirs := rig.NewVisit(rnd, patient)
	near.Page().MustSave(theirs)
	r.WaitSame(append([]*rig.Box{near}, r.Hubs...)...)

	t.Log("the carrier comes by")
	r.SetLink(carrier, away, true)
	copied(t, away, patient, last.Marker, s.RecordOf(last), carrier.Name)
	r.SetLink(carrier, away, false)
	if got := carrier.Status(); got.Carried < 12 {
		t.Errorf("the carrier left with %s, want 12 visits at least", rig.Describe(got))
	}
	if got, err := carrier.Page().Get("/patient/" + patient); err != nil || got.Status != http.StatusNotFound {
		t.Errorf("the carrier opens a chart that it only carries: status %d, %v", got.Status, err)
	}

	t.Log("it meets the hubs")
	r.SetHubLinks(carrier, true)
	r.WaitSame(append([]*rig.Box{carrier, near}, r.Hubs...)...)
	for _, b := range append([]*rig.Box{near}, r.Hubs...) {
		s.MarkersOnce(t, b)
	}
	r.SetHubLinks(carrier, false)
	if st, err := away.RecordState(s.RecordOf(last)); err != nil || st.State != "copied" {
		t.Errorf("before the carrier is back: %+v, %v; want a copied record", st, err)
	}

	t.Log("it comes back")
	r.SetLink(carrier, away, true)
	r.WaitSame(r.Boxes()...)
	s.WaitConfirmed(away)
	away.Eventually(rig.ConvergeMax, "the other clinic's visit on the chart", func() string {
		if got := rig.MainWords(away.Page().Must("/patient/" + patient)); !strings.Contains(got, theirs.Marker) || strings.Contains(got, "Saved here") {
			return fmt.Sprintf("%.600s", got)
		}
		return ""
	})
	r.Check(r.Boxes()...)
}
