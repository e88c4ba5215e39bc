package chart

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

// Chart is what the records of one compartment say. Every line is in Lines; the other fields are views of the same lines, and each line
// that is not retracted is in at least one of them.
type Chart struct {
	Patient       *Line // nil when no record says who this is
	Demographics  fhir.Patient
	Conflicts     []Line
	Allergies     []Allergy // active ones: the union of what the heads say
	PastAllergies []Allergy
	Problems      []Problem // active ones, newest first
	PastProblems  []Problem
	Medicines     []Medicine // orders that stand, newest first
	PastMedicines []Medicine
	Immunizations []Immunization // newest first
	Requests      []Request      // what is planned, soonest first
	Visits        []Visit        // newest first
	Observations  []Observation  // of no visit in this chart, newest first
	Others        []Line         // what has no view of its own, and belongs to no visit
	Retracted     []Line
	Lines         []Line // all, in the order in which they first appeared
	// Incomplete: there are records that were not given to Fold, as who opened them
	// found. What is not in the chart may be in those.
	Incomplete bool
	Closed     Closed // what of it is closed to the box that opened them

	index map[string]int // reference text -> Lines
}

// Closed are records that are sealed under keys which a box does not hold.
type Closed struct {
	Records int
	Since   time.Time // when the first of them was written
	Homes   []string  // the boxes that open them in any case
}

// The clinical lines with their views.
type (
	// Allergy is one allergy; View is of the most cautious head.
	Allergy struct {
		Line
		View fhir.AllergyIntolerance
	}
	Problem struct {
		Line
		View fhir.Condition
	}
	Medicine struct {
		Line
		View fhir.MedicationRequest
	}
	Immunization struct {
		Line
		View fhir.Immunization
	}
	Request struct {
		Line
		View fhir.Request
	}
	Observation struct {
		Line
		View fhir.Observation
	}
)

// Visit is one encounter with all that was recorded in it.
type Visit struct {
	Line
	View          fhir.Encounter
	At            time.Time // start of the encounter; when it was written if that is not known
	Observations  []Observation
	Problems      []Problem
	Medicines     []Medicine
	Allergies     []Allergy
	Immunizations []Immunization
	Requests      []Request
	Others        []Line
}

// Fold makes the chart of records, which are the opened records of one compartment in any order. It is deterministic: the same set
// gives the same chart. Records whose body could not be opened are left out by the caller.
func Fold(records []Opened) Chart {
	all := lines(inOrder(records))
	list := make([]Line, len(all))
	for i, l := range all {
		list[i] = *l
	}
	return ofLines(list)
}

// ofLines puts lines, in the order in which they first appeared, where they are shown.
func ofLines(list []Line) Chart {
	c := Chart{Lines: list, index: map[string]int{}}
	encounters := c.indexNames()
	c.topics(encounters)
	f := folder{chart: &c, visits: map[string]int{}}
	for i := range c.Lines {
		f.encounter(&c.Lines[i])
	}
	for i := range c.Lines {
		f.line(&c.Lines[i], f.visit(encounters[i]))
	}
	c.sort()
	return c
}

// folder puts each line where it is shown.
type folder struct {
	chart  *Chart
	visits map[string]int // key of the encounter's line -> Visits
}

func (f *folder) encounter(l *Line) {
	if l.Conflict {
		f.chart.Conflicts = append(f.chart.Conflicts, *l)
	}
	if l.Type != "Encounter" || l.Retracted {
		return
	}
	v := Visit{Line: *l, View: l.Resource().Encounter()}
	v.At = visitTime(v.View, &l.Shown)
	f.visits[l.Key] = len(f.chart.Visits)
	f.chart.Visits = append(f.chart.Visits, v)
}

// visitTime is when a visit began, as its form says; when that was written where the
// form took it from a clock that nobody ever set.
func visitTime(e fhir.Encounter, v *Version) time.Time {
	for _, s := range []string{e.Start, e.End} {
		if t, ok := fhir.ParseTime(s); ok {
			if v.Clock == 0 && !v.Bulk && t.Year() < unsetYears {
				break
			}
			return t
		}
	}
	return v.At
}

// unsetYears are those that a clock without a battery begins in.
const unsetYears = 2001

// visit finds the visit that an encounter reference means; nil for none.
func (f *folder) visit(ref string) *Visit {
	if ref == "" {
		return nil
	}
	e, ok := f.chart.Find(ref)
	if !ok {
		return nil
	}
	if i, ok := f.visits[e.Key]; ok {
		return &f.chart.Visits[i]
	}
	return nil
}

func (f *folder) line(l *Line, v *Visit) {
	c := f.chart
	if l.Retracted {
		c.Retracted = append(c.Retracted, *l)
		return
	}
	switch l.Type {
	case "Encounter":
	case "Patient":
		if c.Patient == nil {
			c.Patient, c.Demographics = l, l.Resource().Patient()
		} else {
			c.Others = append(c.Others, *l)
		}
	case "AllergyIntolerance":
		f.allergy(l, v)
	case "Condition":
		f.problem(Problem{*l, l.Resource().Condition()}, v)
	case "MedicationRequest":
		f.medicine(Medicine{*l, l.Resource().MedicationRequest()}, v)
	case "Immunization":
		i := Immunization{*l, l.Resource().Immunization()}
		c.Immunizations = append(c.Immunizations, i)
		if v != nil {
			v.Immunizations = append(v.Immunizations, i)
		}
	case "ServiceRequest":
		r := Request{*l, l.Resource().ServiceRequest()}
		c.Requests = append(c.Requests, r)
		if v != nil {
			v.Requests = append(v.Requests, r)
		}
	case "Observation":
		o := Observation{*l, l.Resource().Observation()}
		if v != nil {
			v.Observations = append(v.Observations, o)
		} else {
			c.Observations = append(c.Observations, o)
		}
	default:
		if v != nil {
			v.Others = append(v.Others, *l)
		} else {
			c.Others = append(c.Others, *l)
		}
	}
}

// allergy shows every head that says something of its own: an allergy that any of them calls active stays in sight.
func (f *folder) allergy(l *Line, v *Visit) {
	var active, past []Allergy
	for _, h := range l.Heads {
		if h.Op != OpPut {
			continue
		}
		a := Allergy{*l, h.Resource.AllergyIntolerance()}
		a.Shown = h
		if a.View.Active() {
			active = appendNew(active, a)
		} else {
			past = appendNew(past, a)
		}
	}
	f.chart.Allergies = append(f.chart.Allergies, active...)
	if len(active) == 0 {
		f.chart.PastAllergies = append(f.chart.PastAllergies, past...)
	}
	if v != nil {
		v.Allergies = append(v.Allergies, active...)
		if len(active) == 0 {
			v.Allergies = append(v.Allergies, past...)
		}
	}
}

func appendNew(list []Allergy, a Allergy) []Allergy {
	for _, b := range list {
		if strings.EqualFold(b.View.Code.Text, a.View.Code.Text) {
			return list
		}
	}
	return append(list, a)
}

func (f *folder) problem(p Problem, v *Visit) {
	if p.View.Active() {
		f.chart.Problems = append(f.chart.Problems, p)
	} else {
		f.chart.PastProblems = append(f.chart.PastProblems, p)
	}
	if v != nil {
		v.Problems = append(v.Problems, p)
	}
}

func (f *folder) medicine(m Medicine, v *Visit) {
	if m.View.Medicine.Text == "" && m.View.Reference != "" {
		if l, ok := f.chart.Find(m.View.Reference); ok {
			m.View.Medicine.Text = l.Resource().Summarise().Title
		}
	}
	if m.View.Active() {
		f.chart.Medicines = append(f.chart.Medicines, m)
	} else {
		f.chart.PastMedicines = append(f.chart.PastMedicines, m)
	}
	if v != nil {
		v.Medicines = append(v.Medicines, m)
	}
}

// Identity is the chart of what says who this is, for who may see no more.
func (c *Chart) Identity() Chart {
	out := Chart{Patient: c.Patient, Demographics: c.Demographics, Closed: c.Closed, index: map[string]int{}}
	if c.Patient == nil {
		return out
	}
	out.Lines = []Line{*c.Patient}
	if c.Patient.Conflict {
		out.Conflicts = out.Lines[:1:1]
	}
	out.indexNames()
	return out
}

// sort orders the lists for display. Lines that have the same date stay in the order of the fold.
func (c *Chart) sort() {
	slices.Reverse(c.Visits) // of one moment, what was written later stands above
	slices.SortStableFunc(c.Visits, func(a, b Visit) int { return b.At.Compare(a.At) })
	newest(c.Problems, func(p Problem) string { return cmp.Or(p.View.Recorded, p.View.Onset) })
	newest(c.PastProblems, func(p Problem) string { return cmp.Or(p.View.Recorded, p.View.Onset) })
	newest(c.Medicines, func(m Medicine) string { return m.View.Authored })
	newest(c.PastMedicines, func(m Medicine) string { return m.View.Authored })
	newest(c.Immunizations, func(i Immunization) string { return i.View.Date })
	newest(c.Observations, func(o Observation) string { return o.View.Effective })
	newest(c.Requests, func(r Request) string { return r.View.Occurrence })
	slices.Reverse(c.Requests)
}

func newest[T any](list []T, date func(T) string) {
	slices.SortStableFunc(list, func(a, b T) int {
		ta, okA := fhir.ParseTime(date(a))
		tb, okB := fhir.ParseTime(date(b))
		if okA != okB {
			if okA {
				return -1
			}
			return 1
		}
		return tb.Compare(ta)
	})
}

// Row is the chart's line in lists of people.
func (c *Chart) Row() Row {
	p := &c.Demographics
	r := Row{Given: p.Given, Family: p.Family, Sex: p.Sex, BirthDate: p.BirthDate, BirthEstimated: p.BirthEstimated, Village: p.Village,
		Mother: p.Mother, Card: p.Card, Phone: p.Phone, Deceased: p.Deceased != ""}
	if len(c.Visits) > 0 {
		r.LastVisit = c.Visits[0].At.Format(time.DateOnly)
	}
	return r
}

// State is that of the chart's newest version: what a list shows beside the person.
func (c *Chart) State() State {
	var newest *Version
	for i := range c.Lines {
		for j := range c.Lines[i].Heads {
			if v := &c.Lines[i].Heads[j]; newest == nil || v.At.After(newest.At) || v.At.Equal(newest.At) && v.RID != newest.RID && string(v.RID[:]) > string(newest.RID[:]) {
				newest = v
			}
		}
	}
	if newest == nil {
		return State{}
	}
	return newest.State
}

// Digest is the same on two boxes exactly when they folded the same versions into the same lines with the same heads in the same order.
// Which devices hold copies, and who else knows, is not part of it.
func (c *Chart) Digest() [32]byte {
	h := sha256.New()
	size := func(n int) { h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) }
	text := func(s string) { size(len(s)); h.Write([]byte(s)) }
	version := func(v Version) {
		h.Write(v.RID[:])
		size(int(v.Ref.Index))
		h.Write([]byte{byte(v.Op)})
		content := sha256.Sum256(v.Resource.JSON)
		h.Write(content[:])
	}
	text("hp:chart:1")
	size(len(c.Lines))
	for _, l := range c.Lines {
		text(l.Key)
		version(l.Shown)
		for _, list := range [][]Version{l.Heads, l.Past} {
			size(len(list))
			for _, v := range list {
				version(v)
			}
		}
	}
	return [32]byte(h.Sum(nil))
}
