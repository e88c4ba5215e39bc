package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// brokenClockProgram builds the program with a clock that a file sets.
var brokenClockProgram = sync.OnceValues(func() (string, error) {
	return overlaid("clock", map[string]string{"node/clock.go": "testdata/clock/clock.go.txt"}, map[string][2]string{
		"node/options.go": {`Now: time\.Now,`, `Now: brokenClock,`},
	})
})

// setClock gives a stopped box a clock that set moves: to so many days after the
// first of January 1970.
func setClock(t *testing.T, b *Box) (set func(days int)) {
	t.Helper()
	bin, err := brokenClockProgram()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "clock")
	b.program, b.env = bin, []string{"HEALTHPOST_CLOCK=" + file}
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
	rnd := newRand(t)
	r := newRegion(t, 1, 1)
	clinic := r.clinics[0]
	device := newBox(t, "Device", "field")
	r.clinics = append(r.clinics, device)
	r.admit(device)
	patient := device.Page().Register("Neema", "Afar")
	r.waitSame(r.boxes()...)

	r.linkAll(device, false)
	device.Stop()
	set := setClock(t, device)
	s := newSaved()
	var markers []string
	for range 3 { // batteries
		set(0)
		device.Start()
		for since := 1; since < 30; since += 14 {
			set(since)
			if err := device.Page().SignIn(); err != nil {
				t.Fatal(err)
			}
			v := newVisit(rnd, patient)
			v.values.Set("at", device.Page().Form("/patient/"+patient+"/visit", nil).Get("at"))
			s.posted(v)
			if err := s.acked(v, device.Page().mustSave(v)); err != nil {
				t.Fatal(err)
			}
			markers = append(markers, v.marker)
		}
		device.Kill()
	}
	set(30)
	device.Start()
	if got := device.Status(); got.Pending < len(markers) {
		t.Errorf("%s after a month: %s, want at least %d records on it alone", device.name, describe(got), len(markers))
	}
	r.linkAll(device, true)
	device.must("sync")
	r.waitSame(r.boxes()...)
	s.waitConfirmed(device)
	for _, b := range r.boxes() {
		s.markersOnce(t, b)
	}
	chart, last := mainWords(clinic.Page().must("/patient/"+patient)), len(markers)*1_000_000
	for _, m := range markers { // the newest stands first
		at := strings.Index(chart, m)
		if at < 0 || at > last {
			t.Errorf("%s shows %s at %d, want it before %d, where the visit before it is", clinic.name, m, at, last)
		}
		last = at
	}
	if t.Failed() {
		t.Logf("visits were saved as %v; the chart: %s", markers, chart)
	}
	if !strings.Contains(chart, "time uncertain") {
		t.Errorf("%s says nothing of the clock: %.600s", clinic.name, chart)
	}
	r.check(r.boxes()...)
}
