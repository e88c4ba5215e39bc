package fhir_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
)

const (
	idA = "11111111-1111-4111-8111-111111111111"
	idB = "22222222-2222-4222-8222-222222222222"
)

// bundleOf makes a Bundle of entries given as "fullUrl resource".
func bundleOf(t *testing.T, entries ...string) fhir.Bundle {
	t.Helper()
	var out []string
	for _, e := range entries {
		full, resource, _ := strings.Cut(e, " ")
		if full == "-" {
			out = append(out, `{"resource":`+resource+`}`)
		} else {
			out = append(out, fmt.Sprintf(`{"fullUrl":%q,"resource":%s}`, full, resource))
		}
	}
	b, err := fhir.ReadBundle(strings.NewReader(`{"resourceType":"Bundle","type":"batch","entry":[`+strings.Join(out, ",")+`]}`), 4<<20)
	if err != nil || len(b.Refused) > 0 {
		t.Fatalf("making bundle: %v, %v", err, b.Refused)
	}
	return b
}

func observation(id, rest string) string {
	return fmt.Sprintf(`- {"resourceType":"Observation","id":%q,"status":"final","code":{"text":"x"}%s}`, id, rest)
}

// layout writes a plan as "patient/encounter: resources" lines.
func layout(im fhir.Import) string {
	var lines []string
	for _, s := range im.Saves {
		var names []string
		for _, r := range s.Resources {
			names = append(names, r.Name())
		}
		who := "directory"
		if s.Patient >= 0 {
			who = fmt.Sprint(s.Patient, im.Patients[s.Patient].Known)
		}
		lines = append(lines, strings.TrimSpace(who+" "+s.Encounter)+": "+strings.Join(names, " "))
	}
	return strings.Join(lines, "\n")
}

func TestPlanFollowsEveryKindOfReference(t *testing.T) {
	b := bundleOf(t,
		observation("by-urn", `,"subject":{"reference":"urn:uuid:`+strings.ToUpper(idA)+`"},"encounter":{"reference":"Encounter/e1"}`),
		"urn:uuid:"+idA+` {"resourceType":"Patient","id":"`+idA+`","identifier":[{"system":"http://id","value":"7"}]}`,
		"http://a.example/fhir/Patient/b "+`{"resourceType":"Patient","id":"b"}`,
		`- {"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient?identifier=http%3A%2F%2Fid%7C7"}}`,
		observation("by-conditional", `,"subject":{"reference":"Patient?identifier=http://id|7"}`),
		observation("by-identifier", `,"subject":{"identifier":{"system":"http://id","value":"7"}}`),
		observation("by-relative", `,"subject":{"reference":"Patient/b/_history/3"}`),
		observation("by-url", `,"subject":{"reference":"http://a.example/fhir/Patient/b"},"encounter":{"reference":"Encounter/e1"}`),
		observation("elsewhere", `,"subject":{"reference":"Patient/c"}`),
		`- {"resourceType":"Provenance","id":"pr","target":[{"reference":"Observation/by-url"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}`,
		`- {"resourceType":"Organization","id":"o"}`,
		`- {"resourceType":"Provenance","id":"po","target":[{"reference":"Organization/o"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}`,
		`- {"resourceType":"Device","id":"d","patient":{"reference":"Patient/b"}}`,
		`- {"resourceType":"Claim","id":"cl","status":"active","type":{"text":"x"},"use":"claim","patient":{"reference":"urn:uuid:`+idA+`"},"created":"2020",`+
			`"provider":{"reference":"Organization?identifier=s|v"},"priority":{"text":"x"},"insurance":[{"sequence":1}],"item":[{"sequence":1,"encounter":[{"reference":"Encounter/e1"}]}]}`,
	)
	im := fhir.Plan(b, func(ref string) (string, bool) { return "box-patient", ref == "Patient/c" })
	checkPlan(t, b, im)
	want := strings.Join([]string{
		"directory: Organization/o Provenance/po",
		"0: Patient/" + idA + " Observation/by-conditional Observation/by-identifier",
		"0 Encounter/e1: Encounter/e1 Observation/by-urn Claim/cl",
		"1: Patient/b Observation/by-relative Observation/by-url Provenance/pr Device/d",
		"2box-patient: Observation/elsewhere",
	}, "\n")
	if got := layout(im); got != want || len(im.Refused) > 0 {
		t.Errorf("plan:\n%s\nwant:\n%s\nrefused %v", got, want, im.Refused)
	}
	if got, want := im.Patients[0].Names, []string{"urn:uuid:" + idA, "Patient/" + idA, "Patient?identifier=http://id|7"}; !reflect.DeepEqual(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}

func TestPlanRefusesWhatHasNoOnePatient(t *testing.T) {
	patients := []string{`- {"resourceType":"Patient","id":"a"}`, `- {"resourceType":"Patient","id":"b"}`}
	for name, entry := range map[string]string{
		"unknown":   observation("x", `,"subject":{"reference":"Patient/zz"}`),
		"urn":       observation("x", `,"subject":{"reference":"urn:uuid:`+idB+`"}`),
		"nobody":    observation("x", ``),
		"contained": `- {"resourceType":"Observation","id":"x","contained":[{"resourceType":"Patient","id":"p"}],"status":"final","code":{"text":"x"},"subject":{"reference":"#p"}}`,
		"two":       `- {"resourceType":"Account","id":"x","status":"active","subject":[{"reference":"Patient/a"},{"reference":"Patient/b"}]}`,
		"group":     `- {"resourceType":"Group","id":"x","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/a"}}]}`,
		"circle":    `- {"resourceType":"Basic","id":"x","code":{"text":"x"},"subject":{"reference":"Basic/x"}}`,
	} {
		b := bundleOf(t, append(patients, entry)...)
		im := fhir.Plan(b, nobody)
		checkPlan(t, b, im)
		if len(im.Refused) != 1 || !strings.HasSuffix(im.Refused[0].Resource, "/x") || im.Refused[0].Reason == "" {
			t.Errorf("%s: refused %v", name, im.Refused)
		}
	}
}

func TestPlanKnowsPatientsOfTheBox(t *testing.T) {
	b := bundleOf(t, "urn:uuid:"+idA+` {"resourceType":"Patient","identifier":[{"system":"s","value":"v"}]}`,
		observation("o", `,"subject":{"reference":"urn:uuid:`+idA+`"}`))
	im := fhir.Plan(b, func(ref string) (string, bool) { return "known", ref == "Patient?identifier=s|v" })
	if len(im.Patients) != 1 || im.Patients[0].Known != "known" || len(im.Saves) != 1 {
		t.Errorf("%+v", im)
	}
	names := map[string]string{"urn:uuid:" + idA: "one", "Patient?identifier=s|v": "another"}
	im = fhir.Plan(b, func(ref string) (string, bool) { k, ok := names[ref]; return k, ok })
	if len(im.Saves) != 0 || len(im.Refused) != 2 {
		t.Errorf("a Patient that means two of the box: %+v", im)
	}
}

func TestPlanSplitsSaves(t *testing.T) {
	entries := []string{}
	for i := range 1100 {
		entries = append(entries, observation(fmt.Sprint("o", i), `,"subject":{"reference":"Patient/a"}`))
	}
	for i := range 5 {
		entries = append(entries, observation(fmt.Sprint("big", i), `,"subject":{"reference":"Patient/a"},"valueString":"`+strings.Repeat("x", 100<<10)+`"`))
	}
	b := bundleOf(t, append(entries, `- {"resourceType":"Patient","id":"a"}`)...)
	im := fhir.Plan(b, nobody)
	checkPlan(t, b, im)
	if len(im.Refused) > 0 || len(im.Saves) != 7 || im.Saves[0].Resources[0].Type != "Patient" || im.Saves[6].Part != 6 {
		t.Errorf("%d saves, %d refused", len(im.Saves), len(im.Refused))
	}
	if again := fhir.Plan(b, nobody); !reflect.DeepEqual(im, again) {
		t.Error("two plans of one bundle differ")
	}
}

func TestPlanOfRealFiles(t *testing.T) {
	patients := 0
	for name, raw := range bundles(t) {
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		im := fhir.Plan(b, nobody)
		checkPlan(t, b, im)
		if len(im.Refused) > 0 {
			t.Errorf("%s: refused %v", name, im.Refused)
		}
		encounters := map[string]bool{}
		for _, s := range im.Saves {
			if s.Encounter != "" && encounters[s.Encounter] != (s.Part > 0) {
				t.Errorf("%s: %s part %d", name, s.Encounter, s.Part)
			}
			encounters[s.Encounter] = s.Encounter != ""
		}
		if got, want := len(encounters), bytes.Count(raw, []byte(`"resourceType": "Encounter"`)); got < want {
			t.Errorf("%s: %d saves for %d encounters", name, got, want)
		}
		patients += len(im.Patients)
	}
	if patients != 5 {
		t.Errorf("%d patients, want 5", patients)
	}
}
