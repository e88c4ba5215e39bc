package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
)

// TestHubsReplaced: one after the other, by votes, every hub of a region gives way to
// another. A clinic that was away all the time comes back and follows, change by change,
// with what it knew before: nobody tells it whom to trust.
func TestHubsReplaced(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	a, away := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Tatu", "Followed")
	away.Page()
	r.waitSame(r.boxes()...)
	away.Stop()
	held := newVisit(rnd, patient)
	away.Start()
	if err := away.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	r.linkAll(away, false)
	heldRID := away.Page().mustSave(held)
	away.Stop()

	old := r.hubs
	first := r.hubs[0]
	for i := range 3 {
		gone := r.hubs[0]
		by := r.hubs[1:]
		if out := by[0].Command("", "region", "hubs", "expel", gone.name, "worn out"); out.code != 0 {
			t.Fatalf("expelling %s: %s%s", gone.name, out.out, out.err)
		}
		by[1].eventually(convergeMax, "the proposal to arrive", func() string {
			if out := by[1].Command("", "region", "hubs", "approve", gone.name); out.code != 0 {
				return out.err
			}
			return ""
		})
		r.eventually(convergeMax, gone.name+" to be taken out", func() string {
			st, why := by[0].tryStatus()
			if why == "" && st.Voters != 2 {
				why = st.Ordering
			}
			return why
		})
		if gone.Running() {
			gone.Kill() // an expelled hub has nothing to say any more
		}
		r.hubs = append([]*Box{}, by...)
		fresh := newBox(t, fmt.Sprintf("Hub %d", i+4), "hub")
		r.hubs = append(r.hubs, fresh)
		r.join(fresh, by[0], by[1])
		r.eventually(convergeMax, fresh.name+" to vote", func() string {
			st, why := by[0].tryStatus()
			if why == "" && st.Voters != 3 {
				why = st.Ordering
			}
			return why
		})
		l := newLink(t, a, fresh)
		r.links = append(r.links, l)
		a.Stop()
		a.configure(append(a.dial, linkAddress(t, l)))
		a.Start()
		if err := a.Page().SignIn(); err != nil {
			t.Fatal(err)
		}
		a.Page().mustSave(newVisit(rnd, patient))
		r.waitSame(append([]*Box{a}, r.hubs...)...)
	}

	// It knows none of the hubs there are now, but its neighbour.
	dial := []string{}
	for _, l := range r.links {
		if l.from == away && l.to == a {
			dial = append(dial, linkAddress(t, l))
		}
	}
	r.linkAll(away, true)
	for _, h := range r.hubs {
		l := newLink(t, away, h)
		r.links = append(r.links, l)
		dial = append(dial, linkAddress(t, l))
	}
	away.configure(dial)
	away.Start()
	r.waitSame(append([]*Box{away, a}, r.hubs...)...)
	if st, err := away.recordState(heldRID); err != nil || st.State != "confirmed" {
		t.Errorf("what the clinic held is %v, %v", st, err)
	}
	r.noEvidence(append([]*Box{away, a}, r.hubs...)...)

	// The expelled come back, with everything they knew, and nobody listens.
	before := r.hubs[0].Status()
	for _, h := range old {
		h.Start()
	}
	a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(append([]*Box{away, a}, r.hubs...)...)
	if st := first.Status(); st.Size > before.Size {
		t.Errorf("an expelled hub follows the ledger: %s", describe(st))
	}
	var members []node.MemberInfo
	if err := json.Unmarshal([]byte(a.must("region", "members", "--json")), &members); err != nil {
		t.Fatal(err)
	}
	revoked := 0
	for _, m := range members {
		if m.Role == "hub" && m.Revoked {
			revoked++
		}
	}
	if revoked != 3 {
		t.Errorf("%d hubs are revoked, want 3: %+v", revoked, members)
	}
	r.check(append([]*Box{away, a}, r.hubs...)...)
}

// join lets a box join as a hub by the invitation of one hub and the word of others.
func (r *Region) join(b *Box, by *Box, others ...*Box) {
	r.t.Helper()
	var inv node.Invited
	if err := json.Unmarshal([]byte(by.must("region", "invite", "--role", b.role, "--json")), &inv); err != nil {
		r.t.Fatal(err)
	}
	joined := make(chan result, 1)
	go func() { joined <- b.Command("", "join", inv.Text) }()
	r.approve(b, others...)
	if j := <-joined; j.code != 0 {
		r.t.Fatalf("%s: joining: exit code %d\n%s%s", b.name, j.code, j.out, j.err)
	}
	b.Start()
}

// TestHubRolledBack: a hub's disk is put back to an older image. It does not vote as
// who it was, comes back without a vote, catches up and votes again, and nobody is
// accused of anything.
func TestHubRolledBack(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 1)
	a, hub := r.clinics[0], r.hubs[2]
	patient := a.Page().Register("Amani", "Kept")
	r.waitSame(r.boxes()...)
	hub.Stop()
	image := copyBox(t, hub)
	hub.Start()
	s := newSaved()
	save := func(n int) {
		for range n {
			v := newVisit(rnd, patient)
			s.posted(v)
			if err := s.acked(v, a.Page().mustSave(v)); err != nil {
				t.Fatal(err)
			}
		}
		r.waitSame(r.boxes()...)
	}
	save(5)
	hub.Stop()
	replaceWith(t, hub, image)
	hub.Start()
	hub.eventually(convergeMax, "words about the old disk", func() string { return faultLike(hub, "older disk") })
	r.eventually(convergeMax, "it to vote again", func() string {
		st, why := r.hubs[0].tryStatus()
		if why == "" && st.Voters != 3 {
			why = st.Ordering
		}
		return why
	})
	save(3)
	for _, b := range r.boxes() {
		s.markersOnce(t, b)
	}
	// Its word counts again: with another hub gone the region still orders.
	r.hubs[0].Stop()
	v := newVisit(rnd, patient)
	s.posted(v)
	if err := s.acked(v, a.Page().mustSave(v)); err != nil {
		t.Fatal(err)
	}
	r.waitSame(a, r.hubs[1], hub)
	r.hubs[0].Start()
	r.waitSame(r.boxes()...)
	r.noEvidence(r.boxes()...)
	if out := strings.Join(hub.Status().Faults, "\n"); strings.Contains(out, "two different ledgers") {
		t.Error(out)
	}
	r.check(r.boxes()...)
}
