package chart_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

const hivLabel = `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]},`

// said is a record of resources.
func said(t *testing.T, n byte, seq uint64, resources ...string) chart.Opened {
	t.Helper()
	var items []chart.Item
	for _, text := range resources {
		r, err := fhir.ParseResource([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, chart.PutItem(r))
	}
	return chart.Opened{RID: record.RID{n}, Seq: seq, Ordered: true, Body: chart.Body{Items: items}}
}

// mixed is a chart of which a visit, an order in another visit and a restricted note are kept apart.
func mixed(t *testing.T) []chart.Opened {
	patient, in := `"subject":{"reference":"Patient/p"}`, func(e string) string { return `"encounter":{"reference":"Encounter/` + e + `"}` }
	return []chart.Opened{
		said(t, 1, 1, `{"resourceType":"Patient","id":"p",`+hivLabel+`"name":[{"family":"Nakato"}]}`),
		said(t, 2, 2, `{"resourceType":"Encounter","id":"open","status":"finished","class":{"code":"AMB"},`+patient+`}`,
			`{"resourceType":"Condition","id":"c1","code":{"text":"fever"},`+patient+`,`+in("open")+`}`,
			`{"resourceType":"MedicationRequest","id":"m1",`+hivLabel+`"status":"active","intent":"order","medicationReference":{"reference":"Medication/m"},`+patient+`,`+in("open")+`}`,
			`{"resourceType":"Medication","id":"m","code":{"text":"nevirapine"}}`),
		said(t, 3, 3, `{"resourceType":"Encounter","id":"hiv",`+hivLabel+`"status":"finished","class":{"code":"AMB"},`+patient+`}`,
			`{"resourceType":"Condition","id":"c2","code":{"text":"wasting"},`+patient+`,`+in("hiv")+`}`, // without a label of its own
			`{"resourceType":"AllergyIntolerance","id":"a","code":{"text":"abacavir"},"patient":{"reference":"Patient/p"},`+in("hiv")+`}`),
		said(t, 4, 4, `{"resourceType":"Observation","id":"o","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]},"status":"final","code":{"text":"note"},`+patient+`}`),
	}
}

func TestTopicsAreKeptApart(t *testing.T) {
	whole := chart.Fold(mixed(t))
	if whole.Topics() != fhir.AllTopics || len(whole.Lines) != 9 {
		t.Fatalf("topics %v, %d lines", whole.Topics().Words(), len(whole.Lines))
	}
	for name, x := range map[string]struct {
		sight                          chart.Sight
		visits, problems, medicines    int
		observations, allergies, lines int
	}{
		"nothing":           {chart.Sight{}, 1, 1, 0, 0, 1, 4},
		"another topic":     {chart.Sight{Topics: fhir.TopicMental}, 1, 1, 0, 0, 1, 4},
		"medicines":         {chart.Sight{Medicines: fhir.TopicHIV}, 1, 1, 1, 0, 1, 6},
		"HIV":               {chart.Sight{Topics: fhir.TopicHIV}, 2, 2, 1, 0, 1, 8},
		"everything":        {chart.Sight{Topics: fhir.AllTopics}, 2, 2, 1, 1, 1, 9},
		"all but one topic": {chart.Sight{Topics: fhir.TopicHIV | fhir.TopicSexual}, 2, 2, 1, 0, 1, 8},
	} {
		got := whole.Seen(x.sight)
		if len(got.Visits) != x.visits || len(got.Problems) != x.problems || len(got.Medicines) != x.medicines || len(got.Observations) != x.observations ||
			len(got.Allergies) != x.allergies || len(got.Lines) != x.lines || got.Patient == nil {
			t.Errorf("who sees %s: %d visits, %d problems, %d medicines, %d observations, %d allergies, %d lines", name, len(got.Visits), len(got.Problems),
				len(got.Medicines), len(got.Observations), len(got.Allergies), len(got.Lines))
		}
		if _, found := got.Find("Encounter/hiv"); found != (x.visits == 2) {
			t.Errorf("who sees %s: the visit is found: %v", name, found)
		}
		if again := got.Seen(x.sight); !reflect.DeepEqual(again.Lines, got.Lines) {
			t.Errorf("who sees %s: another chart the second time", name)
		}
		if hides := whole.Hides(x.sight, record.RID{3}); hides != (x.visits == 1) {
			t.Errorf("who sees %s: the record of the visit is hidden: %v", name, hides)
		}
		if sum := got.Emergency(); len(sum.Allergies) != 1 || len(sum.Medicines) != x.medicines || len(sum.Problems) != x.problems {
			t.Errorf("who sees %s: the summary %+v", name, sum)
		}
	}
}

// TestTopicsStay: what was once labelled stays apart, whatever version without labels comes, in any order,
// and so does what was withdrawn.
func TestTopicsStay(t *testing.T) {
	records := mixed(t)
	bare := said(t, 5, 5, `{"resourceType":"Encounter","id":"hiv","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p"}}`)
	bare.Body.Items[0].Base = []chart.Ref{chart.RefOf(record.RID{3}, 0)}
	gone := chart.Opened{RID: record.RID{6}, Seq: 6, Ordered: true, Body: chart.Body{Items: []chart.Item{
		{Op: chart.OpRetract, Type: "Condition", ID: "c2", Base: []chart.Ref{chart.RefOf(record.RID{3}, 1)}}}}}
	for name, all := range map[string][]chart.Opened{
		"amended":   append(slices.Clone(records), bare),
		"in two":    append(slices.Clone(records), said(t, 7, 7, string(bare.Body.Items[0].JSON))),
		"withdrawn": append(slices.Clone(records), bare, gone),
		"backwards": {gone, bare, records[3], records[2], records[1], records[0]},
	} {
		whole := chart.Fold(all)
		got := whole.Seen(chart.Sight{Topics: fhir.TopicMental | fhir.TopicSexual, Medicines: fhir.AllTopics})
		var text strings.Builder
		for _, l := range got.Lines {
			for _, v := range slices.Concat(l.Heads, l.Past, []chart.Version{l.Shown}) {
				text.Write(v.Resource.JSON)
			}
		}
		if strings.Contains(text.String(), "wasting") || strings.Contains(text.String(), `"id":"hiv"`) || len(got.Visits) != 1 || len(got.Conflicts)+len(got.Retracted) != 0 {
			t.Errorf("%s: %d visits, %d withdrawn", name, len(got.Visits), len(got.Retracted))
		}
	}
}

// TestContentOfHiddenItems: a record's attachments are found only by what of it is in sight.
func TestContentOfHiddenItems(t *testing.T) {
	r := mixed(t)[2]
	hash := fhir.HashContent([]byte("a photo"))
	r.Body.Blobs = []chart.Blob{{Hash: hash}}
	whole := chart.Fold([]chart.Opened{mixed(t)[0], r})
	if _, ok := whole.Blob(hash); !ok {
		t.Fatal("the content is not found at all")
	}
	seen := whole.Seen(chart.Sight{})
	if _, ok := seen.Blob(hash); ok || len(seen.Allergies) != 1 {
		t.Errorf("found by the allergy of the same record: %v, %d allergies", ok, len(seen.Allergies))
	}
}
