package sim_test

import (
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

// TestLieBreaksAreCaught breaks what boxes do about hubs that lie.
func TestLieBreaksAreCaught(t *testing.T) {
	caught(t, sim.Hubs, []planted{
		{"boxes keep quiet about what they know", sim.Hooks{KeepQuiet: true}, []string{sim.ViewsExposed}, 3},
		{"boxes go on after a majority lied", sim.Hooks{NoFreeze: true}, []string{sim.FrozenStays}, 1},
		{"boxes believe any evidence", sim.Hooks{BelieveAll: true}, []string{sim.EvidencePortable, sim.HonestUnblamed}, 6},
		{"boxes forget a promise at the next", sim.Hooks{NewestPromise: true}, []string{sim.PromisesProven}, 8},
		{"one hub says what time it is", sim.Hooks{NewestTime: true}, []string{sim.MajorityTime}, 2},
		{"one cosignature makes a checkpoint final", sim.Hooks{OneIsMajority: true}, []string{sim.FinalOrdered, sim.CheckpointsAgree, sim.GarbageInert}, 1},
	})
}

// TestTwiceBreaksAreCaught breaks what boxes do about a clinic that contradicts
// itself.
func TestTwiceBreaksAreCaught(t *testing.T) {
	caught(t, sim.Twice, []planted{
		{"boxes keep quiet about what they know", sim.Hooks{KeepQuiet: true}, []string{sim.TwiceExposed}, 1},
		{"boxes do not keep what they refused", sim.Hooks{ForgetBranch: true}, []string{sim.BranchesKept}, 1},
	})
}
