package node_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/fhir"
)

// Rows that lists read are the same whether they grew with every record or are
// made from all of them at once.
func TestRebuiltRowsAreTheSame(t *testing.T) {
	c := newClinic(t)
	seed := rand.Uint64()
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
	}
	t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var people []string
	names := []string{"Nakato", "Éric", "Odile Marie", "Samuel"}
	for i := range 30 {
		form := fmt.Sprintf("form-%d-%d", seed, i)
		if len(people) == 0 || rng.IntN(4) == 0 {
			people = append(people, c.register(form, names[rng.IntN(len(names))]))
			continue
		}
		id := people[rng.IntN(len(people))]
		if err := c.happens(rng, id, form, names[rng.IntN(len(names))]); err != nil {
			t.Fatal(err)
		}
	}
	c.confirmed()
	grown, err := c.n.ProjectedRows()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.n.Reproject(); err != nil {
		t.Fatal(err)
	}
	made, err := c.n.ProjectedRows()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(made, grown); d != "" || len(grown) < 2*len(people) {
		t.Errorf("%d rows grew, %d were made (-made +grown):\n%s", len(grown), len(made), d)
	}
}

// happens does one thing to a chart: a visit, other details, or a withdrawal.
func (c *clinic) happens(rng *rand.Rand, id, form, given string) error {
	v := c.open(id)
	switch rng.IntN(3) {
	case 0:
		r := fhir.RegistrationOf(v.Chart.Patient.Resource())
		r.Given, r.Village = given, fmt.Sprint("Village ", rng.IntN(3))
		return c.n.AmendPatient(c.t.Context(), c.token, id, form, r, v.Chart.Patient.Refs())
	case 1:
		if len(v.Chart.Visits) > 0 {
			return c.n.Retract(c.t.Context(), c.token, id, form, v.Chart.Visits[rng.IntN(len(v.Chart.Visits))].Shown.Ref, "wrong person")
		}
	}
	var topics []string
	if rng.IntN(3) == 0 {
		topics = fhir.TopicWords()[:1]
	}
	_, err := c.n.SaveVisit(c.t.Context(), c.token, id, form, fhir.Visit{At: time.Now(), Problem: "fever", Note: fmt.Sprint("note of ", given), Topics: topics})
	return err
}

// A visit that was written into the wrong chart and withdrawn is nobody's visit of
// today, and its urgency calls nobody in; who was registered waits again.
func TestWithdrawnVisitLeavesToday(t *testing.T) {
	c := newClinic(t)
	id := c.register("form-1", "Nakato")
	if _, err := c.n.SaveVisit(t.Context(), c.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever", Urgent: true}); err != nil {
		t.Fatal(err)
	}
	today, err := c.n.Today(t.Context(), c.token)
	if err != nil || len(today.Recent) != 1 || len(today.Waiting) != 1 || !today.Waiting[0].Urgent {
		t.Fatalf("before: got %d visits, %d waiting, %v", len(today.Recent), len(today.Waiting), err)
	}
	if err := c.n.Retract(t.Context(), c.token, id, "form-3", c.open(id).Chart.Visits[0].Shown.Ref, "wrong person"); err != nil {
		t.Fatal(err)
	}
	today, err = c.n.Today(t.Context(), c.token)
	if err != nil || len(today.Recent) != 0 || len(today.Waiting) != 1 || today.Waiting[0].Urgent {
		t.Errorf("after: got %d visits, %d waiting, %v; want none, and who was registered", len(today.Recent), len(today.Waiting), err)
	}
}
