package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

// TestTwoViews: two of three hubs collude. Copies of both, the real program, order
// something else for one clinic than for the rest of the region. Each side by itself
// sees a sound ledger under a majority's signatures. The first exchange between the
// two clinics shows it to both, with a file that convinces a third party.
func TestTwoViews(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	r := rig.NewRegion(t, 3, 2)
	a, b := r.Clinics[0], r.Clinics[1]
	patient := a.Page().Register("Wema", "Deceived")
	b.Page()
	r.WaitSame(r.Boxes()...)
	r.SetLink(a, b, false)

	// The other view: copies of hubs 2 and 3 that only clinic 2 talks to.
	b.Stop()
	for _, h := range r.Hubs[1:] {
		h.Stop()
	}
	other := []*rig.Box{rig.TwinOf(t, r.Hubs[1], "Hub 2 of the other view"), rig.TwinOf(t, r.Hubs[2], "Hub 3 of the other view")}
	other[0].Configure([]string{other[1].Address()})
	other[1].Configure([]string{other[0].Address()})
	dial := []string{}
	for _, l := range r.Links { // clinic 2 reaches clinic 1 as before, and the liars
		if l.From == b && l.To == a {
			dial = append(dial, l.Address())
		}
	}
	for _, h := range other {
		l := rig.NewLink(t, b, h)
		r.Links = append(r.Links, l)
		dial = append(dial, l.Address())
	}
	b.Configure(dial)
	for _, x := range append(other, r.Hubs[1], r.Hubs[2], b) {
		x.Start()
	}
	if err := b.Page().SignIn(); err != nil {
		t.Fatal(err)
	}

	// Both views grow, and both clinics believe what they see.
	for range 3 {
		a.Page().MustSave(rig.NewVisit(rnd, patient))
		b.Page().MustSave(rig.NewVisit(rnd, patient))
	}
	a.Page().MustSave(rig.NewVisit(rnd, patient))
	r.WaitSame(append([]*rig.Box{a}, r.Hubs...)...)
	r.WaitSame(append([]*rig.Box{b}, other...)...)
	if x, y := a.Status(), b.Status(); x.Root == y.Root || len(x.Faults)+len(y.Faults) != 0 {
		t.Fatalf("before they meet: %s; %s", rig.Describe(x), rig.Describe(y))
	}

	// They meet. Nothing is confirmed from here on, and the work goes on.
	r.SetLink(a, b, true)
	for _, x := range []*rig.Box{a, b} {
		x.Eventually(rig.ConvergeMax, "words about two ledgers", func() string { return rig.FaultLike(x, "two different ledgers") })
	}
	rid := a.Page().MustSave(rig.NewVisit(rnd, patient))
	a.Eventually(rig.ConvergeMax, "a copy at the neighbour in spite of it", func() string {
		st, err := a.RecordState(rid)
		if err != nil || st.State != "copied" {
			return fmt.Sprintf("%v %v", st, err)
		}
		return ""
	})
	if st := a.Status(); st.Pending+st.Shared == 0 {
		t.Errorf("something was confirmed after the two met: %s", rig.Describe(st))
	}

	// A third party with the region's public keys and nothing else.
	keys := filepath.Join(t.TempDir(), "keys.toml")
	if err := os.WriteFile(keys, []byte(r.Hubs[0].Must("region", "keys")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*rig.Box{a, b} {
		checkEvidence(t, x, keys, "Hub 2", "Hub 3")
	}

	// An honest hub that meets one who was deceived knows at once.
	b.Stop()
	dial = dial[:0]
	l := rig.NewLink(t, b, r.Hubs[0])
	b.Configure([]string{l.Address()})
	b.Start()
	r.Hubs[0].Eventually(rig.ConvergeMax, "words at the honest hub", func() string { return rig.FaultLike(r.Hubs[0], "two different ledgers") })
	for _, x := range []*rig.Box{a, b, r.Hubs[0]} {
		x.Verify()
	}
}

// checkEvidence exports the first evidence of a box and has it checked far from any
// box.
func checkEvidence(t *testing.T, b *rig.Box, keys string, culprits ...string) {
	t.Helper()
	var list []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(b.Must("evidence", "list", "--json")), &list); err != nil || len(list) == 0 {
		t.Fatalf("%s: no evidence: %v", b.Name, err)
	}
	file := filepath.Join(t.TempDir(), "evidence")
	b.Must("evidence", "export", list[0].ID, file)
	nowhere := &rig.Box{T: t, Name: "a third party", Dir: t.TempDir()}
	out := nowhere.Must("check-evidence", file, "--keys", keys)
	named := false // of two liars it may be that one signed both checkpoints that met
	for _, c := range culprits {
		named = named || strings.Contains(out, c)
	}
	if !named || strings.Contains(out, "Hub 1") && !slices.Contains(culprits, "Hub 1") {
		t.Errorf("the evidence of %s does not name who of %q it was:\n%s", b.Name, culprits, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 4
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if res := nowhere.Command("", "check-evidence", file, "--keys", keys); res.Code == 0 || crashed(res) {
		t.Errorf("evidence with a bit turned over: exit code %d\n%s%s", res.Code, res.Out, res.Err)
	}
}
