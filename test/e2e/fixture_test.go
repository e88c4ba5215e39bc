package e2e_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

const convergeMax = 60 * time.Second

// Region is hubs and clinics that run. Every clinic is linked with every hub
// and, as a neighbour, with every other clinic.
type Region struct {
	t       *testing.T
	hubs    []*Box
	clinics []*Box
	links   []*link
}

func newRegion(t *testing.T, hubs, clinics int) *Region {
	t.Helper()
	r := &Region{t: t}
	for i := range hubs {
		r.hubs = append(r.hubs, newBox(t, fmt.Sprintf("Hub %d", i+1), "hub"))
	}
	for i := range clinics {
		r.clinics = append(r.clinics, newBox(t, fmt.Sprintf("Clinic %d", i+1), "clinic"))
	}
	first := r.hubs[0]
	first.must("region", "create", "Test region")
	first.Start()
	for _, b := range r.boxes()[1:] {
		r.admit(b)
	}
	r.eventually(convergeMax, "every hub to vote", func() string {
		s, why := first.tryStatus()
		if why == "" && s.Voters != hubs {
			why = s.Ordering
		}
		return why
	})
	r.waitSame(r.boxes()...)
	return r
}

func (r *Region) boxes() []*Box { return append(append([]*Box{}, r.hubs...), r.clinics...) }

// admit invites a box at the first hub, lets it join and starts it.
func (r *Region) admit(b *Box) {
	r.t.Helper()
	var inv node.Invited
	if err := json.Unmarshal([]byte(r.hubs[0].must("region", "invite", "--role", b.role, "--json")), &inv); err != nil {
		r.t.Fatal(err)
	}
	joined := make(chan result, 1)
	go func() { joined <- b.Command("", "join", inv.Text) }()
	if i := slices.Index(r.hubs, b); i > 0 {
		r.approve(b, r.hubs[1:record.Needed(i)]...)
	}
	if j := <-joined; j.code != 0 {
		r.t.Fatalf("%s: joining: exit code %d\n%s%s", b.name, j.code, j.out, j.err)
	}
	if b.role != "hub" {
		r.connect(b)
	}
	b.Start()
}

// approve gives the word of these hubs for one that the first hub invited.
func (r *Region) approve(b *Box, hubs ...*Box) {
	r.t.Helper()
	for _, h := range hubs {
		r.eventually(convergeMax, h.name+" to hear of "+b.name, func() string {
			if a := h.Command("", "region", "hubs", "approve", b.name); a.code != 0 {
				return a.err
			}
			return ""
		})
	}
}

// connect makes the forwarders of a clinic: to every hub and to the clinics before it.
func (r *Region) connect(b *Box) {
	r.t.Helper()
	to := append([]*Box{}, r.hubs...)
	for _, c := range r.clinics {
		if c == b {
			break
		}
		to = append(to, c)
	}
	var dial []string
	for _, x := range to {
		id, err := node.PeerIDOf(x.dir)
		if err != nil {
			r.t.Fatal(err)
		}
		l := newLink(r.t, b, x)
		r.links = append(r.links, l)
		dial = append(dial, fmt.Sprintf("/ip4/127.0.0.1/tcp/%s/p2p/%s", l.port, id))
	}
	b.configure(dial)
}

// link cuts or restores everything between two boxes.
func (r *Region) link(a, b *Box, up bool) {
	for _, l := range r.links {
		if l.from == a && l.to == b || l.from == b && l.to == a {
			l.set(up)
		}
	}
}

// linkAll cuts or restores everything that ends at a clinic.
func (r *Region) linkAll(b *Box, up bool) {
	for _, l := range r.links {
		if l.from == b || l.to == b {
			l.set(up)
		}
	}
}

// linkHubs cuts or restores everything between a clinic and the hubs.
func (r *Region) linkHubs(b *Box, up bool) {
	for _, h := range r.hubs {
		r.link(b, h, up)
	}
}

func (r *Region) eventually(limit time.Duration, what string, f func() string) {
	r.t.Helper()
	r.hubs[0].eventually(limit, what, f)
}

// waitSame waits until these boxes hold the same ledger, all of it final, with
// nothing pending.
func (r *Region) waitSame(boxes ...*Box) {
	r.t.Helper()
	r.waitSameIn(convergeMax, boxes...)
}

func (r *Region) waitSameIn(limit time.Duration, boxes ...*Box) {
	r.t.Helper()
	r.eventually(limit, "the same ledger everywhere", func() string {
		var first node.Status
		for i, b := range boxes {
			s, why := b.tryStatus()
			if why != "" {
				return why
			}
			if i == 0 {
				first = s
			}
			if s.Size != first.Size || s.Root != first.Root || s.Confirmed != s.Size || s.Pending+s.Shared+s.Carried+s.Refused != 0 {
				return fmt.Sprintf("%s: %s; %s: %s", first.Name, describe(first), s.Name, describe(s))
			}
		}
		return ""
	})
}

func describe(s node.Status) string {
	return fmt.Sprintf("size %d root %.12s confirmed %d pending %d shared %d carried %d refused %d %s faults %q", s.Size, s.Root, s.Confirmed, s.Pending, s.Shared, s.Carried, s.Refused, s.Ordering, s.Faults)
}

// leader is the hub that leads, nil while there is none.
func (r *Region) leader() *Box {
	for _, h := range r.hubs {
		if !h.Running() {
			continue
		}
		s, why := h.tryStatus()
		if why != "" {
			continue
		}
		for _, other := range r.hubs {
			if other.Running() && strings.Contains(s.Ordering, "led by "+other.name) {
				return other
			}
		}
	}
	return nil
}

// check verifies every box running, then stopped.
func (r *Region) check(boxes ...*Box) {
	r.t.Helper()
	r.each(boxes, func(b *Box) { b.Verify() })
	r.each(boxes, func(b *Box) { b.Stop() })
	r.each(boxes, func(b *Box) { b.Verify() })
}

// each runs f for the boxes at once.
func (r *Region) each(boxes []*Box, f func(*Box)) {
	r.t.Helper()
	var wg sync.WaitGroup
	for _, b := range boxes {
		wg.Go(func() { f(b) })
	}
	wg.Wait()
}

// bundles are the files of FHIR resources that the project keeps for tests.
func bundles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "fhir", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no bundles: %v", err)
	}
	return files
}
