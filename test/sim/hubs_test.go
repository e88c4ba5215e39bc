package sim_test

import (
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

const hubsRuns = 3

// TestLyingHubs plays regions in which hubs lie: what can be forged, hidden or
// shown twice is refused, or proven by whoever could know.
func TestLyingHubs(t *testing.T) {
	seed, given := newSeed(t)
	var all sim.Result
	n := 0
	for ; n < hubsRuns && !t.Failed(); n++ {
		t.Run(strconv.FormatUint(seed+uint64(n), 10), func(t *testing.T) {
			r := holdIn(t, sim.Hubs, seed+uint64(n))
			t.Log(r)
			all.Saves, all.Lies, all.Evidence, all.Exposed, all.Promises = all.Saves+r.Saves, all.Lies+r.Lies, all.Evidence+r.Evidence, all.Exposed+r.Exposed, all.Promises+r.Promises
		})
		if given {
			n++
			break
		}
	}
	t.Logf("seeds %d to %d: %d saves, %d lies refused, %d meetings of two views, %d broken promises, %d pieces of evidence taken", seed, seed+uint64(n)-1,
		all.Saves, all.Lies, all.Exposed, all.Promises, all.Evidence)
}
