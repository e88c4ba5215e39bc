package chart_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/record"
)

// open plays a save through the bytes of a body, as a box does.
func open(t *testing.T, n int, items []chart.Item) chart.Opened {
	t.Helper()
	enc, err := chart.EncodeBody(chart.Body{Items: items})
	if err != nil {
		t.Fatal(err)
	}
	body, err := chart.DecodeBody(enc)
	if err != nil {
		t.Fatal(err)
	}
	return chart.Opened{RID: record.RID{0: byte(n), 1: byte(n >> 8), 2: 1}, Ordered: true, Seq: uint64(n), Author: "import", Body: body}
}

func TestImportedBundlesAreWhollyInSight(t *testing.T) {
	files, err := filepath.Glob("../test/testdata/fhir/*.json")
	if err != nil || len(files) < 7 {
		t.Fatalf("found %d test bundles, %v", len(files), err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		charts := map[int][]chart.Opened{}
		for i, s := range fhir.Plan(b, func(string) (string, bool) { return "", false }).Saves {
			charts[s.Patient] = append(charts[s.Patient], open(t, i, chart.PutItems(s.Resources)))
		}
		lines := 0
		var folded []chart.Chart
		for who, records := range charts {
			c := chart.Fold(records)
			folded = append(folded, c)
			checkAllInSight(t, &c)
			lines += len(c.Lines)
			if len(c.Conflicts) > 0 {
				t.Errorf("%s: %d conflicts", f, len(c.Conflicts))
			}
			if who != fhir.NoPatient {
				checkImported(t, f, &c)
			}
		}
		if lines != len(b.Entries) {
			t.Errorf("%s: %d lines of %d entries", f, lines, len(b.Entries))
		}
		for _, e := range b.Entries {
			if !found(folded, e) {
				t.Errorf("%s: %s came back with other bytes or not at all", f, e.Resource.Name())
			}
		}
	}
}

// checkImported expects a patient, and every observation in its visit: these files name an encounter for each.
func checkImported(t *testing.T, f string, c *chart.Chart) {
	t.Helper()
	row := c.Row()
	if c.Patient == nil || row.Family == "" || row.BirthDate == "" || row.LastVisit == "" {
		t.Errorf("%s: row %+v", f, row)
	}
	for i := range c.Visits {
		if i > 0 && c.Visits[i].At.After(c.Visits[i-1].At) {
			t.Errorf("%s: visit %d is newer than the one before", f, i)
		}
	}
}

func found(charts []chart.Chart, e fhir.Entry) bool {
	for _, c := range charts {
		if l, ok := c.Find(e.FullURL); ok {
			return bytes.Equal(l.Resource().JSON, e.Resource.JSON) && l.Resource().FullURL == e.FullURL
		}
	}
	return false
}

func TestSavedFormsMakeAChart(t *testing.T) {
	for i, p := range sample.Patients(5, 40) {
		saves, err := p.Resources()
		if err != nil {
			t.Fatal(err)
		}
		var records []chart.Opened
		for n, s := range saves {
			records = append(records, open(t, n, chart.PutItems(s)))
		}
		c := chart.Fold(records)
		checkAllInSight(t, &c)
		if len(c.Visits) != len(p.Visits) || len(c.Observations) != 0 || len(c.Others) != 0 {
			t.Errorf("patient %d: %d visits, %d loose observations, %d others", i, len(c.Visits), len(c.Observations), len(c.Others))
		}
		row := c.Row()
		if row.Given != p.Registration.Given || row.Card != p.Registration.Card || row.LastVisit != p.Visits[len(p.Visits)-1].At.Format("2006-01-02") {
			t.Errorf("patient %d: row %+v", i, row)
		}
		enc, err := chart.EncodeRow(row)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := chart.DecodeRow(enc); err != nil || back != row {
			t.Errorf("patient %d: row comes back as %+v, %v", i, back, err)
		}
	}
}

func TestRetractingAVisitTakesAllOfIt(t *testing.T) {
	saves, err := sample.One(5, 0).Resources()
	if err != nil {
		t.Fatal(err)
	}
	records := []chart.Opened{open(t, 0, chart.PutItems(saves[0])), open(t, 1, chart.PutItems(saves[1]))}
	c := chart.Fold(records)
	items := c.Retraction(c.Visits[0].Shown.Ref)
	if len(items) != len(saves[1]) {
		t.Fatalf("%d items to retract of %d", len(items), len(saves[1]))
	}
	c = chart.Fold(append(records, open(t, 2, items)))
	if len(c.Visits) != 0 || len(c.Retracted) != len(saves[1]) || c.Patient == nil {
		t.Errorf("%d visits, %d retracted", len(c.Visits), len(c.Retracted))
	}
	checkAllInSight(t, &c)
}
