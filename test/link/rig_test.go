package link_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/link"
)

// rig is hubs at the far end of a link and a clinic at the near end.
type rig struct {
	tb testing.TB
	*link.Link
	rnd    *rand.Rand
	hubs   []*box
	clinic *box
	others []*box // at the far end
}

// newRig makes a region whose boxes all run and hold the same, over an unshaped link.
func newRig(tb testing.TB, hubs int) *rig {
	tb.Helper()
	seed := newSeed(tb)
	r := &rig{tb: tb, rnd: rand.New(rand.NewPCG(seed, 1))}
	l, err := link.New(seed)
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

func (r *rig) boxes() []*box { return append(append(slices.Clone(r.hubs), r.clinic), r.others...) }

// join makes one more box at the far end.
func (r *rig) join(name, role string) *box {
	r.tb.Helper()
	b := newBox(r.tb, r.Far, link.FarAddress, name, role, len(r.hubs)+len(r.others))
	r.admit(b)
	b.signIn()
	r.others = append(r.others, b)
	r.same(time.Minute)
	return b
}

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
	r.sameOf(limit, r.boxes())
}

func (r *rig) sameOf(limit time.Duration, boxes []*box) {
	r.tb.Helper()
	eventually(r.tb, limit, "the same ledger everywhere", func() string {
		var first node.Status
		for i, b := range boxes {
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
	r.cutOff()
	eventually(r.tb, time.Minute, "the hubs to miss the clinic", func() string {
		for _, h := range r.hubs {
			if p := peerOf(h.status(), r.clinic.name); p.Link == "up" {
				return h.name + " still has a session"
			}
		}
		return ""
	})
}

// meter starts the unplugged clinic anew as a box that pays for its link.
func (r *rig) meter() {
	r.tb.Helper()
	r.clinic.stop()
	r.clinic.settings = "[link]\nmetered = true\n"
	r.clinic.configure()
	r.clinic.start()
	r.clinic.browser.again()
	r.cutOff()
}

func (r *rig) cutOff() {
	r.tb.Helper()
	check(r.tb, "cutting the link", r.clinic.with(func(ctx context.Context, c *node.Client) error { return c.SetLink(ctx, false) }))
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

// sealed is header, signature and sealed body of the entries from first to last, as
// the clinic holds them. It stops the clinic.
func (r *rig) sealed(first, last uint64) (bytes int) {
	r.tb.Helper()
	r.clinic.stop()
	o := store.NewOptions()
	o.BallastBytes = 0
	st, err := store.Open(filepath.Join(r.clinic.dir, "db"), o)
	check(r.tb, "opening the replica", err)
	defer st.Close()
	for seq := first; seq < last; {
		entries, err := st.Entries(seq, last, 1<<20)
		check(r.tb, "reading the ledger", err)
		if len(entries) == 0 {
			r.tb.Fatalf("no entry %d", seq)
		}
		for i := range entries {
			x := &entries[i].Record
			bytes += len(x.CoreBytes()) + len(x.Sig) + len(x.Body)
		}
		seq += uint64(len(entries))
	}
	return bytes
}
