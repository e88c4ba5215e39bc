package link_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/link"
)

// Links of the figures.
const deepQueue = 32 << 10

func gprs() (up, down link.Path) {
	return link.Path{Rate: 20_000, Delay: 350 * time.Millisecond, Loss: 0.01, Queue: deepQueue},
		link.Path{Rate: 40_000, Delay: 350 * time.Millisecond, Loss: 0.01, Queue: deepQueue}
}

// BenchmarkLinkDay: a clinic's day of 200 visits, saved on the page while there was
// no network, goes up; half-way an urgent visit is saved.
func BenchmarkLinkDay(b *testing.B) {
	for range b.N {
		metric(b, load(b), "load/core")
		r := newRig(b, 3)
		rnd := rand.New(rand.NewPCG(r.seed, 1))
		r.unplug()
		patient := r.clinic.browser.day(rnd, 200)
		s := r.clinic.status()
		metric(b, float64(s.Pending), "records")
		up, down := gprs()
		_ = patient
		t := r.exchange(up, down, 20*time.Minute)
		t.report(b)
		r.same(time.Minute)
	}
}
