package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
)

// TestTwoViews: two of three hubs collude. Copies of both, the real program, order
// something else for one clinic than for the rest of the region. Each side by itself
// sees a sound ledger under a majority's signatures. The first exchange between the
// two clinics shows it to both, with a file that convinces a third party.
func TestTwoViews(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	a, b := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Wema", "Deceived")
	b.Page()
	r.waitSame(r.boxes()...)
	r.link(a, b, false)

	// The other view: copies of hubs 2 and 3 that only clinic 2 talks to.
	b.Stop()
	for _, h := range r.hubs[1:] {
		h.Stop()
	}
	other := []*Box{twinOf(t, r.hubs[1], "Hub 2 of the other view"), twinOf(t, r.hubs[2], "Hub 3 of the other view")}
	other[0].configure([]string{peerAddress(t, other[1])})
	other[1].configure([]string{peerAddress(t, other[0])})
	dial := []string{}
	for _, l := range r.links { // clinic 2 reaches clinic 1 as before, and the liars
		if l.from == b && l.to == a {
			dial = append(dial, linkAddress(t, l))
		}
	}
	for _, h := range other {
		l := newLink(t, b, h)
		r.links = append(r.links, l)
		dial = append(dial, linkAddress(t, l))
	}
	b.configure(dial)
	for _, x := range append(other, r.hubs[1], r.hubs[2], b) {
		x.Start()
	}
	if err := b.Page().SignIn(); err != nil {
		t.Fatal(err)
	}

	// Both views grow, and both clinics believe what they see.
	for range 3 {
		a.Page().mustSave(newVisit(rnd, patient))
		b.Page().mustSave(newVisit(rnd, patient))
	}
	a.Page().mustSave(newVisit(rnd, patient))
	r.waitSame(append([]*Box{a}, r.hubs...)...)
	r.waitSame(append([]*Box{b}, other...)...)
	if x, y := a.Status(), b.Status(); x.Root == y.Root || len(x.Faults)+len(y.Faults) != 0 {
		t.Fatalf("before they meet: %s; %s", describe(x), describe(y))
	}

	// They meet. Nothing is confirmed from here on, and the work goes on.
	r.link(a, b, true)
	for _, x := range []*Box{a, b} {
		x.eventually(convergeMax, "words about two ledgers", func() string { return faultLike(x, "two different ledgers") })
	}
	rid := a.Page().mustSave(newVisit(rnd, patient))
	a.eventually(convergeMax, "a copy at the neighbour in spite of it", func() string {
		st, err := a.recordState(rid)
		if err != nil || st.State != "copied" {
			return fmt.Sprintf("%v %v", st, err)
		}
		return ""
	})
	if st := a.Status(); st.Pending+st.Shared == 0 {
		t.Errorf("something was confirmed after the two met: %s", describe(st))
	}

	// A third party with the region's public keys and nothing else.
	keys := filepath.Join(t.TempDir(), "keys.toml")
	if err := os.WriteFile(keys, []byte(r.hubs[0].must("region", "keys")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*Box{a, b} {
		checkEvidence(t, x, keys, "Hub 2", "Hub 3")
	}

	// An honest hub that meets one who was deceived knows at once.
	b.Stop()
	dial = dial[:0]
	l := newLink(t, b, r.hubs[0])
	b.configure([]string{linkAddress(t, l)})
	b.Start()
	r.hubs[0].eventually(convergeMax, "words at the honest hub", func() string { return faultLike(r.hubs[0], "two different ledgers") })
	for _, x := range []*Box{a, b, r.hubs[0]} {
		x.Verify()
	}
}

// checkEvidence exports the first evidence of a box and has it checked far from any
// box.
func checkEvidence(t *testing.T, b *Box, keys string, culprits ...string) {
	t.Helper()
	var list []struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(b.must("evidence", "list", "--json")), &list); err != nil || len(list) == 0 {
		t.Fatalf("%s: no evidence: %v", b.name, err)
	}
	file := filepath.Join(t.TempDir(), "evidence")
	b.must("evidence", "export", list[0].ID, file)
	nowhere := &Box{t: t, name: "a third party", dir: t.TempDir()}
	out := nowhere.must("check-evidence", file, "--keys", keys)
	named := false // of two liars it may be that one signed both checkpoints that met
	for _, c := range culprits {
		named = named || strings.Contains(out, c)
	}
	if !named || strings.Contains(out, "Hub 1") && !slices.Contains(culprits, "Hub 1") {
		t.Errorf("the evidence of %s does not name who of %q it was:\n%s", b.name, culprits, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 4
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if res := nowhere.Command("", "check-evidence", file, "--keys", keys); res.code == 0 || crashed(res) {
		t.Errorf("evidence with a bit turned over: exit code %d\n%s%s", res.code, res.out, res.err)
	}
}

func peerAddress(t *testing.T, b *Box) string {
	t.Helper()
	id, err := node.PeerIDOf(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%s/p2p/%s", b.peerPort, id)
}

// linkAddress is where a forwarder takes connections for its target.
func linkAddress(t *testing.T, l *link) string {
	t.Helper()
	id, err := node.PeerIDOf(l.to.dir)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/ip4/127.0.0.1/tcp/%s/p2p/%s", l.port, id)
}
