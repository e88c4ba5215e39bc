package fhir_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

func TestTopicsOfLabels(t *testing.T) {
	label := func(system, code string) string {
		return `{"system":"http://terminology.hl7.org/CodeSystem/` + system + `","code":"` + code + `"}`
	}
	restricted := label("v3-Confidentiality", "R")
	for name, x := range map[string]struct {
		meta string
		want fhir.Topics
	}{
		"no labels":                {`"tag":[` + restricted + `]`, 0},
		"a topic":                  {`"security":[` + label("v3-ActCode", "HIV") + `]`, fhir.TopicHIV},
		"two, and restricted":      {`"security":[` + restricted + `,` + label("v3-ActCode", "SUD") + `,` + label("v3-ActCode", "STD") + `]`, fhir.TopicMental | fhir.TopicSexual},
		"restricted":               {`"security":[` + restricted + `]`, fhir.AllTopics},
		"very restricted":          {`"security":[` + label("v3-Confidentiality", "V") + `]`, fhir.AllTopics},
		"restricted and unknown":   {`"security":[` + label("v3-ActCode", "VIP") + `,` + restricted + `]`, fhir.AllTopics},
		"normal":                   {`"security":[` + label("v3-Confidentiality", "N") + `]`, 0},
		"another system's code":    {`"security":[` + label("other", "HIV") + `]`, 0},
		"a name with escapes":      {`"\u0073ecurity":[` + label("v3-ActCode", "HIV") + `]`, fhir.TopicHIV},
		"labels of another number": {`"security":"R"`, 0},
	} {
		r, err := fhir.ParseResource([]byte(`{"resourceType":"Condition","meta":{` + x.meta + `},"subject":{"reference":"Patient/1"}}`))
		if err != nil {
			t.Fatal(name, err)
		}
		if got := r.Topics(); got != x.want {
			t.Errorf("%s: %v, want %v", name, got.Words(), x.want.Words())
		}
	}
}

// TestVisitOfATopic: each resource has the labels, but the allergy, and they are read again.
func TestVisitOfATopic(t *testing.T) {
	v := fhir.Visit{At: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), Problem: "other", ProblemOther: "x", Treatment: "y", Note: "z", Allergy: "a", Weight: "50", Topics: []string{"hiv", "mental"}}
	all, err := v.Resources(rand.Reader, "p1", "Amina")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		want := fhir.TopicHIV | fhir.TopicMental
		if r.Type == "AllergyIntolerance" {
			want = 0
		}
		if got := r.Topics(); got != want || want != 0 && !strings.Contains(string(r.JSON), `"code":"R"`) {
			t.Errorf("%s: %v, want %v", r.Type, got.Words(), want.Words())
		}
	}
	for _, words := range [][]string{{"gout"}, {"hiv", ""}, {"hiv", "hiv", "hiv", "hiv"}} {
		v.Topics = words
		if !slices.ContainsFunc(v.Validate(), func(e fhir.FieldError) bool { return e.Field == "topics" && !e.Soft }) {
			t.Errorf("%q are taken", words)
		}
	}
}
