package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/rig"
)

// TestHubsReplaced: one after the other, by votes, every hub of a region gives way to
// another. A clinic that was away all the time comes back and follows, change by change,
// with what it knew before: nobody tells it whom to trust.
func TestHubsReplaced(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, away := r.Clinics[0], r.Clinics[1]
	patient := a.Page().Register("Tatu", "Followed")
	away.Page()
	r.WaitSame(r.Boxes()...)
	away.Stop()
	held := rig.NewVisit(rnd, patient)
	away.Start()
	if err := away.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	r.SetLinks(away, false)
	heldRID := away.Page().MustSave(held)
	away.Stop()

	old := r.Hubs
	first := r.Hubs[0]
	for i := range 3 {
		gone := r.Hubs[0]
		by := r.Hubs[1:]
		if out := by[0].Command("", "region", "hubs", "expel", gone.Name, "worn out"); out.Code != 0 {
			t.Fatalf("expelling %s: %s%s", gone.Name, out.Out, out.Err)
		}
		by[1].Eventually(rig.ConvergeMax, "the proposal to arrive", func() string {
			if out := by[1].Command("", "region", "hubs", "approve", gone.Name); out.Code != 0 {
				return out.Err
			}
			return ""
		})
		r.Eventually(rig.ConvergeMax, gone.Name+" to be taken out", func() string {
			st, why := by[0].TryStatus()
			if why == "" && st.Voters != 2 {
				why = st.Ordering
			}
			return why
		})
		if gone.Running() {
			gone.Kill() // an expelled hub has nothing to say any more
		}
		r.Hubs = append([]*rig.Box{}, by...)
		fresh := rig.NewBox(t, fmt.Sprintf("Hub %d", i+4), "hub")
		r.Hubs = append(r.Hubs, fresh)
		r.Join(fresh, by[0], by[1])
		r.Eventually(rig.ConvergeMax, fresh.Name+" to vote", func() string {
			st, why := by[0].TryStatus()
			if why == "" && st.Voters != 3 {
				why = st.Ordering
			}
			return why
		})
		l := rig.NewLink(t, a, fresh)
		r.Links = append(r.Links, l)
		a.Stop()
		a.Configure(append(a.Dial, l.Address()))
		a.Start()
		if err := a.Page().SignIn(); err != nil {
			t.Fatal(err)
		}
		a.Page().MustSave(rig.NewVisit(rnd, patient))
		r.WaitSame(append([]*rig.Box{a}, r.Hubs...)...)
	}

	// It knows none of the hubs there are now, but its neighbour.
	dial := []string{}
	for _, l := range r.Links {
		if l.From == away && l.To == a {
			dial = append(dial, l.Address())
		}
	}
	r.SetLinks(away, true)
	for _, h := range r.Hubs {
		l := rig.NewLink(t, away, h)
		r.Links = append(r.Links, l)
		dial = append(dial, l.Address())
	}
	away.Configure(dial)
	away.Start()
	r.WaitSame(append([]*rig.Box{away, a}, r.Hubs...)...)
	if st, err := away.RecordState(heldRID); err != nil || st.State != "confirmed" {
		t.Errorf("what the clinic held is %v, %v", st, err)
	}
	r.NoEvidence(append([]*rig.Box{away, a}, r.Hubs...)...)

	// The expelled come back, with everything they knew, and nobody listens.
	before := r.Hubs[0].Status()
	for _, h := range old {
		h.Start()
	}
	a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(append([]*rig.Box{away, a}, r.Hubs...)...)
	if st := first.Status(); st.Size > before.Size {
		t.Errorf("an expelled hub follows the ledger: %s", rig.Describe(st))
	}
	var members []node.MemberInfo
	if err := json.Unmarshal([]byte(a.Must("region", "members", "--json")), &members); err != nil {
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
	r.Check(append([]*rig.Box{away, a}, r.Hubs...)...)
}

// TestHubRolledBack: a hub's disk is put back to an older image. It does not vote as
// who it was, comes back without a vote, catches up and votes again, and nobody is
// accused of anything.
func TestHubRolledBack(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 1)
	a, hub := r.Clinics[0], r.Hubs[2]
	patient := a.Page().Register("Amani", "Kept")
	r.WaitSame(r.Boxes()...)
	hub.Stop()
	image := rig.CopyBox(t, hub)
	hub.Start()
	s := rig.NewSaved()
	save := func(n int) {
		for range n {
			v := rig.NewVisit(rnd, patient)
			s.Posted(v)
			if err := s.Acked(v, a.Page().MustSave(v)); err != nil {
				t.Fatal(err)
			}
		}
		r.WaitSame(r.Boxes()...)
	}
	save(5)
	hub.Stop()
	rig.ReplaceWith(t, hub, image)
	hub.Start()
	hub.Eventually(rig.ConvergeMax, "words about the old disk", func() string { return rig.FaultLike(hub, "older disk") })
	r.Eventually(rig.ConvergeMax, "it to vote again", func() string {
		st, why := r.Hubs[0].TryStatus()
		if why == "" && st.Voters != 3 {
			why = st.Ordering
		}
		return why
	})
	save(3)
	for _, b := range r.Boxes() {
		s.MarkersOnce(t, b)
	}
	// Its word counts again: with another hub gone the region still orders.
	r.Hubs[0].Stop()
	v := rig.NewVisit(rnd, patient)
	s.Posted(v)
	if err := s.Acked(v, a.Page().MustSave(v)); err != nil {
		t.Fatal(err)
	}
	r.WaitSame(a, r.Hubs[1], hub)
	r.Hubs[0].Start()
	r.WaitSame(r.Boxes()...)
	r.NoEvidence(r.Boxes()...)
	if out := strings.Join(hub.Status().Faults, "\n"); strings.Contains(out, "two different ledgers") {
		t.Error(out)
	}
	r.Check(r.Boxes()...)
}
