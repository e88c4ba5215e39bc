package nemesis_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/nemesis"
	"github.com/healthpost/healthpost/test/rig"
)

// TestAttackControl runs a clinic whose page calls a record confirmed as soon as a hub
// holds it. While one of two hubs is dead nothing is confirmed, and the history shows
// what the page said.
func TestAttackControl(t *testing.T) {
	seed := rig.NewSeed(t)
	lies, err := rig.Overlaid("confirms-early", nil, map[string][2]string{"web/badge.go": {`case chart\.Copied:`,
		"case chart.Copied:\n\t\tif c != nil {\n\t\t\treturn badge{rid, kindConfirmed, c.Text(\"state.confirmed\")}\n\t\t}"}})
	check(t, "building", err)
	a := newAttack(t, seed, lies, 2, 1)
	a.begin()
	a.strike(nemesis.Blow{What: "a hub is killed", Kill: []int{1}, Stands: 4 * time.Second})
	for _, f := range a.judge() {
		if f.Fault == nemesis.Stale {
			return
		}
	}
	t.Error("nothing was found")
}
