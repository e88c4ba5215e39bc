package sim_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

// cardsMin is how many old and copied cards are put into honest boxes at least.
const cardsMin = 20

// TestOldCards puts old cards and copied ones into clinics and hubs until so many
// were. Nobody may be blamed for it, and nothing may be lost.
func TestOldCards(t *testing.T) {
	seed, given := newSeed(t)
	var all sim.Result
	n := uint64(0)
	for ; all.Restores+all.Clones < cardsMin; n++ {
		t.Run(strconv.FormatUint(seed+n, 10), func(t *testing.T) {
			r := holdIn(t, sim.Cards, seed+n)
			t.Log(r)
			all.Restores, all.HubRestores, all.Clones, all.Saves, all.Sessions = all.Restores+r.Restores, all.HubRestores+r.HubRestores, all.Clones+r.Clones, all.Saves+r.Saves, all.Sessions+r.Sessions
		})
		if given || t.Failed() {
			break
		}
	}
	t.Logf("seeds %d to %d: %d old cards (%d of hubs), %d copied ones, %d saves, %d sessions", seed, seed+n-1, all.Restores, all.HubRestores, all.Clones, all.Saves, all.Sessions)
}

// planted is a break with the invariants that may see it.
type planted struct {
	name  string
	hooks sim.Hooks
	by    []string
	from  uint64 // the first seed to try
}

// caught wants one of a few seeds of a scenario to see each break.
func caught(t *testing.T, scenario sim.Scenario, list []planted) {
	t.Helper()
	for _, x := range list {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			for seed := max(x.from, 1); seed < x.from+40; seed++ {
				_, err := run(t, scenario, seed, x.hooks)
				var v *sim.Violation
				if errors.As(err, &v) {
					if !slices.Contains(x.by, v.Invariant) {
						t.Errorf("seed %d: caught by %q, want one of %q: %s", seed, v.Invariant, x.by, v.What)
					}
					t.Logf("seed %d: %s: %s", seed, v.Invariant, v.What)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			t.Error("no seed saw it")
		})
	}
}

// TestCardBreaksAreCaught breaks what boxes do about cards.
func TestCardBreaksAreCaught(t *testing.T) {
	caught(t, sim.Cards, []planted{
		{"epochs begin alike", sim.Hooks{SameNonce: true}, []string{sim.EpochsUnshared}, 1},
		{"a box signs twice for a place", sim.Hooks{Contradict: true}, []string{sim.CardsBlameNobody}, 1},
		{"nobody hands a box its own records", sim.Hooks{HideOwn: true}, []string{sim.OwnComesBack, sim.Converges, sim.SyncTerminates}, 37},
		{"a hub votes by an old card", sim.Hooks{VoteAnyway: true}, []string{sim.AgreedStays}, 1},
		{"a hub signs by an old card", sim.Hooks{SignOld: true}, []string{sim.SignsUpward}, 3},
	})
}
