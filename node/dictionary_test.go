package node_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// strangeFile is one person's bundle, in words that no program was shipped with.
func strangeFile(person int) string {
	var b strings.Builder
	id := func(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-%012x", person, n) }
	fmt.Fprintf(&b, `{ "resourceType": "Bundle", "type": "collection", "entry": [
		{"resource": {"resourceType": "Patient", "id": %q, "name": [{"family": "Okello%d", "given": ["Ada"]}], "gender": "female", "birthDate": "1990-01-02"}},
		{"resource": {"resourceType": "Encounter", "id": %q, "status": "finished", "class": {"code": "AMB"}, "subject": {"reference": "Patient/%s"}}}`,
		id(0), person*7919, id(1), id(0))
	for i := range 8 {
		fmt.Fprintf(&b, `,
		{"resource": {"resourceType": "Observation", "id": %q, "status": "final", "code": {"text": "kvart-%d oblongata measured with the second quillbeat"},
			"subject": {"reference": "Patient/%s"}, "encounter": {"reference": "Encounter/%s"}, "valueQuantity": {"value": %d.50, "unit": "quillbeat per gnorph"}}}`,
			id(10+i), i, id(0), id(1), person+i)
	}
	return b.String() + "]}"
}

func trained(t *testing.T) node.Trained {
	t.Helper()
	dir := t.TempDir()
	q := node.TrainRequest{}
	for person := range 20 {
		path := filepath.Join(dir, fmt.Sprintf("%02d.json", person))
		if err := os.WriteFile(path, []byte(strangeFile(person)), 0o600); err != nil {
			t.Fatal(err)
		}
		q.Files = append(q.Files, path)
	}
	d, err := node.TrainDictionary(q)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTrainingMeasuresOnOthers(t *testing.T) {
	d := trained(t)
	if d.People != 16 || d.HeldOut != 4 || d.Visits != 4 || 2*d.Sealed > d.BuiltIn+d.BuiltIn/2 {
		t.Errorf("got %d people, %d held out, %d visits of %d bytes, %d without", d.People, d.HeldOut, d.Visits, d.Sealed, d.BuiltIn)
	}
	if again := trained(t); !bytes.Equal(again.Bytes, d.Bytes) {
		t.Error("trained again: other bytes")
	}
}

// A chart lacks what waits for a dictionary, says so, and is whole once it came.
func TestDictionaryOfTheLedger(t *testing.T) {
	c, d := newClinic(t), trained(t)
	if _, err := c.n.PublishDictionary(t.Context(), d.Bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := c.n.PublishDictionary(t.Context(), d.Bytes); err == nil {
		t.Error("published twice")
	}
	list, err := c.n.LedgerDictionaries()
	if err != nil || len(list) != 1 || !list[0].InUse || list[0].Name != d.Name {
		t.Fatalf("got %+v, %v", list, err)
	}
	c.take(strangeFile(4711))
	patient := c.patientNamed("okello")
	whole := c.open(patient)
	if len(whole.Chart.Visits) != 1 {
		t.Fatalf("%d visits", len(whole.Chart.Visits))
	}
	if err := c.n.ForgetDictionaries(); err != nil {
		t.Fatal(err)
	}
	if got := c.faults(); !strings.Contains(got, "1 charts have records that cannot be read until a dictionary of the ledger comes") {
		t.Errorf("told: %s", got)
	}
	if err := c.n.DictionaryComes(); err != nil {
		t.Fatal(err)
	}
	if got := c.faults(); got != "" {
		t.Errorf("still told: %s", got)
	}
	if healed := c.open(patient); len(healed.Chart.Visits) != 1 {
		t.Errorf("%d visits once it came", len(healed.Chart.Visits))
	}
	c.disclosedWithDictionary(whole.Chart.Visits[0].Shown.RID, d)
}

func (c *clinic) patientNamed(query string) string {
	c.t.Helper()
	rows, err := c.n.Find(c.t.Context(), c.token, query)
	if err != nil || len(rows) != 1 {
		c.t.Fatalf("found %d, %v", len(rows), err)
	}
	return rows[0].ID
}

// disclosedWithDictionary: the file says what the record says to who has no ledger.
func (c *clinic) disclosedWithDictionary(rid record.RID, d node.Trained) {
	c.t.Helper()
	c.confirmed()
	p, err := c.n.ProveAs(c.t.Context(), node.ProveRequest{RID: rid.String(), Body: true})
	if err != nil {
		c.t.Fatal(err)
	}
	got, err := node.DecodeDisclosure(p.File)
	if err != nil || !bytes.Equal(got.Dictionary, d.Bytes) {
		c.t.Fatalf("a dictionary of %d bytes, want %d, %v", len(got.Dictionary), len(d.Bytes), err)
	}
	proof, err := record.DecodeProof(got.Proof)
	if err != nil {
		c.t.Fatal(err)
	}
	e, err := record.DecodeLeaf(proof.Seq, proof.Leaf)
	if err != nil {
		c.t.Fatal(err)
	}
	says, err := got.Open(e)
	if err != nil || len(says.Items) == 0 {
		c.t.Errorf("%d items, %v", len(says.Items), err)
	}
	got.Dictionary = nil
	if _, err := got.Open(e); err == nil {
		c.t.Error("opened without its dictionary")
	}
}
