package link_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
)

// cutter cuts a rig's link again and again, each time some random bytes after the
// clinic has called anew.
type cutter struct {
	r        *line
	apart    int64 // bytes from one cut to the next, on average, besides those of a greeting
	greeting int64

	mu   sync.Mutex
	left int // guarded by mu
	made int // guarded by mu
	over chan struct{}
}

func (r *line) cutAgain(cuts int, apart, greeting int64) *cutter {
	c := &cutter{r: r, apart: apart, greeting: greeting, left: cuts, over: make(chan struct{})}
	c.next()
	return c
}

func (c *cutter) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		close(c.over)
		return
	}
	c.r.CutAfter(c.greeting+c.r.rnd.Int64N(2*c.apart), c.cut)
}

// cut counts and has the clinic call at once instead of after its backoff.
func (c *cutter) cut() {
	c.mu.Lock()
	c.left, c.made = c.left-1, c.made+1
	c.mu.Unlock()
	c.r.clinic.Ask(func(ctx context.Context, n *node.Client) error { return n.SetLink(ctx, true) }) // it tries by itself as well
	c.next()
}

// end stops cutting and gives how often it was done.
func (c *cutter) end() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 0
	c.r.CutAfter(1<<60, func() {})
	return c.made
}

// cutFigures are bytes on the wire of a meeting without news, of a day in one
// session, and of one in many.
type cutFigures struct {
	greeting, whole, parts int64
	records                [2]int
	cuts                   int
}

// ratio is what the day in many sessions took, a greeting for each cut taken off,
// by what the day in one took for as many records.
func (f cutFigures) ratio() float64 {
	parts := float64(f.parts-int64(f.cuts)*f.greeting) / float64(f.records[1])
	return parts / (float64(f.whole) / float64(f.records[0]))
}

// lost is how many bytes more a cut made it, besides a greeting.
func (f cutFigures) lost() int64 {
	if f.cuts == 0 {
		return 0
	}
	return int64((f.ratio() - 1) * float64(f.whole) * float64(f.records[1]) / float64(f.records[0]) / float64(f.cuts))
}

func (t *taken) wire() int64 {
	w := t.after.since(t.before)
	return w.up.Bytes + w.down.Bytes
}

// measureCuts has the clinic write the same twice while it has no network: it goes
// up in one session, then in one that is cut so many times.
func (r *line) measureCuts(write func(), cuts int, up, down link.Path, limit time.Duration) (f cutFigures) {
	r.tb.Helper()
	r.unplug()
	f.greeting = r.exchange(up, down, limit).wire()
	r.unplug()
	write()
	f.records[0] = r.clinic.Status().Pending
	f.whole = r.exchange(up, down, limit).wire()
	r.same(time.Minute)
	r.unplug()
	write()
	f.records[1] = r.clinic.Status().Pending
	c := r.cutAgain(cuts, f.whole/int64(cuts), f.greeting)
	t := r.exchange(up, down, limit)
	f.cuts, f.parts = c.end(), t.wire()
	t.report(r.tb)
	r.same(time.Minute)
	return f
}

// visits saves some on the clinic's page.
func (r *line) visits(n int) func() { return func() { at(r.clinic).day(r.rnd, n) } }

// BenchmarkLinkCuts: what was written goes up in one session, and in one that is cut
// at a hundred random bytes: a day on a slow link, and what a clinic took in on one
// that carries more.
func BenchmarkLinkCuts(b *testing.B) {
	b.Run("day", func(b *testing.B) {
		up, down := gprs()
		cutsOf(b, func(r *line) func() { return r.visits(200) }, up, down)
	})
	b.Run("long", func(b *testing.B) {
		up, down := both(link.Path{Rate: 256_000, Delay: 100 * time.Millisecond, Queue: deepQueue})
		cutsOf(b, func(r *line) func() {
			m := newMaker(r.rnd, 400)
			r.takeIn(m.writePatients(b))
			return func() { r.takeInAt(r.clinic, m.writeSingle(b, 2000)...) }
		}, up, down)
	})
}

func cutsOf(b *testing.B, what func(*line) (write func()), up, down link.Path) {
	for range b.N {
		metric(b, load(b), "load/core")
		r := newLine(b, 3)
		write := what(r)
		r.same(time.Minute)
		f := r.measureCuts(write, 100, up, down, 30*time.Minute)
		metric(b, float64(f.cuts), "cuts")
		metric(b, float64(f.greeting), "greeting-B")
		metric(b, float64(f.whole), "whole-B")
		metric(b, float64(f.parts), "parts-B")
		metric(b, f.ratio(), "ratio")
		metric(b, float64(f.lost()), "lost-B/cut")
		r.clinic.Verify()
	}
}
