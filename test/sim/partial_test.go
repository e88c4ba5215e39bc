package sim_test

import (
	"flag"
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

var partials = flag.Int("sim.partial", 3, "how many regions with partial replicas to run")

// TestPartialReplicas plays regions in which some boxes hold a part of the ledger:
// they accept the checkpoints of all others, know what they miss, get what their
// profile has and nothing else.
func TestPartialReplicas(t *testing.T) {
	seed, given := newSeed(t)
	n := 0
	for ; n < *partials && !t.Failed(); n++ {
		t.Run(strconv.FormatUint(seed+uint64(n), 10), func(t *testing.T) { t.Log(holdIn(t, sim.Partial, seed+uint64(n))) })
		if given {
			n++
			break
		}
	}
	t.Logf("seeds %d to %d", seed, seed+uint64(n)-1)
}
