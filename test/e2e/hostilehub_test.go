package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// corrupt makes a stopped hub a liar, honest until tell says otherwise.
func corrupt(t *testing.T, hubs ...*rig.Box) (tell func(lie string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lie")
	tell = func(lie string) {
		if err := os.WriteFile(file+".new", []byte(lie), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	tell("")
	for _, h := range hubs {
		breakable(t, h, "HEALTHPOST_LIE="+file, "HEALTHPOST_PROMISE=4s")
	}
	return tell
}

// TestHostileHub: one hub of three lies about the ledger to a clinic that can reach
// no other. Nothing false is taken in, the clinic says at once that something is wrong
// with this hub, and the first honest hub gives it the truth.
func TestHostileHub(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, b, liar := r.Clinics[0], r.Clinics[1], r.Hubs[0]
	r.SetLink(a, b, false)
	r.SetLink(b, liar, false)
	patient := b.Page().Register("Subira", "Waiting")
	r.WaitSame(r.Boxes()...)
	liar.Stop()
	tell := corrupt(t, liar)
	liar.Start()
	for _, lie := range []string{"forge-body", "forge-record", "backdate", "reorder", "omit-entry", "wrong-tree", "other-root"} {
		a.Stop()
		r.SetHubLinks(a, false)
		news := 4
		switch lie {
		case "wrong-tree": // a proof stands in a frame that does not end at the checkpoint
			news = 24
		case "other-root": // of the size that both have
			news = 0
		}
		for range news {
			b.Page().MustSave(rig.NewVisit(rnd, patient))
		}
		r.WaitSame(append([]*rig.Box{b}, r.Hubs...)...)
		tell(lie)
		before := a.Status()
		r.SetLink(a, liar, true)
		a.Start()
		a.Eventually(rig.ConvergeMax, lie+": words about the hub", func() string {
			st, why := a.TryStatus()
			if why != "" {
				return why
			}
			for _, p := range st.Peers {
				if p.Name == liar.Name && p.Trouble != "" {
					return ""
				}
			}
			return fmt.Sprintf("%+v", st.Peers)
		})
		if st := a.Status(); st.Confirmed != before.Confirmed && !strings.HasPrefix(b.Status().Root, st.Root) {
			for _, x := range []*rig.Box{b} { // it may have taken what is true: then it is a part of the ledger
				if got := x.Status(); st.Size > got.Size {
					t.Errorf("%s: the clinic has more than there is: %s", lie, rig.Describe(st))
				}
			}
		}
		a.Verify()
		tell("")
		r.SetLink(a, r.Hubs[1], true)
		a.Eventually(rig.ConvergeMax, "an honest hub", func() string { return a.Command("", "sync", r.Hubs[1].Name).Err })
		r.WaitSame(a, b, r.Hubs[1])
	}

	// A stale hub: nothing false, and nothing goes back once somebody else was met.
	a.Stop()
	tell("stale")
	for range 3 {
		b.Page().MustSave(rig.NewVisit(rnd, patient))
	}
	r.SetHubLinks(a, false)
	r.SetLink(a, liar, true)
	a.Start()
	a.Eventually(rig.ConvergeMax, "the stale hub", func() string { return a.Command("", "sync", liar.Name).Err })
	old := a.Status()
	r.SetLink(a, r.Hubs[1], true)
	a.Eventually(rig.ConvergeMax, "an honest hub", func() string { return a.Command("", "sync", r.Hubs[1].Name).Err })
	r.WaitSame(a, b, r.Hubs[1])
	if now := a.Status(); now.Size <= old.Size {
		t.Errorf("after a stale hub and an honest one: %s, then %s", rig.Describe(old), rig.Describe(now))
	}
	tell("")
	r.WaitSame(r.Boxes()...)
	r.Check(r.Boxes()...)
}

// TestBrokenPromise: every hub leaves out what one clinic wrote. The clinic holds a
// signed promise, and when a checkpoint is younger than it without the record, it says
// so, with a file that anybody checks who has a copy of the ledger.
func TestBrokenPromise(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, b := r.Clinics[0], r.Clinics[1]
	r.SetLink(a, b, false)
	patient := a.Page().Register("Neema", "Omitted")
	r.WaitSame(r.Boxes()...)
	r.Each(r.Hubs, func(h *rig.Box) { h.Stop() })
	tell := corrupt(t, r.Hubs...)
	tell("omit " + a.Status().Device)
	r.Each(r.Hubs, func(h *rig.Box) { h.Start() })
	rid := a.Page().MustSave(rig.NewVisit(rnd, patient))
	a.Eventually(rig.ConvergeMax, "the record to be taken", func() string {
		if st, err := a.RecordState(rid); err != nil || st.State != "copied" {
			return fmt.Sprintf("%v %v", st, err)
		}
		return ""
	})
	promised := time.Now().Add(5 * time.Second)
	a.Eventually(2*rig.ConvergeMax, "words about the promise", func() string {
		if time.Now().After(promised) { // time moves in the ledger while others write
			b.Page().MustSave(rig.NewVisit(rnd, patient))
			promised = time.Now().Add(time.Second)
		}
		return rig.FaultLike(a, "promised to order")
	})
	keys := filepath.Join(t.TempDir(), "keys.toml")
	if err := os.WriteFile(keys, []byte(b.Must("region", "keys")), 0o600); err != nil {
		t.Fatal(err)
	}
	checkEvidence(t, a, keys, "Hub 1", "Hub 2", "Hub 3")
	tell("")
	a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(r.Boxes()...)
	r.Check(r.Boxes()...)
}
