package rig

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

const ConvergeMax = 3 * time.Minute

// Region is hubs and clinics that run. Every clinic is linked with every hub
// and, as a neighbour, with every other clinic.
type Region struct {
	T       testing.TB
	Hubs    []*Box
	Clinics []*Box
	Links   []*Link
	// Dials says what a box that is no hub dials once it has joined; nil puts a Link in
	// front of every hub and of every clinic before it.
	Dials func(*Box) []string
}

// NewRegion starts hubs and clinics and waits until all hubs vote and all boxes hold the same.
func NewRegion(t testing.TB, hubs, clinics int) *Region {
	t.Helper()
	r := &Region{T: t}
	for i := range hubs {
		r.Hubs = append(r.Hubs, NewBox(t, fmt.Sprintf("Hub %d", i+1), "hub"))
	}
	for i := range clinics {
		r.Clinics = append(r.Clinics, NewBox(t, fmt.Sprintf("Clinic %d", i+1), "clinic"))
	}
	r.Found()
	return r
}

// Found makes a region of boxes that are set up, starts them, and waits until all
// hubs vote and all boxes hold the same.
func (r *Region) Found() {
	r.T.Helper()
	first := r.Hubs[0]
	first.Must("region", "create", "Test region")
	first.Start()
	for _, b := range r.Boxes()[1:] {
		r.Admit(b)
	}
	r.Eventually(ConvergeMax, "every hub to vote", func() string {
		s, why := first.TryStatus()
		if why == "" && s.Voters != len(r.Hubs) {
			why = s.Ordering
		}
		return why
	})
	r.WaitSame(r.Boxes()...)
}

// Boxes are the hubs, then the clinics.
func (r *Region) Boxes() []*Box { return append(append([]*Box{}, r.Hubs...), r.Clinics...) }

// Admit invites a box at the first hub, lets it join and starts it.
func (r *Region) Admit(b *Box) {
	r.T.Helper()
	var inv node.Invited
	if err := json.Unmarshal([]byte(r.Hubs[0].Must("region", "invite", "--role", b.Role, "--json")), &inv); err != nil {
		r.T.Fatal(err)
	}
	joined := make(chan Result, 1)
	go func() { joined <- b.Command("", "join", inv.Text) }()
	if i := slices.Index(r.Hubs, b); i > 0 {
		r.Approve(b, r.Hubs[1:record.Needed(i)]...)
	}
	if j := <-joined; j.Code != 0 {
		r.T.Fatalf("%s: joining: exit code %d\n%s%s", b.Name, j.Code, j.Out, j.Err)
	}
	switch {
	case b.Role == "hub":
	case r.Dials != nil:
		b.Configure(append(b.Dial, r.Dials(b)...))
	default:
		r.Connect(b)
	}
	b.Start()
}

// Approve gives the word of these hubs for one that the first hub invited.
func (r *Region) Approve(b *Box, hubs ...*Box) {
	r.T.Helper()
	for _, h := range hubs {
		r.Eventually(ConvergeMax, h.Name+" to hear of "+b.Name, func() string {
			if a := h.Command("", "region", "hubs", "approve", b.Name); a.Code != 0 {
				return a.Err
			}
			return ""
		})
	}
}

// Connect makes the forwarders of a clinic: to every hub and to the clinics before it.
func (r *Region) Connect(b *Box) {
	r.T.Helper()
	to := append([]*Box{}, r.Hubs...)
	for _, c := range r.Clinics {
		if c == b {
			break
		}
		to = append(to, c)
	}
	var dial []string
	for _, x := range to {
		l := NewLink(r.T, b, x)
		r.Links = append(r.Links, l)
		dial = append(dial, l.Address())
	}
	b.Configure(dial)
}

// SetLink cuts or restores everything between two boxes.
func (r *Region) SetLink(a, b *Box, up bool) {
	for _, l := range r.Links {
		if l.From == a && l.To == b || l.From == b && l.To == a {
			l.Set(up)
		}
	}
}

// SetLinks cuts or restores everything that ends at a clinic.
func (r *Region) SetLinks(b *Box, up bool) {
	for _, l := range r.Links {
		if l.From == b || l.To == b {
			l.Set(up)
		}
	}
}

// SetHubLinks cuts or restores everything between a clinic and the hubs.
func (r *Region) SetHubLinks(b *Box, up bool) {
	for _, h := range r.Hubs {
		r.SetLink(b, h, up)
	}
}

// Eventually waits for f to say "" and fails the test with its last words.
func (r *Region) Eventually(limit time.Duration, what string, f func() string) {
	r.T.Helper()
	r.Hubs[0].Eventually(limit, what, f)
}

// WaitSame waits until these boxes hold the same ledger, all of it final, with
// nothing pending.
func (r *Region) WaitSame(boxes ...*Box) {
	r.T.Helper()
	r.WaitSameIn(ConvergeMax, boxes...)
}

// WaitSameIn is WaitSame with a limit of its own.
func (r *Region) WaitSameIn(limit time.Duration, boxes ...*Box) {
	r.T.Helper()
	r.Eventually(limit, "the same ledger everywhere", func() string {
		var first node.Status
		for i, b := range boxes {
			s, why := b.TryStatus()
			if why != "" {
				return why
			}
			if i == 0 {
				first = s
			}
			if s.Size != first.Size || s.Root != first.Root || s.Confirmed != s.Size || s.Pending+s.Shared+s.Carried+s.Refused != 0 {
				return fmt.Sprintf("%s: %s; %s: %s", first.Name, Describe(first), s.Name, Describe(s))
			}
		}
		return ""
	})
}

// Describe is a status in one line, for failures.
func Describe(s node.Status) string {
	return fmt.Sprintf("size %d root %.12s confirmed %d pending %d shared %d carried %d refused %d %s faults %q", s.Size, s.Root, s.Confirmed, s.Pending, s.Shared, s.Carried, s.Refused, s.Ordering, s.Faults)
}

// Leader is the hub that leads, nil while there is none.
func (r *Region) Leader() *Box {
	for _, h := range r.Hubs {
		if !h.Running() {
			continue
		}
		s, why := h.TryStatus()
		if why != "" {
			continue
		}
		for _, other := range r.Hubs {
			if other.Running() && strings.Contains(s.Ordering, "led by "+other.Name) {
				return other
			}
		}
	}
	return nil
}

// Check verifies every box running, then stopped.
func (r *Region) Check(boxes ...*Box) {
	r.T.Helper()
	r.Each(boxes, func(b *Box) { b.Verify() })
	r.Each(boxes, func(b *Box) { b.Stop() })
	r.Each(boxes, func(b *Box) { b.Verify() })
}

// Each runs f for the boxes at once.
func (r *Region) Each(boxes []*Box, f func(*Box)) {
	r.T.Helper()
	var wg sync.WaitGroup
	for _, b := range boxes {
		wg.Go(func() { f(b) })
	}
	wg.Wait()
}

// Bundles are the files of FHIR resources that the project keeps for tests.
func Bundles(t testing.TB) []string {
	t.Helper()
	MustProgram(t) // finds the tree
	files, err := filepath.Glob(filepath.Join(built.root, "test", "testdata", "fhir", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no bundles: %v", err)
	}
	return files
}

// WaitLeader waits for a hub that leads.
func (r *Region) WaitLeader() *Box {
	r.T.Helper()
	var lead *Box
	r.Eventually(ConvergeMax, "a hub that leads", func() string {
		if lead = r.Leader(); lead == nil {
			return "no hub leads"
		}
		return ""
	})
	return lead
}

// UntilSize is "" when a box has that many entries confirmed.
func UntilSize(b *Box, size uint64) string {
	s, why := b.TryStatus()
	if why == "" && (s.Size < size || s.Confirmed < size) {
		why = Describe(s)
	}
	return why
}
