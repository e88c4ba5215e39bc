package node_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// TestKeysInCircles: who wraps a key of their own under itself stops no box, and who has two keys of a chart
// does not keep them from whom it is opened to, by saying that each holds the other.
func TestKeysInCircles(t *testing.T) {
	t.Parallel()
	c, patient := newClosed(t)
	own, err := seal.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	second, err := seal.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	gens, err := c.n.Generations(patient, record.KindClinical)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := c.n.GenerationKey(patient, gens[1])
	if err != nil {
		t.Fatal(err)
	}
	numbers := []uint64{}
	for last := uint64(6); last < 9; last++ {
		numbers = append(numbers, seal.ClosedGeneration(last<<48, own))
	}
	both := seal.ClosedGeneration(10<<48, second)
	wraps, err := c.n.WrapsTo(patient, numbers[2], own, c.name())
	under := func(newer seal.Key, gen uint64, k seal.Key) {
		t.Helper()
		w, err := c.n.KeyUnder(patient, newer, gen, k)
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, w)
	}
	for _, gen := range numbers {
		under(own, gen, own)
	}
	under(second, gens[1], closed)
	under(closed, both, second)
	if err == nil {
		err = c.n.Plant(t.Context(), patient, wraps...)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c.readsAll(patient, 2)
		if held, err := c.n.Held(patient, append(append(gens, numbers...), both)); err != nil || held != 6 {
			t.Errorf("%d of 6 keys, %v", held, err)
		}
		if heads, err := c.n.Heads(patient); err != nil || !slices.Contains(heads, both) {
			t.Errorf("heads: %x, %v", heads, err)
		}
		c.n.ForgetKeys()
	}
	if err := c.n.RowsAnew(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.visited(patient, "third", "fever")
	c.readsAll(patient, 3)
}

// TestCopiedCardLeadsToItsChart: a card that somebody wrote down in another chart too, as it is, opens the one
// that it was made for.
func TestCopiedCardLeadsToItsChart(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	patient, other := c.register("form-1", "Nakato"), c.register("form-2", "Nakato")
	made := c.makeCard(patient, "form-3", web.NewCard{})
	opens := func() {
		t.Helper()
		if got, err := c.n.UseCard(t.Context(), c.token, made.Code, nil, cardPIN); err != nil || got != patient {
			t.Errorf("opened %q, %v, want %q", got, err, patient)
		}
	}
	opens()
	if err := c.n.CopyCard(t.Context(), patient, other); err != nil {
		t.Fatal(err)
	}
	opens()
	if err := c.n.RowsAnew(t.Context()); err != nil { // both come at once
		t.Fatal(err)
	}
	opens()
}

// TestErasedEndLeavesACardDead: who has the record erased by which a lost card was ended does not bring it back.
func TestErasedEndLeavesACardDead(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	patient := c.register("form-1", "Nakato")
	lost := c.makeCard(patient, "form-2", web.NewCard{})
	if err := c.n.EndCard(t.Context(), c.token, patient, lost.ID); err != nil {
		t.Fatal(err)
	}
	rids, err := c.n.RecordsOf(patient, record.KindCard)
	if err != nil || len(rids) != 2 {
		t.Fatalf("records of cards: %v, %v", rids, err)
	}
	c.confirmed()
	second := c.second(t)
	if err := c.n.Erase(t.Context(), c.token, patient, web.Erasure{Record: rids[1], Reason: "mistake", Second: second.StaffID, PIN: agreePIN}); err != nil {
		t.Fatal(err)
	}
	c.attestedBy(t, 1)
	newer := c.makeCard(patient, "form-3", web.NewCard{})
	for range 2 {
		if _, err := c.n.UseCard(t.Context(), c.token, lost.Code, nil, cardPIN); !errors.Is(err, web.ErrCardEnded) {
			t.Errorf("the lost card: %v, want ErrCardEnded", err)
		}
		if _, err := c.n.UseCard(t.Context(), c.token, newer.Code, nil, cardPIN); err != nil {
			t.Errorf("the new card: %v", err)
		}
		if err := c.n.RowsAnew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
