package link_test

import (
	"encoding/hex"
	"math/rand/v2"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
	"github.com/healthpost/healthpost/test/rig"
)

// page is a browser at a box, signed in.
type page struct {
	*rig.Page
	tb testing.TB
}

func at(b *rig.Box) *page { return &page{b.Page(), b.T} }

// post sends a form and gives where the answer leads.
func (p *page) post(path string, v url.Values) string {
	p.tb.Helper()
	a, err := p.Post(path, v)
	check(p.tb, "posting "+path, err)
	if a.Location == "" {
		p.tb.Fatalf("posting %s: status %d: %s", path, a.Status, rig.Words(a.Body))
	}
	return a.Location
}

// years is an age today, at least one, of somebody born on a day.
func years(born string) string {
	year, err := strconv.Atoi(born[:4])
	if err != nil {
		return "30"
	}
	return strconv.Itoa(max(time.Now().Year()-year, 1))
}

var formID = regexp.MustCompile(`name="form" value="([^"]*)"`)

// register makes a patient and gives the path of the chart.
func (p *page) register(r fhir.Registration) string {
	p.tb.Helper()
	form := formID.FindStringSubmatch(p.Must("/register"))
	if form == nil {
		p.tb.Fatal("the page that registers has no form")
	}
	v := url.Values{"form": {form[1]}, "given": {r.Given}, "family": {r.Family}, "sex": {r.Sex}, "village": {r.Village},
		"mother": {r.Mother}, "phone": {r.Phone}, "step": {"another"}, "ageYears": {years(r.BirthDate)}}
	path, done, ok := strings.Cut(p.post("/register", v), "?done=")
	if !ok || done != "registered" {
		p.tb.Fatalf("registering led to %s", path)
	}
	return path
}

// visitForm is what the form of a visit sends.
func visitForm(rnd *rand.Rand, v fhir.Visit) url.Values {
	id := make([]byte, 16)
	for i := range id {
		id[i] = byte(rnd.Uint32())
	}
	form := url.Values{"form": {hex.EncodeToString(id)}, "at": {time.Now().UTC().Format(time.RFC3339)}, "dangerSigns": v.DangerSigns}
	for name, value := range map[string]string{"temperature": v.Temperature, "breaths": v.Breaths, "weight": v.Weight, "muac": v.MUAC, "height": v.Height,
		"systolic": v.Systolic, "diastolic": v.Diastolic, "pulse": v.Pulse, "spo2": v.SpO2, "rdt": v.RDT, "problem": v.Problem, "problemOther": v.ProblemOther,
		"treatment": v.Treatment, "note": v.Note, "advice": v.Advice, "returnIn": v.ReturnIn, "allergy": v.Allergy} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if v.Urgent {
		form.Set("urgent", "1")
	}
	return form
}

// save posts a visit and gives the record's id.
func (p *page) save(rnd *rand.Rand, patient string, v fhir.Visit) string {
	p.tb.Helper()
	form := visitForm(rnd, v)
	a, err := p.Post(patient+"/visit", form)
	check(p.tb, "posting a visit", err)
	to := a.Location
	if to == "" { // a measure that wants a second look
		form.Set("step", "checked")
		form.Set("reason", "measured_again")
		to = p.post(patient+"/visit", form)
	}
	_, rid, ok := strings.Cut(to, "?saved=")
	if !ok || rid == "" {
		p.tb.Fatal("a visit was not saved")
	}
	return rid
}

// day saves visits on the page, of patients who are registered first, each with
// about three visits, and gives the chart of the last one.
func (p *page) day(rnd *rand.Rand, visits int) (patient string) {
	p.tb.Helper()
	for i, n := 0, 0; n < visits; i++ {
		somebody := sample.One(uint64(rnd.Uint32()), i)
		patient = p.register(somebody.Registration)
		for _, v := range somebody.Visits[:min(len(somebody.Visits), visits-n)] {
			v.Urgent, v.DangerSigns = false, nil
			p.save(rnd, patient, v)
			n++
		}
	}
	return patient
}

var urgentVisit = fhir.Visit{Problem: "pneumonia", DangerSigns: []string{"lethargic"}, Temperature: "39.4", Breaths: "62", Weight: "9.1",
	Treatment: "Amoxicillin 250 mg dispersible, first dose given; refer now", Note: "Chest indrawing, not able to drink.", Urgent: true}
