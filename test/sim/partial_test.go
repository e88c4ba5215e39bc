package sim_test

import (
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

const partialsRuns = 2

// TestPartialReplicas plays regions in which some boxes hold a part of the ledger:
// they accept the checkpoints of all others, know what they miss, get what their
// profile has and nothing else.
func TestPartialReplicas(t *testing.T) {
	seed, given := newSeed(t)
	n := 0
	for ; n < partialsRuns && !t.Failed(); n++ {
		t.Run(strconv.FormatUint(seed+uint64(n), 10), func(t *testing.T) { t.Log(holdIn(t, sim.Partial, seed+uint64(n))) })
		if given {
			n++
			break
		}
	}
	t.Logf("seeds %d to %d", seed, seed+uint64(n)-1)
}
