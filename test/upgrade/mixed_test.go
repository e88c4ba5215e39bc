package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/test/rig"
)

// older is a program that knows less than this one: HEALTHPOST_OLDER names that of a
// release, else it is this one without what the third release brought to the ledger and
// to sessions.
func older(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("HEALTHPOST_OLDER"); p != "" {
		return p
	}
	p, err := rig.Overlaid("older", nil, map[string][2]string{
		"record/rules.go": {`case KindAssign:\s+err = c\.assign\(r, author\)\s+case KindDictionary:\s+err = c\.addDictionary\(r, author\)`, ``},
		"record/late.go":  {`const Rules = 4`, `const Rules = 2`},
		"sync/message.go": {`protocolMax = 3`, `protocolMax = 2`},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Kinds and an extension that only the newer program has.
const (
	laterAccess = 57
	laterAttest = 21
	laterKey    = 98
)

// newer is this program with kinds of records and an extension key that this one does
// not know: what staff opened is written as another kind besides, attestations as another, and
// each record of a patient has an extension more.
func newer(t *testing.T) string {
	t.Helper()
	p, err := rig.Overlaid("newer", nil, map[string][2]string{
		"node/access.go": {`_, err = n\.place\(ctx, \[\]store\.Draft\{draft\},`, fmt.Sprintf(`later := draft
	later.Kind = record.Kind(%d)
	_, err = n.place(ctx, []store.Draft{draft, later},`, laterAccess)},
		"node/attest.go": {`if first \{ // the opening record speaks for today\s+return n\.store\.PutRows\(ctx, rows\)\s+\}`, ``},
		"node/epochs.go": {`placed\[i\]\.Session = n\.epochs\.handles\[placed\[i\]\.Session\]`, fmt.Sprintf(`placed[i].Session = n.epochs.handles[placed[i].Session]
		if placed[i].Kind == record.KindAttest {
			placed[i].Kind = %d
		}
		if placed[i].Kind == record.KindClinical {
			placed[i].Ext = map[uint64][]byte{%d: []byte("of a later release")}
		}`, laterAttest, laterKey)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMixedVersions: a region whose boxes are older, of this version and newer comes to
// one ledger, hubs and clinics of each kind; what one does not know goes through it
// unchanged; and an older box that is upgraded afterwards knows what it passed on.
func TestMixedVersions(t *testing.T) {
	low, high, rnd := older(t), newer(t), rig.NewRand(t)
	r := &rig.Region{T: t}
	of := func(name, role, program string) *rig.Box {
		if program == "" {
			return rig.NewBox(t, name, role)
		}
		return rig.NewBoxOf(t, program, t.TempDir()+"/box", name, role)
	}
	r.Hubs = []*rig.Box{of("Hub now", "hub", ""), of("Hub older", "hub", low), of("Hub newer", "hub", high)}
	r.Clinics = []*rig.Box{of("Clinic older", "clinic", low), of("Clinic now", "clinic", ""), of("Clinic newer", "clinic", high)}
	carrier, now, late := r.Clinics[0], r.Clinics[1], r.Clinics[2]
	first := r.Hubs[0]
	first.Must("region", "create", "Mixed region")
	first.Start()
	for _, b := range r.Boxes()[1:] {
		r.Admit(b)
	}
	r.WaitSame(r.Boxes()...)

	// The newer clinic meets nobody but the older one, which carries.
	r.SetHubLinks(late, false)
	r.SetLink(late, now, false)
	saved := map[*rig.Box]*rig.Saved{}
	patient := ""
	for _, b := range r.Clinics {
		saved[b] = rig.NewSaved()
		patient = b.Page().Register("Amina", "Uwase of "+b.Name)
		for range 3 {
			v := rig.NewVisit(rnd, patient)
			saved[b].Posted(v)
			if err := saved[b].Acked(v, b.Page().MustSave(v)); err != nil {
				t.Error(err)
			}
		}
	}
	r.WaitSame(r.Boxes()...)
	first.Must("region", "assign", carrier.Name, "full", "--compartment", patient)
	publish(t, first)
	r.WaitSame(r.Boxes()...)
	now.Import(household(t, 20))
	r.WaitSame(r.Boxes()...)
	for _, b := range r.Clinics {
		for at, s := range saved {
			s.MarkersOnce(t, b)
			s.WaitConfirmed(at)
		}
	}
	r.WaitSame(r.Boxes()...)
	want := exported(now)
	r.Each(r.Boxes(), func(b *rig.Box) { b.Stop() })
	for _, b := range r.Boxes() {
		b.Verify()
		b.Program = ""
	}
	r.Each(r.Boxes(), func(b *rig.Box) { b.Start() })
	r.WaitSame(r.Boxes()...)
	if missing := without(want, exported(carrier)); len(missing) > 0 {
		t.Errorf("upgraded, the older clinic lacks %d of %d resources, the first:\n%s", len(missing), len(want), missing[0])
	}
	r.WaitSame(r.Boxes()...)
	r.Check(r.Boxes()...)
	kinds := kindsOf(t, now)
	for _, k := range []record.Kind{laterAccess, laterAttest, record.KindAssign, record.KindDictionary} {
		if kinds[k] == 0 {
			t.Errorf("no record of kind %d is in the ledger: %v", k, kinds)
		}
	}
}

// kindsOf counts the kinds in the ledger of a stopped box.
func kindsOf(t *testing.T, b *rig.Box) map[record.Kind]int {
	t.Helper()
	s, err := store.Open(filepath.Join(b.Dir, "db"), store.Options{Salvage: true}) // reads, and leaves the folder as it is
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := map[record.Kind]int{}
	for seq := range s.Head().Size {
		e, err := s.Entry(seq)
		if err != nil {
			t.Fatal(err)
		}
		out[e.Record.Core.Kind]++
	}
	return out
}
