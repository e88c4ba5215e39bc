package link_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// taken is what one exchange took.
type taken struct {
	begun                time.Time
	greeted, copied, all time.Duration // the session stands; nothing is on this box alone; everything is final
	urgent, answered     time.Duration // an urgent visit from its save until a hub holds it, and until the clinic knows
	before, hello        counts        // at the start, when the session stood
	held, after          counts        // when the clinic knew that all is copied, when everything was final
	application          counts

	mu      sync.Mutex
	packets []link.Packet // guarded by mu
}

type counts struct{ up, down link.Count }

func (r *line) counts() (c counts) {
	c.up, c.down = r.Counts()
	return c
}

func (c counts) since(before counts) counts {
	return counts{c.up.Since(before.up), c.down.Since(before.down)}
}

// application is what the clinic's sessions count themselves: bytes of frames.
func (r *line) application() (c counts) {
	for _, p := range r.clinic.Status().Peers {
		c.up.Bytes += int64(p.BytesOut)
		c.down.Bytes += int64(p.BytesIn)
	}
	return c
}

// exchange plugs the clinic in and follows it until everything that it saved is
// final there.
func (r *line) exchange(up, down link.Path, limit time.Duration) *taken {
	r.tb.Helper()
	return r.exchanged(up, down, limit, func(*taken, node.Status) {})
}

// exchangeWith saves an urgent visit when half of the records are copied.
func (r *line) exchangeWith(up, down link.Path, limit time.Duration, patient string) *taken {
	r.tb.Helper()
	half := r.clinic.Status().Pending / 2
	var saved time.Time
	var rid string
	return r.exchanged(up, down, limit, func(t *taken, s node.Status) {
		if rid == "" && s.Pending <= half {
			saved = time.Now()
			rid = at(r.clinic).save(r.rnd, patient, urgentVisit)
		}
		if rid != "" {
			r.arrival(t, rid, saved)
		}
	})
}

// exchangeOf watches for one record that is saved already.
func (r *line) exchangeOf(up, down link.Path, limit time.Duration, rid string) *taken {
	r.tb.Helper()
	return r.exchanged(up, down, limit, func(t *taken, _ node.Status) { r.arrival(t, rid, t.begun) })
}

// arrival notes when a record is at a hub, and when the clinic knows.
func (r *line) arrival(t *taken, rid string, saved time.Time) {
	r.tb.Helper()
	if t.urgent == 0 && slices.ContainsFunc(r.hubs, func(h *rig.Box) bool { _, err := h.RecordState(rid); return err == nil }) {
		t.urgent = time.Since(saved)
	}
	if t.answered > 0 {
		return
	}
	state, err := r.clinic.RecordState(rid)
	check(r.tb, "asking for a record", err)
	if state.State != "saved" {
		t.answered = time.Since(saved)
	}
}

func (r *line) exchanged(up, down link.Path, limit time.Duration, each func(*taken, node.Status)) *taken {
	r.tb.Helper()
	return r.exchangedUntil(up, down, limit, func(t *taken, s node.Status) bool {
		each(t, s)
		return true
	})
}

// exchangedUntil follows an exchange until nothing is left to do and enough says so too.
func (r *line) exchangedUntil(up, down link.Path, limit time.Duration, enough func(*taken, node.Status) bool) *taken {
	r.tb.Helper()
	app := r.application()
	t := &taken{before: r.counts(), begun: time.Now()}
	r.Trace(func(p link.Packet) { // until the next exchange
		t.mu.Lock()
		defer t.mu.Unlock()
		t.packets = append(t.packets, p)
	})
	r.plug(up, down)
	rig.Eventually(r.tb, limit, "the clinic's records to be final", func() string {
		s := r.clinic.Status()
		now := time.Since(t.begun)
		if t.greeted == 0 && greeted(s) {
			t.greeted, t.hello = now, r.counts()
		}
		if t.greeted == 0 {
			return "no session"
		}
		done := enough(t, s)
		if t.copied == 0 && s.Pending == 0 {
			t.copied, t.held = now, r.counts()
		}
		if !done || s.Pending+s.Shared != 0 || s.Confirmed != s.Size {
			return fmt.Sprintf("%d pending, %d copied, %d of %d final", s.Pending, s.Shared, s.Confirmed, s.Size)
		}
		t.all = now
		return ""
	})
	t.after = r.counts()
	t.application = r.application().since(app)
	return t
}

// rest adds what goes over the link in the time after the exchange.
func (t *taken) rest(tb testing.TB, r *line, long time.Duration) {
	quiet := time.NewTimer(long)
	defer quiet.Stop()
	<-quiet.C
	now := r.counts()
	w := now.since(t.after)
	metric(tb, float64(w.up.Bytes), "rest-up-B")
	metric(tb, float64(w.down.Bytes), "rest-down-B")
}

// metric reports one figure, in a benchmark as its metric, and logs it.
func metric(tb testing.TB, value float64, unit string) {
	tb.Helper()
	if b, ok := tb.(*testing.B); ok {
		b.ReportMetric(value, unit)
	}
	tb.Logf("%12.6g %s", value, unit)
}

// report gives the figures of an exchange.
func (t *taken) report(tb testing.TB) {
	tb.Helper()
	hello, total := t.hello.since(t.before), t.after.since(t.before)
	metric(tb, t.greeted.Seconds(), "greeted-s")
	metric(tb, t.copied.Seconds(), "copied-s")
	metric(tb, t.all.Seconds(), "final-s")
	if t.urgent > 0 {
		metric(tb, t.urgent.Seconds(), "urgent-s")
		metric(tb, t.answered.Seconds(), "urgent-known-s")
	}
	metric(tb, float64(total.up.Bytes), "up-B")
	metric(tb, float64(total.down.Bytes), "down-B")
	metric(tb, float64(total.up.Bytes+total.down.Bytes), "wire-B")
	held := t.held.since(t.before)
	metric(tb, float64(held.up.Bytes+held.down.Bytes), "copied-wire-B")
	metric(tb, float64(hello.up.Bytes), "greeting-up-B")
	metric(tb, float64(hello.down.Bytes), "greeting-down-B")
	metric(tb, float64(t.application.up.Bytes), "frames-up-B")
	metric(tb, float64(t.application.down.Bytes), "frames-down-B")
	for _, w := range []struct {
		name string
		c    link.Count
	}{{"up", total.up}, {"down", total.down}} {
		tb.Logf("%s: %d packets, %d B = %d payload + %d again + %d headers + %d in %d empty packets; %d B lost, %d packets found the queue full",
			w.name, w.c.Packets, w.c.Bytes, w.c.Payload, w.c.Again, w.c.Headers(), w.c.EmptyBytes, w.c.Empty, w.c.LostBytes, w.c.Overflow)
	}
}

// timeline logs each packet: when it was sent, which way, its bytes and its payload.
func (t *taken) timeline(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.packets {
		way := "down"
		if p.Up {
			way = "up"
		}
		lost := ""
		if p.Lost {
			lost = " lost"
		}
		tb.Logf("%7.3f s %-4s %4d B, payload %4d%s", p.At.Sub(t.begun).Seconds(), way, p.Bytes, p.Payload, lost)
	}
}
