package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// setClock gives a stopped box a clock that set moves: to so many days after the
// first of January 1970.
func setClock(t *testing.T, b *rig.Box) (set func(days int)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clock")
	breakable(t, b, "HEALTHPOST_CLOCK="+file)
	return func(days int) {
		wrong := time.Unix(0, 0).AddDate(0, 0, days).Sub(time.Now().Truncate(24 * time.Hour))
		if err := os.WriteFile(file+".new", []byte(strconv.FormatInt(int64(wrong.Seconds()), 10)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMonthAwayWithoutClock: a worker's device is away for thirty days, with no
// network and no battery for its clock, which begins in 1970 anew each time it is
// switched on. Nothing that was saved is refused or lost when it comes back, its
// clock still wrong, and a chart has the visits in the order in which they were saved and
// says that their times are uncertain.
func TestMonthAwayWithoutClock(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 1, 1)
	clinic := r.Clinics[0]
	device := rig.NewBox(t, "Device", "field")
	r.Clinics = append(r.Clinics, device)
	r.Admit(device)
	patient := device.Page().Register("Neema", "Afar")
	r.WaitSame(r.Boxes()...)

	r.SetLinks(device, false)
	device.Stop()
	set := setClock(t, device)
	s := rig.NewSaved()
	var markers []string
	for range 3 { // batteries
		set(0)
		device.Start()
		for since := 1; since < 30; since += 14 {
			set(since)
			if err := device.Page().SignIn(); err != nil {
				t.Fatal(err)
			}
			v := rig.NewVisit(rnd, patient)
			v.Values.Set("at", device.Page().Form("/patient/"+patient+"/visit", nil).Get("at"))
			s.Posted(v)
			if err := s.Acked(v, device.Page().MustSave(v)); err != nil {
				t.Fatal(err)
			}
			markers = append(markers, v.Marker)
		}
		device.Kill()
	}
	set(30)
	device.Start()
	if got := device.Status(); got.Pending < len(markers) {
		t.Errorf("%s after a month: %s, want at least %d records on it alone", device.Name, rig.Describe(got), len(markers))
	}
	r.SetLinks(device, true)
	device.Must("sync")
	r.WaitSame(r.Boxes()...)
	s.WaitConfirmed(device)
	for _, b := range r.Boxes() {
		s.MarkersOnce(t, b)
	}
	chart, last := rig.MainWords(clinic.Page().Must("/patient/"+patient)), len(markers)*1_000_000
	for _, m := range markers { // the newest stands first
		at := strings.Index(chart, m)
		if at < 0 || at > last {
			t.Errorf("%s shows %s at %d, want it before %d, where the visit before it is", clinic.Name, m, at, last)
		}
		last = at
	}
	if t.Failed() {
		t.Logf("visits were saved as %v; the chart: %s", markers, chart)
	}
	if !strings.Contains(chart, "time uncertain") {
		t.Errorf("%s says nothing of the clock: %.600s", clinic.Name, chart)
	}
	r.Check(r.Boxes()...)
}
