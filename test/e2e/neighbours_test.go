package e2e_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestNeighbours: with every hub off, a neighbour holds what a clinic wrote and
// takes it to the hubs for it.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	a, b := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Imani", "Carried")
	b.Page()
	r.waitSame(r.boxes()...)
	for _, h := range r.hubs {
		h.Stop()
	}
	s := newSaved()
	var last Visit
	for range 10 {
		last = newVisit(rnd, patient)
		s.posted(last)
		if err := s.acked(last, a.Page().mustSave(last)); err != nil {
			t.Fatal(err)
		}
	}
	back := newVisit(rnd, patient)
	backRID := b.Page().mustSave(back)
	copied(t, a, patient, last.marker, s.rid[last.marker], b.name)
	copied(t, b, patient, back.marker, backRID, a.name)
	if got := b.Status(); got.Carried == 0 {
		t.Errorf("%s carries nothing: %s", b.name, describe(got))
	}
	if got := mainWords(b.Page().must("/patient/" + patient)); !strings.Contains(got, last.marker) {
		t.Errorf("%s does not show what its neighbour wrote: %.600s", b.name, got)
	}

	a.Stop()
	for _, h := range r.hubs {
		h.Start()
	}
	r.waitSame(append([]*Box{b}, r.hubs...)...)
	for _, x := range append([]*Box{b}, r.hubs...) {
		s.markersOnce(t, x)
	}
	a.Start()
	r.waitSame(r.boxes()...)
	s.waitConfirmed(a)
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	got := mainWords(a.Page().must("/patient/" + patient))
	if !strings.Contains(got, "In the regional record") || strings.Contains(got, "Copied to") || strings.Contains(got, "Saved here") {
		t.Errorf("%s shows after its return: %.600s", a.name, got)
	}
	r.check(r.boxes()...)
}

// copied waits until a box says on its page that a neighbour holds a visit.
func copied(t *testing.T, box *Box, patient, marker, rid, neighbour string) {
	t.Helper()
	box.eventually(convergeMax, "a copy of "+rid+" at "+neighbour, func() string {
		st, err := box.recordState(rid)
		if err != nil {
			return err.Error()
		}
		if st.State != "copied" || len(st.To) != 1 || st.To[0] != neighbour {
			return fmt.Sprintf("%s to %q", st.State, st.To)
		}
		return ""
	})
	got := mainWords(box.Page().must("/patient/" + patient))
	if !strings.Contains(got, marker) || !strings.Contains(got, "Copied to "+neighbour) {
		t.Errorf("%s does not show %q: %.600s", box.name, "Copied to "+neighbour, got)
	}
}
