package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/web"
)

// events are the access log as it is exported, by the action of the rules.
func (c *clinic) events() map[string][]fhir.Resource {
	c.t.Helper()
	var out bytes.Buffer
	if _, err := c.n.ExportAccess(c.t.Context(), &out); err != nil {
		c.t.Fatal(err)
	}
	all := map[string][]fhir.Resource{}
	for line := range strings.Lines(out.String()) {
		r, err := fhir.ParseResource([]byte(line))
		if err != nil {
			c.t.Fatalf("%v: %s", err, line)
		}
		var e struct {
			Subtype []struct{ System, Code string }
		}
		if err := json.Unmarshal(r.JSON, &e); err != nil {
			c.t.Fatal(err)
		}
		for _, s := range e.Subtype {
			if s.System == fhir.SystemAction {
				all[s.Code] = append(all[s.Code], r)
			}
		}
	}
	return all
}

// TestAccessLogAsAuditEvents: every line comes out once, before and after it is in a record, with the
// person, the rule and the patient; emergencies with both persons; that it was taken out as well.
func TestAccessLogAsAuditEvents(t *testing.T) {
	c, patient, _ := atWard(t)
	view := c.open(patient)
	doctor := c.signedInAs(t, "Doctor Ward", "clinician")
	second := c.signedInAs(t, "Second Ward", "nurse")
	if _, err := c.n.Find(t.Context(), doctor, "Nakato Testova"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.n.RootSheet(t.Context(), c.signedInAs(t, "Desk Ward", "registrar")); !errors.Is(err, web.ErrRefused) {
		t.Fatal(err)
	}
	c.mustBreak(doctor, patient, "form-glass", second)
	for i, when := range []string{"open", "in a record"} {
		got := c.events()
		for action, want := range map[string]int{"view": 1, "find": 1, "emergency": 1, "break": 1, "prove": 1, "oversee": i + 1} {
			if len(got[action]) != want {
				t.Errorf("%s: %d events of %s, want %d", when, len(got[action]), action, want)
			}
		}
		text := func(action string) string {
			if len(got[action]) == 0 {
				return ""
			}
			return string(got[action][0].JSON)
		}
		id := view.Chart.Patient.Resource().ID
		for action, words := range map[string][]string{
			"view":  {`"Patient/` + id + `"`, "Amina Test", "rule/care", "IHE.BasicAudit.PatientRead", patient, "Test box"},
			"find":  {"Doctor Ward", "rule/care-box", `"action":"E"`},
			"break": {"Doctor Ward", "Second Ward", reason, "BTG", "110127"},
			"prove": {"Desk Ward", `"outcome":"4"`},
		} {
			for _, w := range words {
				if !strings.Contains(text(action), w) {
					t.Errorf("%s: the event of %s lacks %q: %s", when, action, w, text(action))
				}
			}
		}
		if all := text("find"); strings.Contains(all, "Nakato") {
			t.Errorf("%s: what was searched is told", when)
		}
		if err := c.n.FlushAccess(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cut, stop := context.WithCancel(t.Context())
	stop()
	if _, err := c.n.ExportAccess(cut, &bytes.Buffer{}); err == nil {
		t.Error("an export that was ended is whole")
	}
}

// TestWrongPINsAreNoted: at sign-in and of a second person, with the account and never the PIN.
func TestWrongPINsAreNoted(t *testing.T) {
	c, patient, _ := atWard(t)
	doctor := c.signedInAs(t, "Doctor Ward", "clinician")
	second := c.signedInAs(t, "Second Ward", "nurse")
	if _, err := c.n.SignIn(t.Context(), doctor.StaffID, "999999"); !errors.Is(err, web.ErrWrongPIN) {
		t.Fatal(err)
	}
	if err := c.n.BreakGlass(t.Context(), doctor, patient, "form-a", web.BreakGlass{Reason: reason, Second: second.StaffID, PIN: "999998"}); !errors.Is(err, web.ErrWrongPIN) {
		t.Fatal(err)
	}
	tries := c.events()[string(fhir.AuditSignIn)]
	if len(tries) != 2 {
		t.Fatalf("%d tries are noted, want 2", len(tries))
	}
	for i, want := range []string{"Doctor Ward", "Second Ward"} {
		if got := string(tries[i].JSON); !strings.Contains(got, want) || !strings.Contains(got, `"outcome":"4"`) || strings.Contains(got, "99999") {
			t.Errorf("try %d: %s", i, got)
		}
	}
}
