package link_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/link"
	"github.com/healthpost/healthpost/test/rig"
)

// line is hubs at the far end of a link and a clinic at the near end.
type line struct {
	*rig.Region
	*link.Link
	tb     testing.TB
	rnd    *rand.Rand
	hubs   []*rig.Box
	clinic *rig.Box
	others []*rig.Box // at the far end
}

// newBox makes a box in a network; port tells boxes of one network apart.
func newBox(tb testing.TB, in *link.Space, address, name, role string, port int, more ...string) *rig.Box {
	tb.Helper()
	listen := append([]string{fmt.Sprintf("/ip4/%s/tcp/%d", address, 4001+port)}, more...)
	b := rig.NewBoxAt(tb, in, name, role, fmt.Sprintf("127.0.0.1:%d", 8080+port), listen...)
	b.Settings = idle
	b.Configure(nil)
	return b
}

// idle keeps staff signed in while a slow link takes its time.
const idle = "session_idle_minutes = 600\n"

// newLine makes a region whose boxes all run and hold the same, over an unshaped link.
func newLine(tb testing.TB, hubs int) *line {
	tb.Helper()
	seed := rig.NewSeed(tb)
	r := &line{tb: tb, rnd: rand.New(rand.NewPCG(seed, 1))}
	l, err := link.New(seed)
	check(tb, "making the link", err)
	tb.Cleanup(l.Close)
	r.Link = l
	for i := range hubs {
		r.hubs = append(r.hubs, newBox(tb, l.Far, link.FarAddress, fmt.Sprintf("Hub %d", i+1), "hub", i))
	}
	r.clinic = newBox(tb, l.Near, link.NearAddress, "Clinic", "clinic", 0)
	r.Region = &rig.Region{T: tb, Hubs: r.hubs, Clinics: []*rig.Box{r.clinic}, Dials: addressesOf(r.hubs...)}
	r.Found()
	r.clinic.Page()
	r.same(time.Minute)
	return r
}

// addressesOf makes a box dial these directly.
func addressesOf(hubs ...*rig.Box) func(*rig.Box) []string {
	return func(*rig.Box) (all []string) {
		for _, h := range hubs {
			all = append(all, h.Address())
		}
		return all
	}
}

func (r *line) boxes() []*rig.Box { return append(append(slices.Clone(r.hubs), r.clinic), r.others...) }

// join makes one more box at the far end.
func (r *line) join(name, role string) *rig.Box {
	r.tb.Helper()
	b := newBox(r.tb, r.Far, link.FarAddress, name, role, len(r.hubs)+len(r.others))
	r.Admit(b)
	b.Page()
	r.others = append(r.others, b)
	r.same(time.Minute)
	return b
}

// same waits until all boxes hold the same ledger, all of it final, with nothing
// pending.
func (r *line) same(limit time.Duration) {
	r.tb.Helper()
	r.sameOf(limit, r.boxes())
}

func (r *line) sameOf(limit time.Duration, boxes []*rig.Box) {
	r.tb.Helper()
	r.WaitSameIn(limit, boxes...)
}

// unplug takes the clinic's network away and waits until its sessions have noticed.
func (r *line) unplug() {
	r.tb.Helper()
	check(r.tb, "unplugging", r.Plug(false))
	r.Cut()
	r.cutOff()
	rig.Eventually(r.tb, time.Minute, "the hubs to miss the clinic", func() string {
		for _, h := range r.hubs {
			if p := peerOf(h.Status(), r.clinic.Name); p.Link == "up" {
				return h.Name + " still has a session"
			}
		}
		return ""
	})
}

// meter starts the unplugged clinic anew as a box that pays for its link.
func (r *line) meter() {
	r.tb.Helper()
	r.clinic.Stop()
	r.clinic.Settings = idle + "[link]\nmetered = true\n"
	r.clinic.Configure(r.clinic.Dial)
	r.clinic.Start()
	check(r.tb, "signing in", r.clinic.Page().SignIn())
	r.cutOff()
}

func (r *line) cutOff() {
	r.tb.Helper()
	check(r.tb, "cutting the link", r.clinic.Ask(func(ctx context.Context, c *node.Client) error { return c.SetLink(ctx, false) }))
}

// plug gives the clinic its network back, shaped. The clinic tries at once.
func (r *line) plug(up, down link.Path) {
	r.tb.Helper()
	r.Shape(up, down)
	check(r.tb, "plugging in", r.Plug(true))
	check(r.tb, "mending the link", r.clinic.Ask(func(ctx context.Context, c *node.Client) error { return c.SetLink(ctx, true) }))
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
func (r *line) sealed(first, last uint64) (bytes int) {
	r.tb.Helper()
	r.clinic.Stop()
	o := store.NewOptions()
	o.BallastBytes = 0
	st, err := store.Open(filepath.Join(r.clinic.Dir, "db"), o)
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
