package upgrade_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
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
		name := strings.TrimSuffix(filepath.Base(a), ".tar.zst")
		t.Run(name, func(t *testing.T) {
			if name == firstRelease {
				refuseRelease(t, a)
			} else {
				openRelease(t, a)
			}
		})
	}
}

// firstRelease ordered without votes: its regions are not gone on with.
const firstRelease = "1-first"

// refuseRelease: nothing is done with such a box, in words that say what to do, and
// what they say works.
func refuseRelease(t *testing.T, archive string) {
	f, dir := unpack(t, archive)
	before := contentOf(t, dir)
	for _, k := range []KeptBox{f.Boxes[0], f.Boxes[len(f.Boxes)-1]} {
		b := &rig.Box{T: t, Name: k.Name, Role: k.Role, Dir: filepath.Join(dir, k.Dir)}
		for _, command := range []string{"run", "status", "verify", "export"} {
			r := b.Command("", command)
			if r.Code != 1 || !strings.Contains(r.Err, "made by the first release") || !strings.Contains(r.Err, "healthpost export") {
				t.Errorf("%s: %s: exit code %d, %q", k.Name, command, r.Code, r.Err)
			}
		}
	}
	if after := contentOf(t, dir); !maps.Equal(before, after) {
		t.Error("the folder was changed, and the first release may not read it any more")
	}
	kept := f.Boxes[len(f.Boxes)-1].Export
	anew := rig.NewBox(t, "Clinic anew", "standalone")
	anew.Start()
	anew.Page()
	file := filepath.Join(t.TempDir(), "all.ndjson")
	if err := os.WriteFile(file, []byte(strings.Join(kept, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	anew.Import(file)
	if missing := without(tight(t, kept), tight(t, exported(anew))); len(missing) > 0 {
		t.Errorf("of %d resources %d do not come back, the first:\n%s", len(kept), len(missing), missing[0])
	}
	anew.Stop()
}

// tight leaves out the white space between tokens, as an import does.
func tight(t *testing.T, lines []string) []string {
	t.Helper()
	var out []string
	for _, l := range lines {
		var b bytes.Buffer
		if err := json.Compact(&b, []byte(l)); err != nil {
			t.Fatal(err)
		}
		out = append(out, b.String())
	}
	slices.Sort(out)
	return out
}

// contentOf gives the hash of every file of a folder.
func contentOf(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	out := map[string][sha256.Size]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = sha256.Sum256(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
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
	o.proves()
	o.converge()
	saved := o.goOn()
	o.each(func(b *rig.Box) { b.Verify() })
	o.each(func(b *rig.Box) { b.Stop() })
	o.each(func(b *rig.Box) { b.Start() })
	o.converge()
	for at, s := range saved {
		s.WaitConfirmed(at)
		s.MarkersOnce(t, at)
	}
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

// proves: a proof from then holds by the keys from then.
func (o *opened) proves() {
	o.t.Helper()
	b := o.boxes[o.f.Saved[0].Box]
	if r := b.Command("", "check-proof", filepath.Join(o.dir, o.f.Proof), "--keys", filepath.Join(o.dir, o.f.Keys)); r.Code != 0 {
		o.t.Errorf("check-proof: exit code %d\n%s%s", r.Code, r.Out, r.Err)
	}
}

// goOn: staff of every box save visits, for people of before and new ones.
func (o *opened) goOn() map[*rig.Box]*rig.Saved {
	o.t.Helper()
	rnd, saved := rig.NewRand(o.t), map[*rig.Box]*rig.Saved{}
	for _, k := range o.f.Boxes {
		if k.Role == "hub" {
			continue
		}
		b := o.boxes[k.Name]
		patients := []string{b.Page().Register("Esther", "Uwase after "+k.Name)}
		for _, s := range o.f.Saved {
			if s.Box == k.Name && !slices.Contains(patients, s.Patient) {
				patients = append(patients, s.Patient)
			}
		}
		saved[b] = rig.NewSaved()
		for _, id := range patients {
			v := rig.NewVisit(rnd, id)
			saved[b].Posted(v)
			if err := saved[b].Acked(v, b.Page().MustSave(v)); err != nil {
				o.t.Error(err)
			}
		}
	}
	waitSame(o.t, o.all()...)
	return saved
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
