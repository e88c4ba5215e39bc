package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
)

// sheets agrees on recovery sheets, two of three, and gives their files.
func (r *Region) sheets() []string {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "sheets")
	var made struct {
		Files []string   `json:"files"`
		Vote  node.Voted `json:"vote"`
	}
	if err := json.Unmarshal([]byte(r.hubs[0].must("region", "recovery", "create", "--people", "3", "--needed", "2", "--out", dir, "--json")), &made); err != nil {
		r.t.Fatal(err)
	}
	if !made.Vote.Passed {
		id := made.Vote.Proposal.ID
		r.eventually(convergeMax, "the word of another hub", func() string {
			if a := r.hubs[1].Command("", "region", "hubs", "approve", id); a.code != 0 {
				return a.err
			}
			return ""
		})
	}
	return made.Files
}

// reset runs the drill on a stopped box with two of the sheets.
func (b *Box) reset(sheets []string, more ...string) node.ResetReport {
	b.t.Helper()
	args := append([]string{"region", "reset", "--json", "--sheet", sheets[2], "--sheet", sheets[0]}, more...)
	var rep node.ResetReport
	if err := json.Unmarshal([]byte(b.must(args...)), &rep); err != nil {
		b.t.Fatal(err)
	}
	return rep
}

// gone ends a box for good, disk and all.
func (b *Box) gone() {
	b.t.Helper()
	b.Kill()
	if err := os.RemoveAll(b.dir); err != nil {
		b.t.Fatal(err)
	}
}

// holdsConfirmed waits until these records are in the regional record here.
func (b *Box) holdsConfirmed(rids ...string) {
	b.t.Helper()
	for _, rid := range rids {
		b.eventually(convergeMax, "a record to be confirmed at "+b.name, func() string {
			s, err := b.recordState(rid)
			switch {
			case err != nil:
				return err.Error()
			case s.State != "confirmed":
				return s.State
			}
			return ""
		})
	}
}

// TestMajorityLost: two of three hubs burn, and the third was away while they
// ordered more. It fetches that from the clinics, begins the next generation, and
// nothing that any box holds is lost.
func TestMajorityLost(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	sheets := r.sheets()
	a, b := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Tatu", "Recovered")
	early := a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(r.boxes()...)

	last := r.hubs[0]
	last.Stop()
	missed := a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(a, b)
	r.hubs[1].gone()
	r.hubs[2].gone()
	pending := a.Page().mustSave(newVisit(rnd, patient))
	other := b.Page().mustSave(newVisit(rnd, b.Page().Register("Ana", "Waiting")))

	if c := last.Command("", "region", "reset", "--sheet", sheets[1]); c.code != 1 || !strings.Contains(c.err, "2 are needed") {
		t.Errorf("a reset with one sheet: exit code %d\n%s", c.code, c.err)
	}
	rep := last.reset(sheets, "--collect", "30s")
	if rep.Generation != 2 || rep.Collected == 0 || len(rep.Met) != 2 || len(rep.Hubs) != 1 {
		t.Errorf("the reset: got %+v", rep)
	}
	last.Start()
	r.waitSame(last, a, b)
	for _, x := range []*Box{last, a, b} {
		x.holdsConfirmed(early, missed, pending, other)
	}

	fresh := newBox(t, "Hub 4", "hub")
	r.hubs = []*Box{last, fresh}
	r.admit(fresh)
	r.eventually(convergeMax, "the new hub to vote", func() string {
		s, why := last.tryStatus()
		if why == "" && s.Voters != 2 {
			why = s.Ordering
		}
		return why
	})
	after := a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(last, fresh, a, b)
	fresh.holdsConfirmed(early, missed, pending, other, after)
	r.check(last, fresh, a, b)
}

// TestEveryHubLost: no hub is left. A clinic becomes one, and finds the others
// where they said they can be reached.
func TestEveryHubLost(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 1, 2)
	sheets := r.sheets()
	a, b := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Juma", "Recovered")
	early := a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(r.boxes()...)
	r.hubs[0].gone()
	pending := b.Page().mustSave(newVisit(rnd, b.Page().Register("Neema", "Waiting")))

	a.Stop()
	rep := a.reset(sheets, "--collect", "20s")
	if rep.Generation != 2 || len(rep.Hubs) != 1 || rep.Hubs[0] != a.name {
		t.Errorf("the reset: got %+v", rep)
	}
	a.Start()
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	later := a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(a, b)
	for _, x := range []*Box{a, b} {
		x.holdsConfirmed(early, pending, later)
	}
	r.check(a, b)
}
