package fhir_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

const decisionID = "00112233445566778899aabbccddeeff"

func TestConsentComesBack(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	treat := []string{"treatment"}
	boxes := []fhir.ConsentBox{{ID: strings.Repeat("b1", 32), Name: "Soroti"}}
	for name, c := range map[string]fhir.Consent{
		"a limit":               {Active: true, Deny: true, Boxes: boxes},
		"a limit of nobody":     {Active: true, Deny: true},
		"a limit of topics":     {Active: true, Deny: true, Boxes: boxes, Topics: fhir.TopicHIV | fhir.TopicMental},
		"a permission":          {Active: true, Boxes: boxes, Until: at.AddDate(0, 0, 7), Purposes: treat},
		"one of a topic":        {Active: true, Boxes: boxes, Topics: fhir.TopicSexual, Purposes: treat},
		"one for other things":  {Active: true, Boxes: boxes, Purposes: fhir.PurposeWords()},
		"one without end":       {Active: true, Boxes: boxes, Purposes: treat},
		"one for all, which is": {Boxes: nil, Purposes: []string{"research"}},
	} {
		c.ID, c.Privacy, c.At = decisionID, true, at
		r, err := c.Resource("p1")
		if err != nil {
			t.Fatal(err)
		}
		got, exact := r.Consent()
		if !exact || !reflect.DeepEqual(got, c) {
			t.Errorf("%s: %+v came back as %+v, exact %v", name, c, got, exact)
		}
		b, err := fhir.ReadBundle(bytes.NewReader([]byte(`{"resourceType":"Bundle","type":"collection","entry":[{"resource":{"resourceType":"Patient","id":"p1"}},{"resource":`+string(r.JSON)+`}]}`)), 1<<18)
		if err != nil {
			t.Fatal(err)
		}
		if plan := fhir.Plan(b, func(string) (string, bool) { return "", false }); len(plan.Refused) != 0 {
			t.Errorf("%s: not taken: %+v", name, plan.Refused)
		}
	}
	if _, err := (fhir.Consent{ID: decisionID, Purposes: []string{"profit"}}).Resource("p1"); err == nil {
		t.Error("a permission for nothing was built")
	}
	if _, err := (fhir.Consent{ID: "1234", Purposes: treat}).Resource("p1"); err == nil {
		t.Error("an id of four digits was taken")
	}
}

// TestConsentOfOthersIsNotExact: whatever a permission says besides could restrict it.
func TestConsentOfOthersIsNotExact(t *testing.T) {
	c := fhir.Consent{ID: decisionID, Active: true, Privacy: true, Purposes: []string{"treatment"}, At: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
	r, err := c.Resource("p1")
	if err != nil {
		t.Fatal(err)
	}
	for old, now := range map[string]string{
		`"TREAT"`:           `"HMARKT"`,
		`"type":"permit"`:   `"type":"permit","action":[{"text":"look"}]`,
		`"purpose":[`:       `"securityLabel":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"MH"}],"purpose":[`,
		`"type":"permit",`:  `"type":"permit","period":{"start":"2026-01-01"},`,
		`"status":"active"`: `"status":"active","modifierExtension":[{"url":"http://example.org/not","valueBoolean":true}]`,
	} {
		changed := strings.Replace(string(r.JSON), old, now, 1)
		x, err := fhir.ParseResource([]byte(changed))
		if err != nil || changed == string(r.JSON) {
			t.Fatalf("%s: %v", now, err)
		}
		if _, exact := x.Consent(); exact {
			t.Errorf("%s is passed over", now)
		}
	}
}
