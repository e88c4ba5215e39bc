package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestoredImage: a clinic's card is put back to a copy of an hour ago. What only
// others have by now comes back, nothing is written twice, and staff are told.
func TestRestoredImage(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 2)
	a, b := r.clinics[0], r.clinics[1]
	patient := a.Page().Register("Rehema", "Restored")
	r.waitSame(r.boxes()...)
	a.Stop()
	image := copyBox(t, a)
	a.Start()
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	s := newSaved()
	save := func(n int) {
		for range n {
			v := newVisit(rnd, patient)
			s.posted(v)
			if err := s.acked(v, a.Page().mustSave(v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(5)
	r.waitSame(r.boxes()...) // in the regional record
	r.linkHubs(a, false)
	save(3)
	visits, rids := s.all()
	last := visits[len(visits)-1]
	copied(t, a, patient, last.marker, rids[last.marker], b.name) // with the neighbour alone
	r.linkHubs(b, false)
	a.Stop()
	replaceWith(t, a, image)
	a.Start()
	r.linkHubs(a, true)
	r.linkHubs(b, true)
	if err := a.Page().SignIn(); err != nil {
		t.Fatal(err)
	}
	save(1) // beside what it does not know of
	r.waitSame(r.boxes()...)
	for _, x := range r.boxes() {
		s.markersOnce(t, x)
	}
	a.eventually(convergeMax, "words about the old copy", func() string { return faultLike(a, "restored from an older state") })
	r.noEvidence(r.boxes()...)
	r.check(r.boxes()...)
}

// TestClonedCard: the card of a clinic is copied into a second machine. Both go on
// working, no record is lost, and both are told.
func TestClonedCard(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	r := newRegion(t, 3, 1)
	a := r.clinics[0]
	patient := a.Page().Register("Zawadi", "Twice")
	r.waitSame(r.boxes()...)
	a.Stop()
	twin := otherMachine(t, a, "Clinic 1 on another board")
	s := newSaved()
	save := func(x *Box) {
		v := newVisit(rnd, patient)
		s.posted(v)
		if err := s.acked(v, x.Page().mustSave(v)); err != nil {
			t.Fatal(err)
		}
	}
	// Two libp2p hosts of one key: a hub holds the newer connection. They take turns.
	for range 2 {
		for _, x := range []*Box{a, twin} {
			x.Start()
			if err := x.Page().SignIn(); err != nil {
				t.Fatal(err)
			}
			save(x)
			r.waitSame(append([]*Box{x}, r.hubs...)...)
			x.Stop()
		}
	}
	a.Start()
	r.waitSame(append([]*Box{a}, r.hubs...)...)
	for _, x := range append([]*Box{a}, r.hubs...) {
		s.markersOnce(t, x)
	}
	a.eventually(convergeMax, "words about two machines", func() string { return faultLike(a, "two boards") })
	twin.Start()
	twin.eventually(convergeMax, "words about two machines", func() string { return faultLike(twin, "two boards") })
	if out := r.hubs[0].must("region", "members"); !strings.Contains(out, "in two boards") {
		t.Errorf("the list of members does not tell of the copy:\n%s", out)
	}
	r.noEvidence(append([]*Box{a}, r.hubs...)...)
	r.check(a)
}

// faultLike is "" when a box tells of a fault with these words.
func faultLike(b *Box, words string) string {
	st, why := b.tryStatus()
	if why != "" {
		return why
	}
	for _, f := range st.Faults {
		if strings.Contains(f, words) {
			return ""
		}
	}
	return fmt.Sprintf("%s says %q", b.name, st.Faults)
}

// noEvidence: honest boxes never accuse one another.
func (r *Region) noEvidence(boxes ...*Box) {
	r.t.Helper()
	for _, b := range boxes {
		if out := strings.TrimSpace(b.must("evidence", "list", "--json")); out != "[]" {
			r.t.Errorf("%s holds evidence: %s", b.name, out)
		}
	}
}

// replaceWith puts the folder of a copy in the place of a stopped box's folder.
func replaceWith(t *testing.T, b, image *Box) {
	t.Helper()
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(image.dir, b.dir); err != nil {
		t.Fatal(err)
	}
}

// twinOf is a copy of a stopped box that can run: the same keys, other ports.
func twinOf(t *testing.T, b *Box, name string, wrap ...string) *Box {
	t.Helper()
	c := copyBox(t, b)
	c.name, c.log, c.page, c.peerPort, c.wrap = name, filepath.Join(t.TempDir(), "log"), "127.0.0.1:"+freePort(t), freePort(t), wrap
	t.Cleanup(func() {
		if c.Running() {
			c.Kill()
		}
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", c.name, c.logTail())
		}
	})
	c.configure(b.dial)
	c.pages.page = newPage(c) // its staff are there already: sign in
	return c
}

// otherMachine is twinOf on a board with another machine id.
func otherMachine(t *testing.T, b *Box, name string) *Box {
	t.Helper()
	id := filepath.Join(t.TempDir(), "machine-id")
	if err := os.WriteFile(id, []byte("0123456789abcdef0123456789abcdef\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return twinOf(t, b, name, "unshare", "-m", "sh", "-c", "mount --bind "+id+" /etc/machine-id && exec \"$@\"", "sh")
}
