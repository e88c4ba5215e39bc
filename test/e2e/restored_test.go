package e2e_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestRestoredImage: a clinic's card is put back to a copy of an hour ago. What only
// others have by now comes back, nothing is written twice, and staff are told.
func TestRestoredImage(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, b := r.Clinics[0], r.Clinics[1]
	patient := a.Page().Register("Rehema", "Restored")
	r.WaitSame(r.Boxes()...)
	a.Stop()
	image := rig.CopyBox(t, a)
	a.Start()
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	s := rig.NewSaved()
	save := func(n int) {
		for range n {
			v := rig.NewVisit(rnd, patient)
			s.Posted(v)
			if err := s.Acked(v, a.Page().MustSave(v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(5)
	r.WaitSame(r.Boxes()...) // in the regional record
	r.SetHubLinks(a, false)
	r.SetHubLinks(b, false) // before, or they are in the regional record sooner than anybody looks
	save(3)
	visits, rids := s.All()
	last := visits[len(visits)-1]
	copied(t, a, patient, last.Marker, rids[last.Marker], b.Name) // with the neighbour alone
	a.Stop()
	rig.ReplaceWith(t, a, image)
	a.Start()
	r.SetHubLinks(a, true)
	r.SetHubLinks(b, true)
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	save(1) // beside what it does not know of
	r.WaitSame(r.Boxes()...)
	for _, x := range r.Boxes() {
		s.MarkersOnce(t, x)
	}
	a.Eventually(rig.ConvergeMax, "words about the old copy", func() string { return rig.FaultLike(a, "restored from an older state") })
	r.NoEvidence(r.Boxes()...)
	r.Check(r.Boxes()...)
}

// TestClonedCard: the card of a clinic is copied into a second machine. Both go on
// working, no record is lost, and both are told.
func TestClonedCard(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 1)
	a := r.Clinics[0]
	patient := a.Page().Register("Zawadi", "Twice")
	r.WaitSame(r.Boxes()...)
	a.Stop()
	twin := rig.OtherMachine(t, a, "Clinic 1 on another board")
	s := rig.NewSaved()
	save := func(x *rig.Box) {
		v := rig.NewVisit(rnd, patient)
		s.Posted(v)
		if err := s.Acked(v, x.Page().MustSave(v)); err != nil {
			t.Fatal(err)
		}
	}
	// Two libp2p hosts of one key: a hub holds the newer connection. They take turns.
	for range 2 {
		for _, x := range []*rig.Box{a, twin} {
			x.Start()
			if err := x.Page().SignIn(); err != nil {
				t.Fatal(err)
			}
			save(x)
			r.WaitSame(append([]*rig.Box{x}, r.Hubs...)...)
			x.Stop()
		}
	}
	a.Start()
	r.WaitSame(append([]*rig.Box{a}, r.Hubs...)...)
	for _, x := range append([]*rig.Box{a}, r.Hubs...) {
		s.MarkersOnce(t, x)
	}
	a.Eventually(rig.ConvergeMax, "words about two machines", func() string { return rig.FaultLike(a, "two boards") })
	twin.Start()
	twin.Eventually(rig.ConvergeMax, "words about two machines", func() string { return rig.FaultLike(twin, "two boards") })
	if out := r.Hubs[0].Must("region", "members"); !strings.Contains(out, "in two boards") {
		t.Errorf("the list of members does not tell of the copy:\n%s", out)
	}
	r.NoEvidence(append([]*rig.Box{a}, r.Hubs...)...)
	r.Check(a)
}
