package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestNeighbours: with every hub off, a neighbour holds what a clinic wrote and
// takes it to the hubs for it.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, b := r.Clinics[0], r.Clinics[1]
	patient := a.Page().Register("Imani", "Carried")
	b.Page()
	r.WaitSame(r.Boxes()...)
	for _, h := range r.Hubs {
		h.Stop()
	}
	s := rig.NewSaved()
	var last rig.Visit
	for range 10 {
		last = rig.NewVisit(rnd, patient)
		s.Posted(last)
		if err := s.Acked(last, a.Page().MustSave(last)); err != nil {
			t.Fatal(err)
		}
	}
	back := rig.NewVisit(rnd, patient)
	backRID := b.Page().MustSave(back)
	copied(t, a, patient, last.Marker, s.RecordOf(last), b.Name)
	copied(t, b, patient, back.Marker, backRID, a.Name)
	if got := b.Status(); got.Carried == 0 {
		t.Errorf("%s carries nothing: %s", b.Name, rig.Describe(got))
	}
	if got := rig.MainWords(b.Page().Must("/patient/" + patient)); !strings.Contains(got, last.Marker) {
		t.Errorf("%s does not show what its neighbour wrote: %.600s", b.Name, got)
	}

	a.Stop()
	for _, h := range r.Hubs {
		h.Start()
	}
	r.WaitSame(append([]*rig.Box{b}, r.Hubs...)...)
	for _, x := range append([]*rig.Box{b}, r.Hubs...) {
		s.MarkersOnce(t, x)
	}
	a.Start()
	r.WaitSame(r.Boxes()...)
	s.WaitConfirmed(a)
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	got := rig.MainWords(a.Page().Must("/patient/" + patient))
	if !strings.Contains(got, "In the regional record") || strings.Contains(got, "Copied to") || strings.Contains(got, "Saved here") {
		t.Errorf("%s shows after its return: %.600s", a.Name, got)
	}
	r.Check(r.Boxes()...)
}

// copied waits until a box says on its page that a neighbour holds a visit.
func copied(t *testing.T, box *rig.Box, patient, marker, rid, neighbour string) {
	t.Helper()
	box.Eventually(rig.ConvergeMax, "a copy of "+rid+" at "+neighbour, func() string {
		st, err := box.RecordState(rid)
		if err != nil {
			return err.Error()
		}
		if st.State != "copied" || len(st.To) != 1 || st.To[0] != neighbour {
			return fmt.Sprintf("%s to %q", st.State, st.To)
		}
		return ""
	})
	got := rig.MainWords(box.Page().Must("/patient/" + patient))
	if !strings.Contains(got, marker) || !strings.Contains(got, "Copied to "+neighbour) {
		t.Errorf("%s does not show %q: %.600s", box.Name, "Copied to "+neighbour, got)
	}
}
