package chart_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/chart"
)

func observed(t helper, id, code, value, when string) chart.Item {
	return chart.PutItem(resource(t, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"http://loinc.org","code":%q}]},`+
		`"subject":{"reference":"Patient/p"},"effectiveDateTime":%q,"valueString":%q}`, id, code, when, value)))
}

// TestEmergencyHoldsWhatIsNamedAndNothingElse: of a chart with everything in it.
func TestEmergencyHoldsWhatIsNamedAndNothingElse(t *testing.T) {
	var w writer
	w.add("A", chart.PutItem(resource(t, `{"resourceType":"Patient","id":"p","name":[{"family":"Bello"}],"telecom":[{"system":"phone","value":"0788 1"}],`+
		`"contact":[{"relationship":[{"text":"Mother"}],"name":{"text":"Odile"},"telecom":[{"system":"phone","value":"0788 2"}]}],"maritalStatus":{"text":"HIDDEN-1"}}`)))
	w.add("A", chart.PutItem(resource(t, `{"resourceType":"RelatedPerson","id":"r","patient":{"reference":"Patient/p"},"name":[{"text":"Samuel"}],"telecom":[{"system":"phone","value":"0788 3"}]}`)))
	w.add("A", allergy(t, "a1", "Penicillin", "active"), allergy(t, "a2", "HIDDEN-2", "resolved"))
	w.add("A", chart.PutItem(resource(t, `{"resourceType":"Condition","id":"c1","clinicalStatus":{"coding":[{"code":"active"}]},"code":{"text":"Epilepsy"},"subject":{"reference":"Patient/p"},"note":[{"text":"HIDDEN-3"}]}`)),
		chart.PutItem(resource(t, `{"resourceType":"Condition","id":"c2","clinicalStatus":{"coding":[{"code":"resolved"}]},"code":{"text":"HIDDEN-4"},"subject":{"reference":"Patient/p"}}`)))
	w.add("A", chart.PutItem(resource(t, `{"resourceType":"MedicationRequest","id":"m1","status":"active","intent":"order","medicationCodeableConcept":{"text":"Phenytoin"},"subject":{"reference":"Patient/p"}}`)),
		chart.PutItem(resource(t, `{"resourceType":"MedicationRequest","id":"m2","status":"completed","intent":"order","medicationCodeableConcept":{"text":"HIDDEN-5"},"subject":{"reference":"Patient/p"}}`)))
	w.add("A", observed(t, "o1", "882-1", "O positive", "2025-01-01"), observed(t, "o2", "882-1", "O positive", "2026-01-01"), observed(t, "o3", "882-1", "A positive", "2024-01-01"),
		observed(t, "o4", "82810-3", "not pregnant", "2024-01-01"), observed(t, "o5", "82810-3", "pregnant", "2026-06-01"), observed(t, "o6", "34109-9", "HIDDEN-6", "2026-06-01"))
	w.add("A", chart.PutItem(resource(t, `{"resourceType":"Immunization","id":"i1","status":"completed","vaccineCode":{"text":"HIDDEN-7"},"patient":{"reference":"Patient/p"},"occurrenceDateTime":"2026-01-01"}`)))
	c := chart.Fold(w.records)
	e := c.Emergency()
	text := fmt.Sprintf("%+v", e)
	for _, want := range []string{"Penicillin", "Epilepsy", "Phenytoin", "0788 1", "Odile", "0788 2", "Samuel"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in the summary", want)
		}
	}
	if strings.Contains(text, "HIDDEN") {
		t.Errorf("what is no part of the summary is in it: %s", text)
	}
	if len(e.Blood) != 2 || e.Blood[0].Value != "O positive" || e.Blood[1].Value != "A positive" {
		t.Errorf("two blood groups that differ: %+v", e.Blood)
	}
	if len(e.Pregnancy) != 1 || e.Pregnancy[0].Value != "pregnant" {
		t.Errorf("the newest word on a pregnancy: %+v", e.Pregnancy)
	}
}
