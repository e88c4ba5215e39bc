package e2e_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestMajorityLost: two of three hubs burn, and the third was away while they
// ordered more. It fetches that from the clinics, begins the next generation, and
// nothing that any box holds is lost.
func TestMajorityLost(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	sheets := r.Sheets()
	a, b := r.Clinics[0], r.Clinics[1]
	patient := a.Page().Register("Tatu", "Recovered")
	early := a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(r.Boxes()...)

	last := r.Hubs[0]
	last.Stop()
	missed := a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(a, b)
	r.Hubs[1].Gone()
	r.Hubs[2].Gone()
	pending := a.Page().MustSave(rig.NewVisit(rnd, patient))
	other := b.Page().MustSave(rig.NewVisit(rnd, b.Page().Register("Ana", "Waiting")))

	if c := last.Command("", "region", "reset", "--sheet", sheets[1]); c.Code != 1 || !strings.Contains(c.Err, "2 are needed") {
		t.Errorf("a reset with one sheet: exit code %d\n%s", c.Code, c.Err)
	}
	rep := last.Reset(sheets, "--collect", "30s")
	if rep.Generation != 2 || rep.Collected == 0 || len(rep.Met) != 2 || len(rep.Hubs) != 1 {
		t.Errorf("the reset: got %+v", rep)
	}
	last.Start()
	r.WaitSame(last, a, b)
	for _, x := range []*rig.Box{last, a, b} {
		x.HoldsConfirmed(early, missed, pending, other)
	}

	fresh := rig.NewBox(t, "Hub 4", "hub")
	r.Hubs = []*rig.Box{last, fresh}
	r.Admit(fresh)
	r.Eventually(rig.ConvergeMax, "the new hub to vote", func() string {
		s, why := last.TryStatus()
		if why == "" && s.Voters != 2 {
			why = s.Ordering
		}
		return why
	})
	after := a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(last, fresh, a, b)
	fresh.HoldsConfirmed(early, missed, pending, other, after)
	r.Check(last, fresh, a, b)
}

// TestEveryHubLost: no hub is left. A clinic becomes one, and finds the others where
// they said they can be reached; a third was off all the time, with a record that
// nobody else has. Whatever any replica holds is in the regional record afterwards.
func TestEveryHubLost(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 3)
	sheets := r.Sheets()
	a, b, away := r.Clinics[0], r.Clinics[1], r.Clinics[2]
	patient := a.Page().Register("Juma", "Recovered")
	early := a.Page().MustSave(rig.NewVisit(rnd, patient))
	alone := away.Page().Register("Zuri", "Away")
	r.WaitSame(r.Boxes()...)
	r.SetLinks(away, false)
	kept := away.Page().MustSave(rig.NewVisit(rnd, alone))
	away.Kill()
	late := b.Page().MustSave(rig.NewVisit(rnd, b.Page().Register("Imani", "Late")))
	r.WaitSame(append([]*rig.Box{a, b}, r.Hubs...)...)
	for _, h := range r.Hubs {
		h.Gone()
	}
	pending := b.Page().MustSave(rig.NewVisit(rnd, b.Page().Register("Neema", "Waiting")))

	a.Stop()
	rep := a.Reset(sheets, "--collect", "20s")
	if rep.Generation != 2 || len(rep.Hubs) != 1 || rep.Hubs[0] != a.Name {
		t.Errorf("the reset: got %+v", rep)
	}
	a.Start()
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	later := a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(a, b)
	r.SetLinks(away, true)
	away.Start()
	r.WaitSame(a, b, away)
	for _, x := range []*rig.Box{a, b, away} {
		x.HoldsConfirmed(early, late, pending, later, kept)
	}
	r.Check(a, b, away)
}
