package nemesis_test

import (
	"fmt"
	"slices"
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
	dead := a.Hubs[1]
	a.kill(dead)
	killed := a.history.Count()
	a.Eventually(resumeLimit, "a record saved since to be called confirmed", func() string {
		if a.toldEarly(killed) {
			return ""
		}
		return fmt.Sprintf("%d operations since the hub was killed", a.history.Count()-killed)
	})
	dead.Start()
	a.healed("a hub was killed", time.Now())
	for _, f := range a.judge() {
		if f.Fault == nemesis.Stale {
			return
		}
	}
	t.Error("nothing was found")
}

// toldEarly tells whether a page called a record confirmed that was saved after the
// first operations.
func (a *attack) toldEarly(first int) bool {
	saved := map[uint64]bool{}
	for _, op := range a.history.Ops()[first:] {
		if op.Kind == nemesis.Save {
			saved[op.Record] = true
		}
		if op.Kind == nemesis.Read && slices.ContainsFunc(op.Seen, func(s nemesis.Seen) bool { return s.Confirmed && saved[s.Record] }) {
			return true
		}
	}
	return false
}
