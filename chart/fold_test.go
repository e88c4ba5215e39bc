package chart_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// writer makes opened records with increasing clocks.
type writer struct {
	n       uint64
	records []chart.Opened
}

func (w *writer) add(author string, items ...chart.Item) *chart.Opened {
	w.n++
	rid := record.RID{0xa0}
	binary.BigEndian.PutUint64(rid[1:], w.n*0x9e3779b97f4a7c15)
	w.records = append(w.records, chart.Opened{RID: rid, Author: author, Body: chart.Body{Items: items},
		Record: record.Record{Core: record.Core{HLC: w.n * 60_000 << 16, N: w.n}}})
	return &w.records[len(w.records)-1]
}

func ref(o *chart.Opened) chart.Ref { return chart.RefOf(o.RID, 0) }

func patient(t helper, family string, base ...chart.Ref) chart.Item {
	return chart.PutItem(resource(t, fmt.Sprintf(`{"resourceType":"Patient","id":"p","name":[{"family":%q}]}`, family)), base...)
}

func allergy(t helper, id, text, status string, base ...chart.Ref) chart.Item {
	return chart.PutItem(resource(t, fmt.Sprintf(`{"resourceType":"AllergyIntolerance","id":%q,"clinicalStatus":{"coding":[{"code":%q}]},`+
		`"code":{"text":%q},"patient":{"reference":"Patient/p"}}`, id, status, text)), base...)
}

func families(l chart.Line) string {
	var out []string
	for _, h := range l.Heads {
		out = append(out, h.Author+" "+h.Resource.Patient().Family)
	}
	return strings.Join(out, ", ")
}

func TestConcurrentAmendmentsAreKeptUntilResolved(t *testing.T) {
	var w writer
	first := ref(w.add("A", patient(t, "Bello")))
	two := ref(w.add("B", patient(t, "Belo", first)))
	three := ref(w.add("C", patient(t, "Bella", first)))
	c := chart.Fold(w.records)
	if len(c.Conflicts) != 1 || families(c.Conflicts[0]) != "B Belo, C Bella" || c.Demographics.Family != "Belo" {
		t.Fatalf("conflicts %d, %s shown", len(c.Conflicts), c.Demographics.Family)
	}
	if got := c.Conflicts[0].Refs(); !reflect.DeepEqual(got, []chart.Ref{two, three}) {
		t.Errorf("refs %v", got)
	}
	w.records[2].Ordered, w.records[2].Seq = true, 9
	if c = chart.Fold(w.records); c.Demographics.Family != "Bella" {
		t.Errorf("shown %s, want the ordered head", c.Demographics.Family)
	}
	w.add("D", patient(t, "Bello Bello", c.Conflicts[0].Refs()...))
	c = chart.Fold(w.records)
	if len(c.Conflicts) != 0 || c.Demographics.Family != "Bello Bello" || len(c.Patient.Past) != 3 {
		t.Errorf("conflicts %d, %s shown, %d past", len(c.Conflicts), c.Demographics.Family, len(c.Patient.Past))
	}
}

func TestTheSameSaidTwiceIsNoConflict(t *testing.T) {
	var w writer
	first := ref(w.add("A", patient(t, "Bello")))
	w.add("B", patient(t, "Bela", first))
	spaced := patient(t, "Bela", first)
	spaced.JSON = []byte(strings.ReplaceAll(string(spaced.JSON), ":", " : "))
	w.add("C", spaced)
	if c := chart.Fold(w.records); len(c.Conflicts) != 0 || len(c.Patient.Heads) != 2 {
		t.Errorf("%d conflicts, %d heads", len(c.Conflicts), len(c.Patient.Heads))
	}
}

func TestRetractionHidesButKeeps(t *testing.T) {
	var w writer
	first := ref(w.add("A", allergy(t, "a", "Penicillin", "active")))
	c := chart.Fold(w.records)
	if len(c.Allergies) != 1 {
		t.Fatal("no allergy")
	}
	w.add("B", c.Retraction(first)...)
	c = chart.Fold(w.records)
	if len(c.Allergies) != 0 || len(c.Retracted) != 1 {
		t.Fatalf("%d allergies, %d retracted", len(c.Allergies), len(c.Retracted))
	}
	if got := c.Retracted[0].Resource().AllergyIntolerance().Code.Text; got != "Penicillin" || c.Retracted[0].Heads[0].Author != "B" {
		t.Errorf("kept %q, retracted by %q", got, c.Retracted[0].Heads[0].Author)
	}
	w.add("C", allergy(t, "a", "Penicillin, rash", "active", c.Retracted[0].Refs()...))
	if c = chart.Fold(w.records); len(c.Allergies) != 1 || len(c.Retracted) != 0 {
		t.Errorf("after amending the retraction: %d allergies, %d retracted", len(c.Allergies), len(c.Retracted))
	}
}

func TestAmendedWhileRetractedStaysInSight(t *testing.T) {
	var w writer
	first := ref(w.add("A", allergy(t, "a", "Penicillin", "active")))
	c := chart.Fold(w.records)
	w.add("B", c.Retraction(first)...)
	w.add("C", allergy(t, "a", "Penicillin, rash", "active", first))
	if c = chart.Fold(w.records); len(c.Allergies) != 1 || len(c.Retracted) != 0 || len(c.Conflicts) != 1 {
		t.Errorf("%d allergies, %d retracted, %d conflicts", len(c.Allergies), len(c.Retracted), len(c.Conflicts))
	}
}

func TestAllergiesAreAUnion(t *testing.T) {
	var w writer
	first := ref(w.add("A", allergy(t, "a", "Penicillin", "active")))
	w.add("B", allergy(t, "a", "Penicillin", "resolved", first))
	w.add("C", allergy(t, "a", "Amoxicillin", "active", first))
	w.add("D", allergy(t, "b", "Eggs", "inactive"))
	c := chart.Fold(w.records)
	if len(c.Allergies) != 1 || c.Allergies[0].View.Code.Text != "Amoxicillin" || len(c.PastAllergies) != 1 {
		t.Errorf("allergies %+v, past %d", c.Allergies, len(c.PastAllergies))
	}
	w.add("E", allergy(t, "a", "Penicillin", "active", first))
	if c = chart.Fold(w.records); len(c.Allergies) != 2 {
		t.Errorf("%d allergies, want both that are active", len(c.Allergies))
	}
}

func TestRefusedSupersedesNothingAndIsShown(t *testing.T) {
	var w writer
	first := ref(w.add("A", patient(t, "Bello")))
	w.add("B", patient(t, "Other", first))
	w.records[1].State = chart.State{Kind: chart.Refused, Reason: "revoked"}
	w.add("B", allergy(t, "a", "Penicillin", "active")).State = chart.State{Kind: chart.Refused}
	c := chart.Fold(w.records)
	if c.Demographics.Family != "Bello" || len(c.Patient.Heads) != 2 || len(c.Conflicts) != 0 {
		t.Errorf("%s shown, %d heads, %d conflicts", c.Demographics.Family, len(c.Patient.Heads), len(c.Conflicts))
	}
	if len(c.Allergies) != 1 || c.Allergies[0].Shown.State.Kind != chart.Refused {
		t.Error("an allergy in a refused record is not in sight")
	}
}

func TestPendingAmendmentComesAfterWhatItAmends(t *testing.T) {
	var w writer
	first := ref(w.add("A", patient(t, "Bello")))
	second := ref(w.add("B", patient(t, "Sow", first)))
	w.add("C", patient(t, "Sow Bello", second))
	for i := range w.records { // boxes whose clocks were lost
		w.records[i].Record.Core.HLC = uint64(len(w.records) - i)
	}
	c := chart.Fold(w.records)
	if l := c.Lines[0]; l.Shown.Author != "C" || l.Past[0].Author != "A" || l.Past[1].Author != "B" {
		t.Errorf("shown is by %s, past by %s, %s", l.Shown.Author, l.Past[0].Author, l.Past[1].Author)
	}
}

func TestOrderedHeadsStandBySeqWhateverTheClock(t *testing.T) {
	var w writer
	first := ref(w.add("A", patient(t, "Bello")))
	w.add("B", patient(t, "Sow", first))
	w.add("C", patient(t, "Bah", first))
	for i, seq := range []uint64{0, 8, 3} {
		w.records[i].Ordered, w.records[i].Seq = true, seq
	}
	if c := chart.Fold(w.records); families(*c.Patient) != "C Bah, B Sow" {
		t.Errorf("heads %s", families(*c.Patient))
	}
}

// history draws records that put, amend and retract a few things, each knowing of any heads of before.
func history(t *rapid.T) []chart.Opened {
	var w writer
	for range rapid.IntRange(1, 14).Draw(t, "records") {
		known := rapid.IntRange(0, len(w.records)).Draw(t, "known") // what had arrived when this was written
		c := chart.Fold(w.records[:known])
		var items []chart.Item
		for range rapid.IntRange(1, 3).Draw(t, "items") {
			id := rapid.SampledFrom([]string{"a", "b", "p"}).Draw(t, "id")
			if id == "p" {
				items = append(items, patient(t, rapid.SampledFrom([]string{"X", "Y", "Z"}).Draw(t, "family"), heads(c, "Patient/p")...))
				continue
			}
			base := heads(c, "AllergyIntolerance/"+id)
			if len(base) > 0 && rapid.Bool().Draw(t, "retract") {
				items = append(items, chart.Item{Op: chart.OpRetract, Type: "AllergyIntolerance", ID: id, Base: base})
				continue
			}
			status := rapid.SampledFrom([]string{"active", "resolved"}).Draw(t, "status")
			items = append(items, allergy(t, id, rapid.SampledFrom([]string{"Eggs", "Nuts"}).Draw(t, "text"), status, base...))
		}
		o := w.add("A", items...)
		o.Record.Core.HLC = uint64(rapid.IntRange(0, 5).Draw(t, "clock")) << 16
		o.Record.Core.Epoch[0] = byte(rapid.IntRange(0, 2).Draw(t, "epoch"))
	}
	for seq, i := range rapid.Permutation(indexes(len(w.records))).Draw(t, "order") {
		switch rapid.IntRange(0, 3).Draw(t, "state") {
		case 0:
			w.records[i].Ordered, w.records[i].Seq = true, uint64(seq)
		case 1:
			w.records[i].State.Kind = chart.Refused
		}
	}
	return w.records
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func heads(c chart.Chart, key string) []chart.Ref {
	for _, l := range c.Lines {
		if l.Key == key {
			return l.Refs()
		}
	}
	return nil
}

func TestFoldDoesNotDependOnArrival(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := history(t)
		want := chart.Fold(records)
		mixed := rapid.Permutation(append(slices.Clone(records), records[0])).Draw(t, "arrival")
		got := chart.Fold(mixed)
		if !reflect.DeepEqual(got, want) || got.Digest() != want.Digest() {
			t.Fatal("the same records in another order give another chart")
		}
	})
}

func TestFoldLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := history(t)
		c := chart.Fold(records)
		items := 0
		for _, r := range records {
			items += len(r.Body.Items)
		}
		versions := 0
		for _, l := range c.Lines {
			versions += len(l.Heads) + len(l.Past)
			if len(l.Heads) == 0 {
				t.Fatalf("%s has no heads", l.Key)
			}
		}
		if versions != items {
			t.Fatalf("%d versions of %d items", versions, items)
		}
		checkAllInSight(t, &c)
	})
}

// checkAllInSight finds every line of a chart in one of the lists that a page shows.
func checkAllInSight(t interface{ Errorf(string, ...any) }, c *chart.Chart) {
	seen := map[string]bool{}
	mark := func(lines ...chart.Line) {
		for _, l := range lines {
			seen[l.Key] = true
		}
	}
	if c.Patient != nil {
		mark(*c.Patient)
	}
	mark(c.Others...)
	mark(c.Retracted...)
	for _, a := range append(slices.Clone(c.Allergies), c.PastAllergies...) {
		mark(a.Line)
	}
	for _, p := range append(slices.Clone(c.Problems), c.PastProblems...) {
		mark(p.Line)
	}
	for _, m := range append(slices.Clone(c.Medicines), c.PastMedicines...) {
		mark(m.Line)
	}
	for _, i := range c.Immunizations {
		mark(i.Line)
	}
	for _, r := range c.Requests {
		mark(r.Line)
	}
	for _, o := range c.Observations {
		mark(o.Line)
	}
	for _, v := range c.Visits {
		mark(v.Line)
		mark(v.Others...)
		for _, o := range v.Observations {
			mark(o.Line)
		}
	}
	for _, l := range c.Lines {
		if !seen[l.Key] {
			t.Errorf("%s is in no list", l.Key)
		}
	}
}

func TestConcurrentAmendmentsProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w writer
		first := ref(w.add("A", patient(t, "First")))
		n := rapid.IntRange(2, 8).Draw(t, "writers")
		for i := range n {
			w.add(fmt.Sprint(i), patient(t, fmt.Sprint("Name", i), first))
		}
		c := chart.Fold(rapid.Permutation(w.records).Draw(t, "arrival"))
		if len(c.Patient.Heads) != n || len(c.Conflicts) != 1 {
			t.Fatalf("%d heads of %d, %d conflicts", len(c.Patient.Heads), n, len(c.Conflicts))
		}
		some := c.Patient.Refs()[:n-1]
		w.add("R", patient(t, "Resolved", some...))
		if c = chart.Fold(w.records); len(c.Patient.Heads) != 2 {
			t.Fatalf("%d heads after a resolution that had not seen one of them", len(c.Patient.Heads))
		}
		w.add("S", patient(t, "Resolved", c.Patient.Refs()...))
		if c = chart.Fold(w.records); len(c.Patient.Heads) != 1 || len(c.Conflicts) != 0 {
			t.Fatalf("%d heads after a resolution of all", len(c.Patient.Heads))
		}
	})
}

func TestLongChainsFold(t *testing.T) {
	var w writer
	last := ref(w.add("A", patient(t, "First")))
	for i := range 3000 {
		last = ref(w.add("A", patient(t, fmt.Sprint("Name", i), last)))
	}
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(w.records), func(i, j int) { w.records[i], w.records[j] = w.records[j], w.records[i] })
	c := chart.Fold(w.records)
	if c.Demographics.Family != "Name2999" || len(c.Patient.Past) != 3000 || c.Patient.Past[7].Resource.Patient().Family != "Name6" {
		t.Errorf("shown %s, %d past", c.Demographics.Family, len(c.Patient.Past))
	}
}

// A board that begins in 1970 at each start writes visits that stand by when they
// were written; what a file says of 1970 stays as it is.
func TestVisitsByAClockThatWasNeverSet(t *testing.T) {
	visit := func(id, start string) chart.Item {
		return chart.PutItem(resource(t, fmt.Sprintf(`{"resourceType":"Encounter","id":%q,"status":"finished","class":{"code":"AMB"},"period":{"start":%q},"subject":{"reference":"Patient/p"}}`, id, start)))
	}
	var w writer
	w.n = 30_000_000 // minutes: 2027
	for _, x := range []struct {
		id, start string
		clock     uint8
		lane      record.Lane
	}{{"old", "1970-03-01T08:00:00Z", 0, record.LaneBulk}, {"a", "1970-01-26T08:00:00Z", 0, record.LaneClinical}, {"b", "1970-01-01T08:00:00Z", 0, record.LaneClinical}, {"c", "2020-01-01T08:00:00Z", 1, record.LaneClinical}} {
		o := w.add("A", visit(x.id, x.start))
		o.Record.Core.Clock, o.Record.Core.Lane = x.clock, x.lane
	}
	var got []string
	for _, v := range chart.Fold(w.records).Visits {
		got = append(got, strings.TrimPrefix(v.Key, "Encounter/"))
	}
	if want := []string{"b", "a", "c", "old"}; !slices.Equal(got, want) {
		t.Errorf("visits, newest first: %v, want %v", got, want)
	}
}
