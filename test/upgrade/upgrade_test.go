package upgrade_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

var (
	makeOf = flag.String("make", "", "program to make a fixture of, before the fixtures are looked at")
	makeTo = flag.String("to", "", "archive to write it to")
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

// TestReleases opens what each release wrote, goes on with it and opens it again.
func TestReleases(t *testing.T) {
	if *makeOf != "" {
		makeFixture(t, *makeOf, *makeTo)
	}
	archives, err := filepath.Glob(filepath.Join("testdata", "*.tar.zst"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, a := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(a), ".tar.zst"), func(t *testing.T) { openRelease(t, a) })
	}
}

// opened is a fixture whose boxes are run by the program of this tree.
type opened struct {
	t     *testing.T
	f     Fixture
	dir   string
	boxes map[string]*rig.Box
}

func openRelease(t *testing.T, archive string) {
	f, dir := unpack(t, archive)
	o := &opened{t: t, f: f, dir: dir, boxes: map[string]*rig.Box{}}
	o.adopt()
	o.each(func(b *rig.Box) { b.Verify() })
	o.each(func(b *rig.Box) { b.Start() })
	o.asLeft()
	o.converge()
	o.goOn()
	o.each(func(b *rig.Box) { b.Verify() })
	o.each(func(b *rig.Box) { b.Stop() })
	o.each(func(b *rig.Box) { b.Start() })
	o.converge()
	o.each(func(b *rig.Box) { b.Stop() })
	o.each(func(b *rig.Box) { b.Verify() })
}

func (o *opened) adopt() {
	o.t.Helper()
	var hubs []*rig.Box
	for _, k := range o.f.Boxes {
		b := rig.OpenBox(o.t, filepath.Join(o.dir, k.Dir), k.Name, k.Role)
		o.boxes[k.Name] = b
		if k.Role == "hub" {
			hubs = append(hubs, b)
		}
	}
	for _, b := range o.boxes { // the addresses in the ledger are of the machine that made the fixture
		var dial []string
		for _, h := range hubs {
			if h != b {
				dial = append(dial, h.Address())
			}
		}
		b.Configure(dial)
	}
}

func (o *opened) all() []*rig.Box {
	var list []*rig.Box
	for _, k := range o.f.Boxes {
		list = append(list, o.boxes[k.Name])
	}
	return list
}

func (o *opened) each(f func(*rig.Box)) {
	o.t.Helper()
	(&rig.Region{T: o.t}).Each(o.all(), f)
	if o.t.Failed() {
		o.t.FailNow()
	}
}

// asLeft: staff sign in, and every box gives what it gave when it was stopped.
func (o *opened) asLeft() {
	o.t.Helper()
	for _, k := range o.f.Boxes {
		b := o.boxes[k.Name]
		if s := b.Status(); s.Size < o.f.Size || len(s.Faults) > 0 && k.Role != "hub" {
			o.t.Errorf("%s: %s, want at least %d entries and no fault", k.Name, rig.Describe(s), o.f.Size)
		}
		if k.Role == "hub" {
			continue
		}
		if err := b.Page().SignIn(); err != nil {
			o.t.Errorf("%s: %v", k.Name, err)
		}
		if missing := without(k.Export, exported(b)); len(missing) > 0 {
			o.t.Errorf("%s: of %d resources %d are not exported as they were, the first:\n%s", k.Name, len(k.Export), len(missing), missing[0])
		}
	}
	for _, s := range o.f.Saved {
		b := o.boxes[s.Box]
		if body := b.Page().Must("/patient/" + s.Patient); !strings.Contains(body, s.Marker) {
			o.t.Errorf("%s: a visit is not on its chart", s.Box)
		}
	}
}

// without gives what is in a and not in b; both are sorted.
func without(a, b []string) []string {
	var out []string
	for _, x := range a {
		if _, ok := slices.BinarySearch(b, x); !ok {
			out = append(out, x)
		}
	}
	return out
}

// converge: everything gets into the regional record.
func (o *opened) converge() {
	o.t.Helper()
	waitSame(o.t, o.all()...)
	for _, s := range o.f.Saved {
		st, err := o.boxes[s.Box].RecordState(s.Record)
		if err != nil || st.State != "confirmed" {
			o.t.Errorf("%s: record %s is %q: %v", s.Box, s.Record, st.State, err)
		}
	}
}

// goOn: staff of every box save visits, for people of before and new ones.
func (o *opened) goOn() {
	o.t.Helper()
	rnd := rand.New(rand.NewPCG(3, 4))
	saved := rig.NewSaved()
	var at *rig.Box
	for _, k := range o.f.Boxes {
		if k.Role == "hub" {
			continue
		}
		b := o.boxes[k.Name]
		at = b
		patients := []string{b.Page().Register("Esther", "Uwase after "+k.Name)}
		for _, s := range o.f.Saved {
			if s.Box == k.Name && !slices.Contains(patients, s.Patient) {
				patients = append(patients, s.Patient)
			}
		}
		for _, id := range patients {
			v := rig.NewVisit(rnd, id)
			if err := saved.Acked(v, b.Page().MustSave(v)); err != nil {
				o.t.Error(err)
			}
		}
	}
	waitSame(o.t, o.all()...)
	_ = at
}

// waitSame waits until boxes hold the same ledger, all of it final, with nothing
// pending. A partial one may still lack entries that it does not hold.
func waitSame(t *testing.T, boxes ...*rig.Box) {
	t.Helper()
	rig.Eventually(t, rig.ConvergeMax, "the same ledger everywhere", func() string {
		var first string
		for i, b := range boxes {
			s, why := b.TryStatus()
			if why != "" {
				return why
			}
			head := fmt.Sprintf("%d %s", s.Size, s.Root)
			if i == 0 {
				first = head
			}
			if head != first || s.Confirmed != s.Size || s.Pending+s.Shared+s.Carried+s.Refused != 0 || s.Attachments.OnlyHere != 0 {
				return fmt.Sprintf("%s: %s; the first has %s", b.Name, rig.Describe(s), first)
			}
		}
		return ""
	})
}
