package fhir_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

func codes(errs []fhir.FieldError) string {
	var out []string
	for _, e := range errs {
		out = append(out, e.Field+" "+e.Code)
	}
	return strings.Join(out, ", ")
}

func TestRegistrationValidate(t *testing.T) {
	good := fhir.Registration{Given: "Amina", Sex: "female", BirthDate: "2021-04"}
	for _, c := range []struct {
		change func(*fhir.Registration)
		want   string
	}{
		{func(*fhir.Registration) {}, ""},
		{func(r *fhir.Registration) { r.Given = " " }, "given error.required"},
		{func(r *fhir.Registration) { r.Sex = "" }, "sex error.required"},
		{func(r *fhir.Registration) { r.Sex = "f" }, "sex error.choice"},
		{func(r *fhir.Registration) { r.BirthDate = "2021-02-30" }, "birthDate error.date"},
		{func(r *fhir.Registration) { r.BirthDate = "1021" }, "birthDate error.date"},
		{func(r *fhir.Registration) { r.Village = strings.Repeat("é", 201) }, "village error.too-long"},
		{func(r *fhir.Registration) { r.Card = "a\x00" }, "card error.text"},
		{func(r *fhir.Registration) { r.Mother = "\xff" }, "mother error.text"},
	} {
		r := good
		c.change(&r)
		if got := codes(r.Validate()); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if _, err := r.Resources(rand.Reader); (err == nil) != (c.want == "") {
			t.Errorf("%q: Resources gives %v", c.want, err)
		}
	}
}

func TestRegistrationComesBack(t *testing.T) {
	want := fhir.Registration{Given: "Amina Grace", Family: "O'Kello <x> & \"y\"", Sex: "female", BirthDate: "2021", BirthEstimated: true,
		Village: "Kisanyu", Mother: "Rehema Okello", Phone: "0701234567", Card: "HP-1"}
	resources, err := want.Resources(rand.Reader)
	if err != nil || len(resources) != 1 {
		t.Fatal(err)
	}
	r := resources[0]
	if got := fhir.RegistrationOf(r); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if r.FullURL != "urn:uuid:"+r.ID || len(r.ID) != 36 {
		t.Errorf("id %q, full URL %q", r.ID, r.FullURL)
	}
}

func TestAmendKeepsWhatTheFormDoesNotKnow(t *testing.T) {
	raw := `{"resourceType":"Patient","id":"p","extension":[{"url":"u","valueDecimal":1.50}],"identifier":[{"system":"s","value":"v"}],` +
		`"name":[{"use":"nickname","given":["Mimi"]},{"use":"official","family":"Bello","given":["Amina"],"prefix":["Ms."]}],` +
		`"telecom":[{"system":"email","value":"a@b"},{"system":"phone","value":"1","use":"home"}],"gender":"female","birthDate":"2001-02-03",` +
		`"address":[{"line":["12 Road"],"city":"Here","country":"XX"}],"maritalStatus":{"text":"Never"}}`
	current, err := fhir.ParseResource([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	form := fhir.RegistrationOf(current)
	same, err := form.Amend(current)
	if err != nil || string(same.JSON) != raw {
		t.Errorf("nothing changed: %v, %s", err, same.JSON)
	}
	form.Family, form.Village, form.Phone, form.Card, form.BirthDate, form.BirthEstimated = "Sow", "There", "", "HP-9", "2001", true
	got, err := form.Amend(current)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"resourceType":"Patient","id":"p","extension":[{"url":"u","valueDecimal":1.50}],"identifier":[` +
		`{"system":"https://github.com/healthpost/healthpost/fhir/card","value":"HP-9"},{"system":"s","value":"v"}],` +
		`"name":[{"use":"nickname","given":["Mimi"]},{"use":"official","text":"Amina Sow","family":"Sow","given":["Amina"]}],` +
		`"telecom":[{"system":"email","value":"a@b"}],"gender":"female","birthDate":"2001",` +
		`"_birthDate":{"extension":[{"url":"https://github.com/healthpost/healthpost/fhir/birth-date-estimated","valueBoolean":true}]},` +
		`"address":[{"country":"XX","city":"There"}],"maritalStatus":{"text":"Never"}}`
	if !fhir.JSONEqual(got.JSON, []byte(want)) {
		t.Errorf("got  %s\nwant %s", got.JSON, want)
	}
	if back := fhir.RegistrationOf(got); back != form {
		t.Errorf("form reads %+v, want %+v", back, form)
	}
}

var visitTime = time.Date(2026, 3, 4, 10, 30, 0, 0, time.FixedZone("", 3*3600))

func TestVisitValidate(t *testing.T) {
	for _, c := range []struct {
		change func(*fhir.Visit)
		want   string
		hard   bool
	}{
		{func(*fhir.Visit) {}, "", false},
		{func(v *fhir.Visit) { v.Temperature = "38,5" }, "", false},
		{func(v *fhir.Visit) { v.Temperature = "٣٨٫٥" }, "", false},
		{func(v *fhir.Visit) { v.Temperature = "41.1" }, "temperature warning.unusual", false},
		{func(v *fhir.Visit) { v.Temperature = "385" }, "temperature error.range", true},
		{func(v *fhir.Visit) { v.Temperature = "warm" }, "temperature error.number", true},
		{func(v *fhir.Visit) { v.Weight = "-3" }, "weight error.number", true},
		{func(v *fhir.Visit) { v.SpO2 = "100.1" }, "spo2 error.range", true},
		{func(v *fhir.Visit) { v.Systolic = "120" }, "diastolic error.pair", true},
		{func(v *fhir.Visit) { v.Systolic, v.Diastolic = "90", "95" }, "systolic error.pressure", true},
		{func(v *fhir.Visit) { v.DangerSigns = []string{"convulsions", "convulsions"} }, "dangerSigns error.choice", true},
		{func(v *fhir.Visit) { v.RDT = "maybe" }, "rdt error.choice", true},
		{func(v *fhir.Visit) { v.Problem = "other" }, "problemOther error.required", true},
		{func(v *fhir.Visit) { v.Problem = "plague" }, "problem error.choice", true},
		{func(v *fhir.Visit) { v.ReturnIn = "2026-03-03" }, "returnIn error.date", true},
		{func(v *fhir.Visit) { v.ReturnIn = "0" }, "returnIn error.date", true},
		{func(v *fhir.Visit) { v.Note = strings.Repeat("a", 2001) }, "note error.too-long", true},
		{func(v *fhir.Visit) { v.Problem = "" }, "problem error.empty-form", true},
		{func(v *fhir.Visit) { v.At = time.Time{} }, "at error.date", true},
	} {
		v := fhir.Visit{At: visitTime, Problem: "fever"}
		c.change(&v)
		if got := codes(v.Validate()); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if _, err := v.Resources(rand.Reader, "p", ""); (err != nil) != c.hard {
			t.Errorf("%q: Resources gives %v", c.want, err)
		}
	}
}

func TestVisitResources(t *testing.T) {
	v := fhir.Visit{At: visitTime, DangerSigns: []string{"lethargic"}, Temperature: "38,50", Breaths: "52", Weight: "٩", MUAC: "112", Height: "71.0",
		Systolic: "90", Diastolic: "60", Pulse: "140", SpO2: "91", RDT: "positive", Problem: "malaria", Treatment: "Artesunate", Note: "Two\nlines",
		Advice: "Drink", ReturnIn: "2", Urgent: true, Allergy: "Penicillin"}
	resources, err := v.Resources(rand.Reader, "urn:uuid:"+idA, "Sister N")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	ids := map[string]bool{}
	for _, r := range resources {
		ids[r.ID] = true
		if got := r.SubjectReference(); got != "urn:uuid:"+idA {
			t.Errorf("%s: subject %q", r.Type, got)
		}
		if got := r.EncounterReference(); r.Type != "Encounter" && got != "urn:uuid:"+resources[0].ID {
			t.Errorf("%s: encounter %q", r.Type, got)
		}
		if o := r.Observation(); r.Type == "Observation" {
			values[o.Code.Text] = o.Value
		}
	}
	for code, want := range map[string]string{"Body temperature": "38.50 °C", "Body weight": "9 kg", "Body height": "71.0 cm",
		"Malaria rapid test": "Positive", "Note": "Two\nlines", "Advice": "Drink", "Heart rate": "140 /min"} {
		if values[code] != want {
			t.Errorf("%s: %q, want %q", code, values[code], want)
		}
	}
	e := resources[0].Encounter()
	if !e.Urgent || e.Author != "Sister N" || e.Start != "2026-03-04T10:30:00+03:00" || e.Reason.Code(fhir.SystemProblem) != "malaria" {
		t.Errorf("encounter %+v", e)
	}
	last := resources[len(resources)-1].ServiceRequest()
	if last.Occurrence != "2026-03-06" {
		t.Errorf("come back %q", last.Occurrence)
	}
	if len(ids) != len(resources) || len(resources) != 17 {
		t.Errorf("%d resources with %d ids", len(resources), len(ids))
	}
}

func TestVisitIsTheSameForTheSameRandomBytes(t *testing.T) {
	v := fhir.Visit{At: visitTime, Problem: "cough"}
	seed := bytes.Repeat([]byte{7}, 16)
	a, errA := v.Resources(bytes.NewReader(seed), "p", "")
	b, errB := v.Resources(bytes.NewReader(seed), "p", "")
	if errA != nil || errB != nil || string(a[1].JSON) != string(b[1].JSON) {
		t.Error("two runs differ")
	}
	if _, err := v.Resources(bytes.NewReader(nil), "p", ""); err == nil {
		t.Error("no random bytes, no error")
	}
}

func TestDecimal(t *testing.T) {
	for in, want := range map[string]string{"37.50": "37.50", "37,5": "37.5", "۳۷٫۵": "37.5", "३७": "37", "007": "7", "0.5": "0.5", "0": "0", "00": "0", " 5 ": "5",
		"": "", ".5": "", "5.": "", "1.2.3": "", "1e3": "", "-1": "", "12345678901234567890": "", "5kg": ""} {
		got, ok := fhir.Decimal(in)
		if got != want || ok != (want != "") {
			t.Errorf("Decimal(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
	for _, c := range []struct {
		a, b string
		want int
	}{{"9", "10", -1}, {"1.5", "1.50", 0}, {"0.3", "0.29", 1}, {"100", "100.1", -1}, {"0", "0.0", 0}, {"2.05", "2.5", -1}} {
		if got := fhir.CompareDecimal(c.a, c.b); got != c.want {
			t.Errorf("CompareDecimal(%s, %s) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
