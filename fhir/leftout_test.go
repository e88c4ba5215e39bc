package fhir_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
)

// TestLeftOutIsSaid: what a file lacks is one resource of R4, with counts, a code of the standard and words; taken in, it
// is nobody's record, and the report says so, other than of somebody else's.
func TestLeftOutIsSaid(t *testing.T) {
	r, err := fhir.LeftOutResource([]fhir.LeftOut{
		fhir.LeftOutOf(fhir.LeftClosed, 2, 5, "treatment"), fhir.LeftOutOf(fhir.LeftSealed, 0, 1, "treatment"), fhir.LeftOutOf(fhir.LeftUnread, 0, 3, "treatment")})
	if err != nil {
		t.Fatal(err)
	}
	text := string(r.JSON)
	for _, want := range []string{`"code":"suppressed"`, `"code":"incomplete"`, `"diagnostics":"charts=2 entries=5"`, `"text":"2 charts with 5 entries are left out: what the patient decided`, `"text":"1 entry is left out: sealed with keys`, `"text":"3 entries are left out: the box`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	other := `{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"suppressed"}]}`
	b, err := fhir.ReadNDJSON(strings.NewReader(text+"\n"+other+"\n"), 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	plan := fhir.Plan(b, func(string) (string, bool) { return "", false })
	if len(plan.Refused) != 2 || !strings.Contains(plan.Refused[0].Reason, "left out where the file was made") || strings.Contains(plan.Refused[1].Reason, "left out") || len(plan.Saves) != 0 {
		t.Errorf("taken in: %d saves, refused %+v", len(plan.Saves), plan.Refused)
	}
}
