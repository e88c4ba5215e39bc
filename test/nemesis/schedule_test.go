package nemesis_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/nemesis"
	"github.com/healthpost/healthpost/test/rig"
)

// TestSchedules: every schedule has a name of its own, cuts something, ends whole, and
// is the same for the same seed.
func TestSchedules(t *testing.T) {
	seed := rig.NewSeed(t)
	timing := nemesis.Timing{Whole: 10 * time.Minute, FaultMin: 10 * time.Second, FaultMax: time.Minute, HealedMin: 20 * time.Second, HealedMax: 30 * time.Second}
	names := map[string]bool{}
	for _, s := range nemesis.Schedules {
		if names[s.Name] {
			t.Errorf("two schedules are called %s", s.Name)
		}
		names[s.Name] = true
		steps, again := s.Steps(rand.New(rand.NewPCG(seed, 1)), timing), s.Steps(rand.New(rand.NewPCG(seed, 1)), timing)
		var whole time.Duration
		cuts := 0
		for i, x := range steps {
			whole += x.After
			if x.What != again[i].What || x.After != again[i].After || x.Ways.String() != again[i].Ways.String() {
				t.Errorf("%s: step %d differs for one seed", s.Name, i)
			}
			if x.Ways.String() != "whole" {
				cuts++
			} else if i == len(steps)-1 && !x.Heals {
				t.Errorf("%s does not end healed", s.Name)
			}
		}
		if cuts == 0 || whole < timing.Whole || steps[len(steps)-1].Ways.String() != "whole" {
			t.Errorf("%s: %d cuts in %v, it ends %v", s.Name, cuts, whole, steps[len(steps)-1].Ways)
		}
	}
	if len(names) < 24 {
		t.Errorf("%d schedules", len(names))
	}
}

// TestStepForLeader turns a step so that position 0 is who leads.
func TestStepForLeader(t *testing.T) {
	w := nemesis.Healthy(3)
	w[0][1].Dropped = true
	for leader, want := range map[int]string{-1: "0-1", 0: "0-1", 1: "1-2", 2: "2-0"} {
		if got := (nemesis.Step{Ways: w, FromLeader: true}).For(leader).String(); got != want {
			t.Errorf("leader %d: %s, want %s", leader, got, want)
		}
	}
}
