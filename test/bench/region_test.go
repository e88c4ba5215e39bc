package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/test/rig"
)

// region is hubs and clinics as processes. Each clinic reaches each hub through
// a link of its own; clinics do not know one another.
type region struct {
	*rig.Region
	hubs, clinics []*box
}

func newRegion(tb testing.TB, hubs, clinics int) *region {
	tb.Helper()
	r := &region{Region: &rig.Region{T: tb}}
	for i := range hubs {
		r.hubs = append(r.hubs, newBox(tb, fmt.Sprintf("Hub %d", i+1), "hub"))
		r.Hubs = append(r.Hubs, r.hubs[i].Box)
	}
	for i := range clinics {
		r.clinics = append(r.clinics, newBox(tb, fmt.Sprintf("Clinic %d", i+1), "clinic"))
		r.Clinics = append(r.Clinics, r.clinics[i].Box)
	}
	r.Dials = r.dials
	r.Found()
	return r
}

// dials puts a link between a clinic and each hub.
func (r *region) dials(b *rig.Box) (to []string) {
	for _, c := range r.clinics {
		if c.Box != b {
			continue
		}
		for _, h := range r.Hubs {
			l := rig.NewLink(r.T, b, h)
			c.links = append(c.links, l)
			to = append(to, l.Address())
		}
	}
	return to
}

func (r *region) boxes() []*box { return append(append([]*box{}, r.hubs...), r.clinics...) }

// waitSame waits until these boxes hold the same ledger, all of it final, with
// nothing pending.
func (r *region) waitSame(boxes ...*box) {
	r.T.Helper()
	var list []*rig.Box
	for _, b := range boxes {
		list = append(list, b.Box)
	}
	r.WaitSameIn(convergeMax, list...)
}

func (b *box) linked(up bool) {
	for _, l := range b.links {
		l.Set(up)
	}
}

// wire is what went over a clinic's links, and what its sessions count themselves.
type wire struct{ up, down, appUp, appDown int64 }

func (b *box) wire() wire {
	w := wire{down: b.received()}
	for _, l := range b.links {
		w.up += l.Out.Load()
	}
	for _, p := range b.Status().Peers {
		w.appUp += int64(p.BytesOut)
		w.appDown += int64(p.BytesIn)
	}
	return w
}

// received is what came over the clinic's links.
func (b *box) received() (n int64) {
	for _, l := range b.links {
		n += l.In.Load()
	}
	return n
}

func (w wire) since(before wire) wire {
	return wire{w.up - before.up, w.down - before.down, w.appUp - before.appUp, w.appDown - before.appDown}
}

// bundles is the folder that is taken in and how long a box is watched at rest.
func bundles() (dir string, quiet time.Duration) {
	if dir := os.Getenv("HEALTHPOST_BUNDLES"); dir != "" {
		return dir, 60 * time.Second
	}
	return filepath.Join("..", "testdata", "fhir"), 10 * time.Second
}

// input is what a folder's bundles hold.
type input struct {
	values map[string]bool // resources as JSON values; of several versions the newest
	bytes  int64           // of all their JSON
	family string          // of some patient
}

// bundleFiles lists a folder's files as the program takes them: places and
// people first.
func bundleFiles(tb testing.TB, dir string) []string {
	tb.Helper()
	var places, rest []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := strings.ToLower(d.Name())
		switch {
		case err != nil || !d.Type().IsRegular() || filepath.Ext(name) != ".json":
		case strings.HasPrefix(name, "hospitalinformation"), strings.HasPrefix(name, "practitionerinformation"):
			places = append(places, path)
		default:
			rest = append(rest, path)
		}
		return err
	})
	check(tb, "listing the bundles", err)
	return append(places, rest...)
}

func readBundles(tb testing.TB, dir string) input {
	tb.Helper()
	in, last, seen := input{values: map[string]bool{}}, map[string][]byte{}, map[string]bool{}
	for _, path := range bundleFiles(tb, dir) {
		raw, err := os.ReadFile(path)
		check(tb, "reading a bundle", err)
		b, err := fhir.ReadBundle(bytes.NewReader(raw), int64(len(raw)))
		check(tb, "reading "+path, err)
		for i, e := range b.Entries {
			name := e.Resource.Type + "/" + e.Resource.ID
			if e.Resource.ID == "" {
				name = fmt.Sprint(path, i)
			}
			if version := name + string(e.Resource.JSON); !seen[version] { // an old version brings nothing back
				seen[version], last[name] = true, e.Resource.JSON
			}
			in.bytes += int64(len(e.Resource.JSON))
			if e.Resource.Type == "Patient" {
				in.family = familyOf(tb, e.Resource.JSON)
			}
		}
	}
	for _, raw := range last {
		in.values[canonical(tb, raw)] = true
	}
	return in
}

func familyOf(tb testing.TB, patient []byte) string {
	tb.Helper()
	var p struct {
		Name []struct {
			Family string `json:"family"`
		} `json:"name"`
	}
	check(tb, "reading a patient", json.Unmarshal(patient, &p))
	if len(p.Name) == 0 {
		return ""
	}
	return p.Name[0].Family
}

// canonical is a JSON value with sorted members and numbers as they were written.
func canonical(tb testing.TB, raw []byte) string {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	check(tb, "reading a resource", d.Decode(&v))
	out, err := json.Marshal(v)
	check(tb, "writing a resource", err)
	return string(out)
}

// sameResources holds a box's export to what was taken in.
func sameResources(b *box, text string, want map[string]bool) {
	b.T.Helper()
	got := map[string]int{}
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		got[canonical(b.T, s.Bytes())]++
	}
	check(b.T, "reading the export", s.Err())
	missing, foreign, twice := 0, 0, 0
	for v := range want {
		if got[v] == 0 {
			missing++
		}
	}
	for v, n := range got {
		if !want[v] {
			foreign++
		}
		if n > 1 {
			twice++
		}
	}
	if missing+foreign+twice > 0 {
		b.T.Errorf("%s: of %d resources %d are missing, %d are foreign, %d come twice", b.Name, len(want), missing, foreign, twice)
	}
}

// watched is how a page answered while something else went on.
type watched struct {
	mu   sync.Mutex
	took []time.Duration // guarded by mu
	stop chan struct{}
	done sync.WaitGroup
}

// watch loads a page of a box again and again.
func watch(p *page, path string) *watched {
	w := &watched{stop: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			begun := time.Now()
			if _, err := p.get(path); err != nil {
				p.T.Errorf("the page while the box works: %v", err)
				return
			}
			w.mu.Lock()
			w.took = append(w.took, time.Since(begun))
			w.mu.Unlock()
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

func (w *watched) end() []time.Duration {
	close(w.stop)
	w.done.Wait()
	return w.took
}
