package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// jumpedDays are where a clock jumps to, in days after the first of January 1970: that
// day, the end of 32 bits, fifty years on, the year 9000.
var jumpedDays = []int{0, 24855, 39000, 2567000}

// TestClocksJump: the clocks of a hub and of a clinic jump between 1970 and the year
// 9000 while staff save. Nothing is refused, lost or there twice, and a box whose clock
// is right goes on beside them.
func TestClocksJump(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 1, 2)
	hub, clinic, sane := r.Hubs[0], r.Clinics[0], r.Clinics[1]
	var set []func(days int)
	for _, b := range []*rig.Box{hub, clinic} {
		b.Stop()
		set = append(set, setClock(t, b))
		set[len(set)-1](jumpedDays[rnd.IntN(len(jumpedDays))])
		b.Start()
	}
	s := rig.NewSaved()
	rounds := 3 + int(kills(t))/12
	patient := clinic.Page().Register("Rehema", "Jumped")
	for range rounds {
		for i := range set {
			set[i](jumpedDays[rnd.IntN(len(jumpedDays))])
		}
		for range 3 {
			v := rig.NewVisit(rnd, patient)
			s.Posted(v)
			saveAgain(t, clinic.Page(), s, v)
		}
	}
	other := sane.Page().Register("Ana", "Sane")
	for range 5 {
		v := rig.NewVisit(rnd, other)
		s.Posted(v)
		if err := s.Acked(v, sane.Page().MustSave(v)); err != nil {
			t.Fatal(err)
		}
	}
	r.WaitSame(r.Boxes()...)
	for _, b := range r.Boxes() {
		s.MarkersOnce(t, b)
	}
	r.NoEvidence(r.Boxes()...)
	r.Check(r.Boxes()...)
}

// saveAgain saves a form until it is taken: a session may have ended because years
// went by.
func saveAgain(t *testing.T, p *rig.Page, s *rig.Saved, v rig.Visit) {
	t.Helper()
	why := rig.Poll(time.Minute, func() string {
		rid, _, err := p.Save(v)
		if err == nil {
			err = s.Acked(v, rid)
		}
		if err != nil {
			if again := p.SignIn(); again != nil {
				return fmt.Sprintf("%v; %v", err, again)
			}
			return err.Error()
		}
		return ""
	})
	if why != "" {
		t.Errorf("a visit is not saved: %s", why)
	}
}
