package node_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
)

func (c *clinic) take(raw string) node.ImportReport {
	c.t.Helper()
	rep, err := c.n.Import(c.t.Context(), node.ImportRequest{Name: "file.json"}, strings.NewReader(raw), func(node.Progress) {})
	if err != nil {
		c.t.Fatal(err)
	}
	return rep
}

// hospitalFile is one hospital's file about one person and one measurement.
func hospitalFile(patient, family, sex, observation, kilos string) string {
	return fmt.Sprintf(`{"resourceType":"Bundle","type":"collection","entry":[
		{"resource":{"resourceType":"Patient","id":%q,"name":[{"family":%q,"given":["Ada"]}],"gender":%q,"birthDate":"1990-01-02"}},
		{"resource":{"resourceType":"Observation","id":%q,"status":"final","code":{"text":"weight"},"subject":{"reference":"Patient/%s"},
			"valueQuantity":{"value":%s,"unit":"kg"}}}]}`, patient, family, sex, observation, patient, kilos)
}

// What was taken in before the disk was full is in the report of the command.
func TestAFailureBringsWhatWasDone(t *testing.T) {
	c := newClinic(t)
	var got node.ImportReport
	err := c.n.Streamed(t.Context(), node.ImportReport{Added: 7}, errors.New("disk is full"), &got)
	if err == nil || err.Error() != "disk is full" || got.Added != 7 {
		t.Errorf("got %d added, %v; want 7 and the failure", got.Added, err)
	}
}

func (c *clinic) find(query string) []string {
	c.t.Helper()
	rows, err := c.n.Find(c.t.Context(), c.token, query)
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.Row.Family)
	}
	return names
}

func TestImportNeverMixesTwoPeople(t *testing.T) {
	c := newClinic(t)
	c.take(hospitalFile("1", "Okello", "female", "o1", "60"))
	rep := c.take(hospitalFile("1", "Banda", "male", "o2", "80"))
	if rep.Added != 0 || rep.RefusedCount != 2 {
		t.Errorf("another person with the same number: got %d added, %d refused; want 0, 2", rep.Added, rep.RefusedCount)
	}
	if got := c.find("okello"); len(got) != 1 || got[0] != "Okello" {
		t.Errorf("the first person: found %v", got)
	}
	if rep := c.take(hospitalFile("1", "Okello-Banda", "female", "o1", "60")); rep.Added != 1 || rep.RefusedCount != 0 {
		t.Errorf("one corrected name: got %d added, %d refused; want 1, 0", rep.Added, rep.RefusedCount)
	}
	const uuid = "11111111-1111-4111-8111-111111111111"
	c.take(hospitalFile(uuid, "Unknown", "female", "o3", "60"))
	if rep := c.take(hospitalFile(uuid, "Banda", "male", "o3", "60")); rep.Added != 1 || rep.RefusedCount != 0 {
		t.Errorf("a person identified later, same UUID: got %d added, %d refused; want 1, 0", rep.Added, rep.RefusedCount)
	}
}

func TestImportedResourcesStayWithTheirPatient(t *testing.T) {
	c := newClinic(t)
	files := []string{hospitalFile("a", "Okello", "female", "o", "60"), hospitalFile("b", "Banda", "female", "o", "80")}
	for round := range 3 {
		for i, f := range files {
			want := 0
			if round == 0 {
				want = 2
			}
			if rep := c.take(f); rep.Added != want || rep.Known != 2-want {
				t.Errorf("file %d, time %d: got %d added, %d known; want %d, %d", i, round+1, rep.Added, rep.Known, want, 2-want)
			}
		}
	}
}

func TestAnOldFileBringsNothingBack(t *testing.T) {
	c := newClinic(t)
	older, newer := hospitalFile("a", "Okello", "female", "o", "60"), hospitalFile("a", "Okello", "female", "o", "61")
	c.take(older)
	if rep := c.take(newer); rep.Added != 1 {
		t.Errorf("a newer version: got %d added, want 1", rep.Added)
	}
	for _, f := range []string{older, newer, older} {
		if rep := c.take(f); rep.Added != 0 {
			t.Errorf("a file taken in before: got %d added, want 0", rep.Added)
		}
	}
}
