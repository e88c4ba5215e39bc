package link_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/link"
)

// rig is hubs at the far end of a link and a clinic at the near end.
type rig struct {
	tb testing.TB
	*link.Link
	seed   uint64
	hubs   []*box
	clinic *box
}

// newRig makes a region whose boxes all run and hold the same, over an unshaped link.
func newRig(tb testing.TB, hubs int) *rig {
	tb.Helper()
	r := &rig{tb: tb, seed: newSeed(tb)}
	l, err := link.New(r.seed)
	check(tb, "making the link", err)
	tb.Cleanup(l.Close)
	r.Link = l
	for i := range hubs {
		r.hubs = append(r.hubs, newBox(tb, l.Far, link.FarAddress, fmt.Sprintf("Hub %d", i+1), "hub", i))
	}
	r.clinic = newBox(tb, l.Near, link.NearAddress, "Clinic", "clinic", 0)
	r.hubs[0].must("region", "create", "Region behind a link")
	r.hubs[0].start()
	for _, b := range r.boxes()[1:] {
		r.admit(b)
	}
	eventually(tb, time.Minute, "every hub to vote", func() string {
		if s := r.hubs[0].status(); s.Voters != hubs {
			return s.Ordering
		}
		return ""
	})
	r.clinic.signIn()
	r.same(time.Minute)
	return r
}

func (r *rig) boxes() []*box { return append(slices.Clone(r.hubs), r.clinic) }

func (r *rig) admit(b *box) {
	r.tb.Helper()
	var inv node.Invited
	check(r.tb, "reading the invitation", json.Unmarshal([]byte(r.hubs[0].must("region", "invite", "--role", b.role, "--json")), &inv))
	joined := make(chan error, 1)
	go func() {
		_, err := b.try("join", inv.Text)
		joined <- err
	}()
	if i := slices.Index(r.hubs, b); i > 0 {
		for _, h := range r.hubs[1:record.Needed(i)] {
			eventually(r.tb, time.Minute, "the word of "+h.name, func() string {
				if _, err := h.try("region", "hubs", "approve", b.name); err != nil {
					return err.Error()
				}
				return ""
			})
		}
	}
	check(r.tb, "joining", <-joined)
	if b.role != "hub" {
		for _, h := range r.hubs {
			b.dial = append(b.dial, h.address())
		}
		b.configure()
	}
	b.start()
}

// same waits until all boxes hold the same ledger, all of it final, with nothing
// pending.
func (r *rig) same(limit time.Duration) {
	r.tb.Helper()
	eventually(r.tb, limit, "the same ledger everywhere", func() string {
		var first node.Status
		for i, b := range r.boxes() {
			s := b.status()
			if i == 0 {
				first = s
			}
			if s.Size != first.Size || s.Root != first.Root || s.Confirmed != s.Size || s.Pending+s.Shared+s.Carried+s.Refused != 0 {
				return fmt.Sprintf("%s has %d, %s has %d, %d final, %d pending, %d copied, %d carried, %d refused", first.Name, first.Size, s.Name, s.Size, s.Confirmed, s.Pending, s.Shared, s.Carried, s.Refused)
			}
		}
		return ""
	})
}

// unplug takes the clinic's network away and waits until its sessions have noticed.
func (r *rig) unplug() {
	r.tb.Helper()
	check(r.tb, "unplugging", r.Plug(false))
	r.Cut()
	check(r.tb, "cutting the link", r.clinic.with(func(ctx context.Context, c *node.Client) error { return c.SetLink(ctx, false) }))
	eventually(r.tb, time.Minute, "the hubs to miss the clinic", func() string {
		for _, h := range r.hubs {
			if p := peerOf(h.status(), r.clinic.name); p.Link == "up" {
				return h.name + " still has a session"
			}
		}
		return ""
	})
}

// plug gives the clinic its network back, shaped. The clinic tries at once.
func (r *rig) plug(up, down link.Path) {
	r.tb.Helper()
	r.Shape(up, down)
	check(r.tb, "plugging in", r.Plug(true))
	check(r.tb, "mending the link", r.clinic.with(func(ctx context.Context, c *node.Client) error { return c.SetLink(ctx, true) }))
}

func peerOf(s node.Status, name string) node.PeerStatus {
	for _, p := range s.Peers {
		if p.Name == name {
			return p
		}
	}
	return node.PeerStatus{}
}

// greeted tells whether some hub's session stands on this side.
func greeted(s node.Status) bool {
	return slices.ContainsFunc(s.Peers, func(p node.PeerStatus) bool { return p.Link == "up" })
}

// taken is what one exchange took.
type taken struct {
	begun                time.Time
	greeted, copied, all time.Duration // session stands; nothing is on this box alone; everything final
	before, hello, after counts        // at the start, when the session stood, when everything was final
	application          counts
}

type counts struct{ up, down link.Count }

func (r *rig) counts() (c counts) {
	c.up, c.down = r.Counts()
	return c
}

func (c counts) since(before counts) counts {
	return counts{c.up.Since(before.up), c.down.Since(before.down)}
}

// exchange plugs the clinic in and follows it until everything that it saved is
// final there.
func (r *rig) exchange(up, down link.Path, limit time.Duration) *taken {
	r.tb.Helper()
	t := &taken{before: r.counts(), begun: time.Now()}
	app := r.application()
	r.plug(up, down)
	r.follow(t, limit)
	t.application = r.application().since(app)
	return t
}

func (r *rig) follow(t *taken, limit time.Duration) {
	r.tb.Helper()
	eventually(r.tb, limit, "the clinic's records to be final", func() string {
		s := r.clinic.status()
		now := time.Since(t.begun)
		if t.greeted == 0 && greeted(s) {
			t.greeted, t.hello = now, r.counts()
		}
		if t.greeted == 0 {
			return "no session"
		}
		if t.copied == 0 && s.Pending == 0 {
			t.copied = now
		}
		if s.Pending+s.Shared != 0 || s.Confirmed != s.Size {
			return fmt.Sprintf("%d pending, %d copied, %d of %d final", s.Pending, s.Shared, s.Confirmed, s.Size)
		}
		t.all = now
		return ""
	})
	t.after = r.counts()
}

// application is what the clinic's sessions count themselves: bytes of frames.
func (r *rig) application() (c counts) {
	for _, p := range r.clinic.status().Peers {
		c.up.Bytes += int64(p.BytesOut)
		c.down.Bytes += int64(p.BytesIn)
	}
	return c
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
	metric(tb, float64(total.up.Bytes), "up-B")
	metric(tb, float64(total.down.Bytes), "down-B")
	metric(tb, float64(total.up.Bytes+total.down.Bytes), "wire-B")
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
