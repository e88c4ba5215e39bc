package e2e_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// TestPaused: a hub that leads stands still, as on a machine that swaps, until
// another leads, and goes on as if nothing had been; then a clinic does. Nothing that
// was acknowledged meanwhile is lost, nobody signs two ledgers.
func TestPaused(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	h := newHubKills(t, rnd, 3, 2)
	end := h.load(rnd)
	rounds := 1 + int(kills(t))/30
	for range rounds {
		lead := h.r.WaitLeader()
		h.note()
		lead.Signal(syscall.SIGSTOP)
		begun, size := time.Now(), h.confirmed()
		h.r.Eventually(rig.ConvergeMax, "order to go on without "+lead.Name, func() string {
			return rig.UntilSize(h.r.Clinics[0], size+20)
		})
		t.Logf("order went on %s after %s, which led, stood still", time.Since(begun).Round(time.Millisecond), lead.Name)
		lead.Signal(syscall.SIGCONT)
		h.goesOn()

		clinic, other := h.r.Clinics[rnd.IntN(2)], h.r.Clinics[0]
		if clinic == other {
			other = h.r.Clinics[1]
		}
		size = other.Status().Size
		clinic.Signal(syscall.SIGSTOP)
		other.Eventually(rig.ConvergeMax, "the others to go on", func() string { return rig.UntilSize(other, size+5) })
		clinic.Signal(syscall.SIGCONT)
		h.goesOn()
	}
	end()
	t.Logf("%d pauses of a hub that leads, as many of a clinic", rounds)
	h.check()
}
