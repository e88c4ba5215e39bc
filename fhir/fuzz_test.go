package fhir_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/test/fuzz"
)

// touch reads every view: none may panic on anything that was accepted.
func touch(r fhir.Resource) {
	_, _, _, _ = r.Patient(), r.Encounter(), r.Observation(), r.Condition()
	_, _, _, _ = r.MedicationRequest(), r.AllergyIntolerance(), r.Immunization(), r.ServiceRequest()
	_, _, _, _ = r.Summarise(), r.ReferenceTexts(), r.EncounterReference(), r.SubjectReference()
	_ = fhir.ReferenceNames(r)
	_ = r.Topics()
	_, _ = r.Consent() // any answer will do: it must not panic
	form := fhir.RegistrationOf(r)
	form.Village = "Elsewhere"
	_, _ = form.Amend(r)
}

func FuzzParseResource(f *testing.F) {
	for _, raw := range bundles(f) {
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range b.Entries {
			if !seen[e.Resource.Type] && len(e.Resource.JSON) < 8<<10 {
				f.Add(e.Resource.JSON)
			}
			seen[e.Resource.Type] = true
		}
	}
	f.Add([]byte(`{"resourceType":"Patient","name":[{"given":["A",null],"_given":[null,{"id":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzz.Bounded(t, len(raw), func() { fhir.ParseResource(raw) })
		r, err := fhir.ParseResource(raw)
		if err != nil {
			return
		}
		if !json.Valid(r.JSON) {
			t.Fatal("accepted what encoding/json refuses")
		}
		if !fhir.KnownType(r.Type) || !bytes.Contains(raw, r.JSON) {
			t.Fatal("header or bytes changed")
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, r.JSON); err != nil {
			t.Fatal(err)
		}
		if !fhir.JSONEqual(r.JSON, compact.Bytes()) {
			t.Fatal("white space changed the value")
		}
		if again, err := fhir.ParseResource(compact.Bytes()); err != nil || again.ID != r.ID {
			t.Fatalf("compact form: %v", err)
		}
		touch(r)
	})
}

func FuzzReadBundle(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:9b1d0b3e-0000-4000-8000-000000000001",` +
		`"resource":{"resourceType":"Patient","identifier":[{"system":"s","value":"v"}]},"request":{"method":"POST","url":"Patient"}},` +
		`{"resource":{"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient?identifier=s|v"}}},` +
		`{"resource":{"resourceType":"Provenance","target":[{"reference":"Encounter/e"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}}]}`))
	f.Add([]byte(`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Organization","id":"o"}},{"request":{"method":"GET","url":"x"}}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzz.Bounded(t, len(raw), func() { fhir.ReadBundle(bytes.NewReader(raw), 1<<18) })
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<18)
		if err != nil {
			return
		}
		checkPlan(t, b, fhir.Plan(b, nobody))
		checkPlan(t, b, fhir.Plan(b, func(ref string) (string, bool) { return "somebody", len(ref)%2 == 0 }))
	})
}

// checkPlan holds what every plan must: each entry in exactly one save or refusal, saves of one patient within their limits.
func checkPlan(t testing.TB, b fhir.Bundle, im fhir.Import) {
	t.Helper()
	n := 0
	for _, s := range im.Saves {
		size := 0
		for _, r := range s.Resources {
			size += len(r.JSON) + len(r.FullURL)
		}
		if len(s.Resources) == 0 || len(s.Resources) > fhir.SaveResourcesMax || size > fhir.SaveSizeMax && len(s.Resources) > 1 {
			t.Errorf("save of %d resources, %d bytes", len(s.Resources), size)
		}
		if s.Patient != fhir.NoPatient && (s.Patient < 0 || s.Patient >= len(im.Patients)) {
			t.Errorf("save of patient %d of %d", s.Patient, len(im.Patients))
		}
		n += len(s.Resources)
	}
	if want := len(b.Entries) + len(b.Refused); n+len(im.Refused) != want {
		t.Errorf("%d saved and %d refused of %d entries", n, len(im.Refused), want)
	}
}
