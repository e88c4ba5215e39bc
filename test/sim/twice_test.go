package sim_test

import (
	"flag"
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

var twice = flag.Int("sim.twice", 2, "how many regions with a clinic that signs two records for a place to run")

// TestContradictions plays regions in which a clinic signs two records for one
// place and runs behind them: the feed freezes everywhere, no body is lost.
func TestContradictions(t *testing.T) {
	seed, given := newSeed(t)
	n := 0
	for ; n < *twice && !t.Failed(); n++ {
		t.Run(strconv.FormatUint(seed+uint64(n), 10), func(t *testing.T) { t.Log(holdIn(t, sim.Twice, seed+uint64(n))) })
		if given {
			n++
			break
		}
	}
	t.Logf("seeds %d to %d", seed, seed+uint64(n)-1)
}
