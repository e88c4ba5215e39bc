package sim_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

// TestFailuresShrink plants a fault, and wants a smaller region that still shows
// it, with a line that repeats it.
func TestFailuresShrink(t *testing.T) {
	o := sim.Options{Dir: folder(t), Scenario: sim.Cards, Hooks: sim.Hooks{SameNonce: true}}
	_, err := sim.Run(1, o)
	var v *sim.Violation
	if !errors.As(err, &v) {
		t.Fatalf("the fault was not seen: %v", err)
	}
	o.Dir = folder(t)
	small, err := sim.Shrink(v, o, 40)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(small)
	if got := small.Less; got.Clinics == 0 || got.Clinics > 2 || len(got.Off) < 3 {
		t.Errorf("shrunk to %q, want at most two clinics and few faults", got)
	}
	if lines := strings.Join(small.Script, "\n"); len(small.Script) > 200 || !strings.Contains(lines, "opens epoch") {
		t.Errorf("%d lines of script", len(small.Script))
	}
	x, seed, less := parseLine(t, small.Line())
	_, err = sim.Run(seed, sim.Options{Dir: folder(t), Scenario: x, Hooks: o.Hooks, Less: less})
	var again *sim.Violation
	if !errors.As(err, &again) || again.Invariant != v.Invariant || again.What != small.Violation.What {
		t.Errorf("%q gives %v, want %s", small.Line(), err, small.Violation.What)
	}
}

func TestLessSurvivesItsText(t *testing.T) {
	for _, text := range []string{"", "clinics=2 seconds=30 saves=4 no-lies no-crashes", "rounds=9 no-tricks"} {
		l, err := sim.ParseLess(text)
		if err != nil || l.String() != text {
			t.Errorf("%q comes back as %q, %v", text, l, err)
		}
	}
	for _, text := range []string{"clinics", "clinics=0", "no-such", "saves=x", "frogs=2"} {
		if _, err := sim.ParseLess(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
