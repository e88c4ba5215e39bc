package sim_test

import (
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

const twiceRuns = 2

// TestContradictions plays regions in which a clinic signs two records for one
// place and runs behind them: the feed freezes everywhere, no body is lost.
func TestContradictions(t *testing.T) {
	seed, given := newSeed(t)
	n := 0
	for ; n < twiceRuns && !t.Failed(); n++ {
		t.Run(strconv.FormatUint(seed+uint64(n), 10), func(t *testing.T) { t.Log(holdIn(t, sim.Twice, seed+uint64(n))) })
		if given {
			n++
			break
		}
	}
	t.Logf("seeds %d to %d", seed, seed+uint64(n)-1)
}
