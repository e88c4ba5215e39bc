package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// chartsWatched is how many charts are opened in a round: in a session each has one
// line for all its looks.
const chartsWatched = 12

// watched is a box that dies while its staff open charts.
type watched struct {
	t      *testing.T
	box    *rig.Box
	rnd    *rand.Rand
	charts []string // paths
	lines  int      // of charts that were shown, so far
}

func newWatched(t *testing.T, b *rig.Box, rnd *rand.Rand) *watched {
	b.Start()
	w := &watched{t: t, box: b, rnd: rnd}
	for i := range chartsWatched {
		w.charts = append(w.charts, "/patient/"+b.Page().Register("Tatu", fmt.Sprintf("Watched %d", i)))
	}
	w.lines = w.count()
	return w
}

// count counts the lines of the access log about charts that were shown.
func (w *watched) count() (n int) {
	for line := range strings.Lines(w.box.Must("export", "--format", "access")) {
		if strings.Contains(line, "PatientRead") {
			n++
		}
	}
	return n
}

// round opens charts until the box dies, and tells how many were asked for, how many
// were shown, and how many lines there are of it.
func (w *watched) round() (asked, shown, lines int) {
	w.t.Helper()
	p := w.box.Page()
	seen := make(chan bool, len(w.charts))
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(seen)
		for _, c := range w.charts {
			asked++
			a, err := p.Get(c)
			if a.Status == http.StatusOK { // what is on the screen is seen, also half of it
				shown++
			}
			if err != nil || a.Status != http.StatusOK {
				return
			}
			seen <- true
		}
	})
	for range w.rnd.IntN(len(w.charts)) { // the moment of a kill is random, however fast the machine is
		<-seen
	}
	<-time.After(time.Duration(w.rnd.Int64N(int64(15 * time.Millisecond))))
	w.box.Kill()
	wg.Wait()
	w.box.Start()
	if err := p.SignIn(); err != nil {
		w.t.Fatal(err)
	}
	before := w.lines
	w.lines = w.count()
	return asked, shown, w.lines - before
}

// TestNoLookWithoutItsLine: a box dies at random moments while its staff open charts.
// Whatever was shown has its line in the access log afterwards, and no line is there
// that nobody asked for.
func TestNoLookWithoutItsLine(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	w := newWatched(t, rig.NewBox(t, "Watched clinic", "standalone"), rnd)
	all, rounds := 0, kills(t)/2
	for range rounds {
		asked, shown, lines := w.round()
		if lines < shown || lines > asked {
			t.Errorf("%d charts were shown of %d that were asked for; the access log has %d lines", shown, asked, lines)
		}
		all += shown
	}
	if all == 0 {
		t.Error("no chart was shown")
	}
	t.Logf("%d kills, %d looks, each with its line", rounds, all)
}

// TestForgetfulLogIsSeen: where lines are said to be on the disk before they are, the
// same rounds miss some.
func TestForgetfulLogIsSeen(t *testing.T) {
	t.Parallel()
	b := rig.NewBox(t, "Forgetful office", "standalone")
	breakable(t, b, "HEALTHPOST_FORGETFUL=1")
	w := newWatched(t, b, rig.NewRand(t))
	const tries = 20
	for range tries {
		if _, shown, lines := w.round(); lines < shown {
			t.Logf("%d charts were shown, %d lines are there", shown, lines)
			return
		}
	}
	t.Errorf("after %d kills no line is missed of what was never on the disk", tries)
}
