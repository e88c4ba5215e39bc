package node_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// newClosed is a box alone, with an escrow, and somebody with a limit, a visit before it and one after.
func newClosed(t testing.TB) (c *clinic, patient string) {
	t.Helper()
	c = newClinic(t)
	withEscrow(c, c)
	patient = c.register("form-first", "Nakato")
	c.visited(patient, "open", "fever")
	c.decides(patient, "limit", web.Decision{Do: web.DoLimit})
	c.visited(patient, "closed", "cough")
	gens, err := c.n.Generations(patient, record.KindClinical)
	if err != nil || len(gens) != 2 || gens[0] != seal.GenerationFirst || !seal.IsClosed(gens[1]) {
		t.Fatalf("generations: %x, %v", gens, err)
	}
	return c, patient
}

// TestClosedChartIsErased: no key of any generation stays, in memory or on the disk, and none comes back.
func TestClosedChartIsErased(t *testing.T) {
	t.Parallel()
	c, patient := newClosed(t)
	c.confirmed()
	before := len(c.n.CompartmentKeys())
	second := c.second(t)
	if err := c.n.Erase(t.Context(), c.token, patient, web.Erasure{Reason: "asked", Second: second.StaffID, PIN: agreePIN}); err != nil {
		t.Fatal(err)
	}
	c.attestedBy(t, 1)
	if after := len(c.n.CompartmentKeys()); after != before-2 {
		t.Errorf("%d keys in memory before, %d after", before, after)
	}
	for range 2 {
		if left, err := c.n.KeysOf(patient); err != nil || left != 0 {
			t.Errorf("wraps that are left: %d, %v", left, err)
		}
		c.stop()
		c.start()
	}
}

// TestClosedRecordsLeave: what is sealed under a closed generation opens in a proof with its body, and
// leaves in an export, also from a box that began anew with what its records say.
func TestClosedRecordsLeave(t *testing.T) {
	t.Parallel()
	c, patient := newClosed(t)
	third := c.visited(patient, "third", "fever")
	c.confirmed()
	for range 2 {
		p, err := c.n.ProveAs(t.Context(), node.ProveRequest{RID: third.RID, Body: true})
		if err != nil {
			t.Fatal(err)
		}
		d, err := node.DecodeDisclosure(p.File)
		if err != nil || d.Key.IsZero() {
			t.Errorf("the proof: %v", err)
		}
		if got := strings.Count(c.export(), `"Encounter"`); got != 3 {
			t.Errorf("visits in the export: %d, want 3", got)
		}
		if err := c.n.RowsAnew(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.readsAll(patient, 3)
	}
}

// TestKeysThatComeLateLeadBack: the links of a chain are here before the key that they begin with.
func TestKeysThatComeLateLeadBack(t *testing.T) {
	t.Parallel()
	c, patient := newClosed(t)
	newest, wraps, err := c.n.ChainUnder(patient, 5)
	if err != nil {
		t.Fatal(err)
	}
	gens := []uint64{}
	for _, w := range wraps {
		gens = append(gens, w.Generation)
		if err := c.n.Plant(t.Context(), patient, w); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := c.n.Held(patient, gens[1:]); err != nil || held != 0 {
		t.Fatalf("before the newest: %d, %v", held, err)
	}
	if err := c.n.Plant(t.Context(), patient, newest); err != nil {
		t.Fatal(err)
	}
	c.stop()
	c.start()
	if held, err := c.n.Held(patient, gens); err != nil || held != len(gens) {
		t.Errorf("after it: %d of %d, %v", held, len(gens), err)
	}
}
