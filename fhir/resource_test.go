package fhir_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
)

func TestParseResourceKeepsTheBytes(t *testing.T) {
	object := `{ "resourceType" : "Observation", "id":"a-1.b", "status":"final",` + "\n" + ` "code":{"text":"\u0041b"}, "valueQuantity":{"value":1.50} }`
	r, err := fhir.ParseResource([]byte(" \n" + object + "\t"))
	if err != nil {
		t.Fatal(err)
	}
	if string(r.JSON) != object || r.Type != "Observation" || r.ID != "a-1.b" {
		t.Errorf("got %q %q %q", r.Type, r.ID, r.JSON)
	}
	if got := r.Observation().Quantity.Value; got != "1.50" {
		t.Errorf("value %q, want 1.50", got)
	}
}

func TestParseResourceAccepts(t *testing.T) {
	for name, raw := range map[string]string{
		"null beside an extension":  `{"resourceType":"Patient","name":[{"given":["A",null],"_given":[null,{"extension":[{"url":"u","valueCode":"x"}]}]}]}`,
		"primitive by extension":    `{"resourceType":"Patient","_birthDate":{"extension":[{"url":"u","valueBoolean":true}]}}`,
		"required by extension":     `{"resourceType":"Encounter","_status":{"extension":[{"url":"u","valueCode":"x"}]},"class":{"code":"AMB"}}`,
		"contained":                 `{"resourceType":"Condition","contained":[{"resourceType":"Practitioner","id":"p"}],"subject":{"reference":"Patient/1"}}`,
		"exponent":                  `{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":-1.20e-5}}`,
		"year":                      `{"resourceType":"Patient","birthDate":"1970"}`,
		"leap second":               `{"resourceType":"Observation","status":"final","code":{"text":"x"},"issued":"2016-12-31T23:59:60Z"}`,
		"emoji and surrogate pairs": `{"resourceType":"Patient","name":[{"text":"😀 \ud83d\ude00"}]}`,
	} {
		if _, err := fhir.ParseResource([]byte(raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseResourceNamesTheElement(t *testing.T) {
	for _, c := range []struct{ name, raw, element string }{
		{"no JSON", `{"resourceType":"Patient"`, ""},
		{"trailing", `{"resourceType":"Patient"} {}`, ""},
		{"array", `[]`, ""},
		{"not UTF-8", "{\"resourceType\":\"Patient\",\"gender\":\"\xff\"}", ""},
		{"no type", `{"id":"1"}`, "resourceType"},
		{"unknown type", `{"resourceType":"Patience"}`, "resourceType"},
		{"name twice", `{"resourceType":"Patient","name":[{"family":"a","f\u0061mily":"b"}]}`, "name[0].family"},
		{"id", `{"resourceType":"Patient","id":"a_b"}`, "Patient.id"},
		{"id too long", `{"resourceType":"Patient","id":"` + strings.Repeat("a", 65) + `"}`, "Patient.id"},
		{"null", `{"resourceType":"Patient","gender":null}`, "Patient.gender"},
		{"null in list", `{"resourceType":"Patient","name":[{"given":["a",null]}]}`, "Patient.name[0].given[1]"},
		{"empty string", `{"resourceType":"Patient","name":[{"family":""}]}`, "Patient.name[0].family"},
		{"empty object", `{"resourceType":"Patient","name":[{}]}`, "Patient.name[0]"},
		{"empty list", `{"resourceType":"Patient","name":[]}`, "Patient.name"},
		{"list in list", `{"resourceType":"Patient","name":[[{"family":"a"}]]}`, "Patient.name[0]"},
		{"element name", `{"resourceType":"Patient","na me":"x"}`, "Patient.na me"},
		{"two values", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueString":"a","valueInteger":1}`, "Observation.valueString"},
		{"number as text", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":"1"}}`, "Observation.valueQuantity.value"},
		{"no such day", `{"resourceType":"Patient","birthDate":"2023-02-29"}`, "Patient.birthDate"},
		{"no zone", `{"resourceType":"Immunization","status":"completed","vaccineCode":{"text":"x"},"patient":{"reference":"Patient/1"},"occurrenceDateTime":"2020-01-01T10:00:00"}`, "Immunization.occurrenceDateTime"},
		{"required", `{"resourceType":"Observation","status":"final"}`, "Observation.code"},
		{"required choice", `{"resourceType":"MedicationRequest","status":"active","intent":"order","subject":{"reference":"Patient/1"}}`, "MedicationRequest.medication[x]"},
		{"code", `{"resourceType":"Patient","gender":"f"}`, "Patient.gender"},
		{"kind", `{"resourceType":"Patient","name":{"family":"a"}}`, "Patient.name"},
		{"extension without url", `{"resourceType":"Patient","extension":[{"valueCode":"x"}]}`, "Patient.extension[0].url"},
		{"contained in contained", `{"resourceType":"Patient","contained":[{"resourceType":"Patient","contained":[{"resourceType":"Patient"}]}]}`, "Patient.contained[0].contained[0]"},
		{"fault in contained", `{"resourceType":"Patient","contained":[{"resourceType":"Patient","gender":7}]}`, "Patient.contained[0].gender"},
		{"lone surrogate", `{"resourceType":"Patient","name":[{"family":"\ud83d"}]}`, "name[0].family"},
		{"control character", `{"resourceType":"Patient","name":[{"family":"\u0007"}]}`, "Patient.name[0].family"},
		{"leading zero", `{"resourceType":"Patient","multipleBirthInteger":01}`, "multipleBirthInteger"},
	} {
		_, err := fhir.ParseResource([]byte(c.raw))
		var e *fhir.ResourceError
		if !errors.As(err, &e) {
			t.Errorf("%s: error %v, want a ResourceError", c.name, err)
			continue
		}
		if e.Element != c.element {
			t.Errorf("%s: element %q, want %q (%s)", c.name, e.Element, c.element, e.Reason)
		}
	}
}

func TestParseResourceBoundsDepthAndSize(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(`{"resourceType":"Patient","extension":[` + strings.Repeat(`{"url":"u","extension":[`, n) + `{"url":"u","valueCode":"x"}` +
			strings.Repeat(`]}`, n) + `]}`)
	}
	if _, err := fhir.ParseResource(nested(14)); err != nil {
		t.Errorf("31 levels: %v", err)
	}
	if _, err := fhir.ParseResource(nested(15)); err == nil {
		t.Error("accepted 33 levels")
	}
	raw := `{"resourceType":"Patient","name":[{"text":"` + strings.Repeat("a", fhir.ResourceSizeMax) + `"}]}`
	if _, err := fhir.ParseResource([]byte(raw)); err == nil {
		t.Error("accepted more than ResourceSizeMax")
	}
}

func TestJSONEqual(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[true,null]}`, ` { "b" : [ true , null ] , "a" : 1 } `, true},
		{`{"a":1.50}`, `{"a":1.5}`, false},
		{`{"a":1e2}`, `{"a":100}`, false},
		{`"\u0041"`, `"A"`, true},
		{`[1,2]`, `[2,1]`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"c":2}`, `{"a":1,"b":2}`, false},
		{`{"a":null}`, `{"b":null}`, false},
		{`1`, `"1"`, false},
		{`{`, `{`, false},
	} {
		if got := fhir.JSONEqual([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("JSONEqual(%s, %s) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestKnownTypes(t *testing.T) {
	for _, typ := range []string{"Account", "Patient", "Observation", "VisionPrescription", "SubstanceReferenceInformation"} {
		if !fhir.KnownType(typ) {
			t.Errorf("%s is not known", typ)
		}
	}
	for _, typ := range []string{"", "Resource", "DomainResource", "patient", "ResearchDefinitions", "NutritionProduct"} {
		if fhir.KnownType(typ) {
			t.Errorf("%s is known", typ)
		}
	}
}
