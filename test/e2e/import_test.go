package e2e_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/test/rig"
)

// TestRegion: what a clinic took in while it was cut off is on every box
// afterwards, in the same order, digit for digit.
func TestRegion(t *testing.T) {
	t.Parallel()
	r := rig.NewRegion(t, 3, 2)
	files := rig.Bundles(t)
	limit := rig.ConvergeMax
	if dir := os.Getenv("HEALTHPOST_BUNDLES"); dir != "" {
		files, limit = append(files, bundlesBelow(t, dir)...), 10*rig.ConvergeMax
	}
	away, other := r.Clinics[0], r.Clinics[1]
	slices.SortStableFunc(files, func(a, b string) int { return shared(b) - shared(a) })
	r.SetLinks(away, false)
	before := other.Status().Size
	rep := away.Import(files...)
	if rep.RefusedCount != 0 || rep.Added == 0 {
		t.Errorf("import: %d added, %d refused: %v", rep.Added, rep.RefusedCount, rep.Refused)
	}
	if s := away.Status(); s.Pending < rep.Records || s.Shared != 0 {
		t.Errorf("cut off after %d records: %s", rep.Records, rig.Describe(s))
	}
	if s := other.Status(); s.Size != before {
		t.Errorf("the other clinic grew behind the cut: %s", rig.Describe(s))
	}
	r.SetLinks(away, true)
	r.WaitSameIn(limit, r.Boxes()...)
	t.Logf("%d resources in %d records, ledger of %d entries", rep.Added, rep.Records, away.Status().Size)

	want := resourcesOf(t, files)
	for _, b := range []*rig.Box{other, r.Hubs[2], away} {
		sameResources(t, b, want)
	}
	held := away.Status()
	again := away.Import(files...)
	if again.Added != 0 || again.Records != 0 || again.Known == 0 {
		t.Errorf("the same files again: %d resources in %d records, %d known", again.Added, again.Records, again.Known)
	}
	if again := other.Import(files...); again.Added != 0 || again.Records != 0 {
		t.Errorf("the same files at the other clinic: %d resources in %d records", again.Added, again.Records)
	}
	r.WaitSameIn(limit, r.Boxes()...)
	sameResources(t, away, want)
	t.Logf("ledger %d entries before the second import, %d after", held.Size, away.Status().Size)
	r.Check(r.Boxes()...)
}

// shared tells files of places and people, which the program takes in first.
func shared(file string) int {
	b := strings.ToLower(filepath.Base(file))
	if strings.HasPrefix(b, "hospitalinformation") || strings.HasPrefix(b, "practitionerinformation") {
		return 1
	}
	return 0
}

func bundlesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.EqualFold(filepath.Ext(path), ".json") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// resourcesOf reads the resources of bundles, by their canonical text. Of one that
// comes in several versions the last new one counts: each amends the one before,
// and one that was there before brings nothing back.
func resourcesOf(t *testing.T, files []string) map[string][]byte {
	t.Helper()
	last, seen := map[string][]byte{}, map[string]bool{}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fhir.ReadBundle(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, e := range b.Entries {
			name := e.Resource.Type + "/" + e.Resource.ID
			if e.Resource.ID == "" {
				name = canonical(t, e.Resource.JSON)
			}
			if version := name + "\x00" + string(e.Resource.JSON); !seen[version] {
				seen[version], last[name] = true, e.Resource.JSON
			}
		}
	}
	want := map[string][]byte{}
	for _, raw := range last {
		want[canonical(t, raw)] = raw
	}
	return want
}

// canonical is a JSON value with sorted members and numbers as they were written.
func canonical(t *testing.T, raw []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("reading %.200s: %v", raw, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// sameResources holds a box's export to the resources taken in: each of them,
// once, equal as a value with decimals as text, and nothing else.
func sameResources(t *testing.T, b *rig.Box, want map[string][]byte) {
	t.Helper()
	got := map[string]int{}
	for _, line := range b.Export() {
		key := canonical(t, []byte(line))
		got[key]++
		if raw, ok := want[key]; ok && !fhir.JSONEqual(raw, []byte(line)) {
			t.Errorf("%s: another value:\n%.300s\n%.300s", b.Name, line, raw)
		} else if !ok {
			t.Errorf("%s: exports what nobody took in: %.300s", b.Name, line)
		}
		if got[key] > 1 {
			t.Errorf("%s: exported %d times: %.300s", b.Name, got[key], line)
		}
	}
	missing := 0
	for key := range want {
		if got[key] == 0 {
			if missing++; missing <= 3 {
				t.Errorf("%s: missing: %.300s", b.Name, key)
			}
		}
	}
	if missing > 0 {
		t.Errorf("%s: %d of %d resources are missing", b.Name, missing, len(want))
	}
}
