package fhir_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
)

// The parts of an AuditEvent that the profiles speak of.
type (
	auditCode struct{ System, Code string }
	auditType struct{ Coding []auditCode }
	auditWho  struct {
		Reference, Type, Display string
		Identifier               struct{ System, Value string }
	}
	auditAgent struct {
		Type         auditType
		Who          *auditWho
		Requestor    *bool
		Name         string
		Role         []struct{ Text string }
		Policy       []string
		Network      *struct{ Address, Type string }
		Media        *auditCode
		PurposeOfUse []auditType
	}
	auditEntity struct {
		What   *auditWho
		Type   *auditCode
		Role   *auditCode
		Name   string
		Query  string
		Detail []struct{ Type, ValueString string }
	}
	auditEvent struct {
		ResourceType, ID string
		Meta             struct{ Profile []string }
		Type             *auditCode
		Subtype          []auditCode
		Action           string
		Recorded         string
		Outcome          string
		OutcomeDesc      string
		PurposeOfEvent   []auditType
		Agent            []auditAgent
		Source           struct{ Observer *auditWho }
		Entity           []auditEntity
	}
)

const (
	dcm        = "http://dicom.nema.org/resources/ontology/DCM"
	restSystem = "http://hl7.org/fhir/restful-interaction"
	hl7        = "http://terminology.hl7.org/CodeSystem/"
)

// typed are the agents of a type.
func (e *auditEvent) typed(c auditCode) (out []auditAgent) {
	for _, a := range e.Agent {
		if slices.Contains(a.Type.Coding, c) {
			out = append(out, a)
		}
	}
	return out
}

// checkAudit holds an AuditEvent to what R4 asks of every one, and to the rules of IHE's PatientRead where
// it says that it keeps them.
func checkAudit(e *auditEvent) error {
	var bad []error
	must := func(ok bool, what string) {
		if !ok {
			bad = append(bad, errors.New(what))
		}
	}
	_, err := time.Parse(time.RFC3339, e.Recorded)
	must(e.ResourceType == "AuditEvent" && e.ID != "", "no AuditEvent with an id")
	must(err == nil, "recorded is no instant")
	must(e.Type != nil && e.Type.Code != "", "no type")
	must(e.Source.Observer != nil, "no observer")
	must(strings.Contains("CRUDE", e.Action) && len(e.Action) == 1, "no action of C, R, U, D, E")
	must(slices.Contains([]string{"0", "4", "8", "12"}, e.Outcome), "no outcome")
	must(len(e.Agent) > 0, "no agent")
	asked := 0
	for _, a := range e.Agent {
		must(a.Requestor != nil, "an agent that says nothing of whether it asked")
		must(a.Who != nil && (a.Who.Display != "" || a.Who.Identifier.Value != ""), "an agent that is nobody")
		if a.Requestor != nil && *a.Requestor {
			asked++
		}
	}
	must(asked == 1, "not one agent that asked")
	for _, x := range e.Entity {
		must(x.Name == "" || x.Query == "", "sev-1: an entity with name and query")
	}
	if len(e.Meta.Profile) == 0 {
		return errors.Join(bad...)
	}
	must(slices.Equal(e.Meta.Profile, []string{"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"}), "another profile")
	must(e.Type != nil && *e.Type == auditCode{hl7 + "audit-event-type", "rest"}, "type is not rest")
	reads := 0
	for _, s := range e.Subtype {
		if s == (auditCode{restSystem, "read"}) || s == (auditCode{restSystem, "vread"}) {
			reads++
		}
	}
	must(reads == 1, "not one subtype of a read")
	must(e.Action == "R" && e.Outcome == "0", "no successful read")
	for role, code := range map[string]string{"client": "110152", "server": "110153"} {
		list := e.typed(auditCode{dcm, code})
		must(len(list) == 1 && list[0].Who != nil && list[0].Network != nil && list[0].Media == nil, "not one "+role)
	}
	users := e.typed(auditCode{hl7 + "v3-ParticipationType", "IRCP"})
	must(len(users) == 1 && users[0].Who != nil && users[0].Requestor != nil && *users[0].Requestor && users[0].Network == nil, "not one user")
	patients, data := 0, 0
	for _, x := range e.Entity {
		switch {
		case x.Type == nil:
		case *x.Type == auditCode{hl7 + "audit-entity-type", "1"}:
			patients++
			must(x.Role != nil && *x.Role == auditCode{hl7 + "object-role", "1"}, "a person that is no patient")
			must(x.What != nil && x.What.Type == "Patient" && (x.What.Reference == "" || strings.HasPrefix(x.What.Reference, "Patient/")), "a patient that is no Patient")
		case *x.Type == auditCode{hl7 + "audit-entity-type", "2"}:
			data++
			must(x.What != nil && x.Role != nil && slices.Contains([]string{"3", "4", "20"}, x.Role.Code), "data without what it is")
		}
	}
	must(patients == 1 && data == 1, "not one patient and one piece of data")
	return errors.Join(bad...)
}

func auditOf(t testing.TB, a fhir.Audit) auditEvent {
	t.Helper()
	r, err := a.Resource()
	if err != nil {
		t.Fatalf("%s: %v", a.Action, err)
	}
	var e auditEvent
	if err := json.Unmarshal(r.JSON, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func sampleAudit(action fhir.AuditAction) fhir.Audit {
	return fhir.Audit{ID: "0011223344556677-12", At: time.Date(2026, 11, 21, 10, 30, 0, 0, time.UTC), Action: action, Staff: strings.Repeat("ab", 16), Name: "Amina Test", Role: "nurse",
		Device: strings.Repeat("cd", 32), Box: "Test clinic", Patient: "Patient/p-1", Compartment: strings.Repeat("01", 16), Rules: []string{"care", "grant:1234:99"}, Size: 17}
}

// TestAuditEventsKeepTheirProfile: each action, allowed and refused, about a chart and about the box.
func TestAuditEventsKeepTheirProfile(t *testing.T) {
	profiled := map[fhir.AuditAction]bool{fhir.AuditView: true, fhir.AuditIdentify: true, fhir.AuditReview: true, fhir.AuditEmergency: true}
	want := map[fhir.AuditAction]string{fhir.AuditView: "R", fhir.AuditFind: "E", fhir.AuditExport: "R", fhir.AuditPrint: "R", "write": "C", "register": "C", "amend": "U", "retract": "D", "carry": "E", "whatever": "E"}
	for _, action := range []fhir.AuditAction{fhir.AuditView, fhir.AuditIdentify, fhir.AuditReview, fhir.AuditEmergency, fhir.AuditBreak, fhir.AuditFind, fhir.AuditExport,
		fhir.AuditPrint, fhir.AuditOversee, fhir.AuditSignIn, "write", "amend", "retract", "give", "register", "links", "carry", "staff", "consent", "whatever"} {
		for i := range 8 {
			a := sampleAudit(action)
			a.Refused = i&1 != 0
			if i&2 != 0 {
				a.Patient, a.Compartment = "", ""
			}
			if i&4 != 0 {
				a.Staff, a.Name, a.Role, a.Rules = "", "", "", nil
			}
			e := auditOf(t, a)
			if err := checkAudit(&e); err != nil {
				t.Errorf("%s, case %d: %v", action, i, err)
			}
			if says := len(e.Meta.Profile) > 0; says != (profiled[action] && i&3 == 0) {
				t.Errorf("%s, case %d: names a profile: %v", action, i, says)
			}
			if c, ok := want[action]; ok && e.Action != c {
				t.Errorf("%s is the action %s, want %s", action, e.Action, c)
			}
			if (e.Outcome == "0") == a.Refused || !slices.Contains(e.Subtype, auditCode{fhir.SystemAction, string(action)}) {
				t.Errorf("%s, case %d: outcome %s, subtypes %v", action, i, e.Outcome, e.Subtype)
			}
		}
	}
}

// TestAuditEventTellsWhoWhatAndWhy: the line's own words are all there.
func TestAuditEventTellsWhoWhatAndWhy(t *testing.T) {
	a := sampleAudit(fhir.AuditBreak)
	a.Second, a.SecondID, a.Reason = "Odile Test", strings.Repeat("ef", 16), "unconscious after a fall"
	e := auditOf(t, a)
	if e.Recorded != "2026-11-21T10:30:00.000Z" || e.OutcomeDesc != a.Reason || len(e.PurposeOfEvent) != 1 || e.PurposeOfEvent[0].Coding[0].Code != "BTG" || e.Subtype[0].Code != "110127" {
		t.Errorf("an emergency: %+v", e)
	}
	users := e.typed(auditCode{hl7 + "v3-ParticipationType", "IRCP"})
	if len(users) != 2 || users[0].Name != "Amina Test" || users[0].Role[0].Text != "nurse" || users[1].Name != "Odile Test" || *users[1].Requestor {
		t.Errorf("its persons: %+v", users)
	}
	if p := users[0].Policy; len(p) != 2 || p[0] != fhir.SystemRule+"/care" || users[0].PurposeOfUse[0].Coding[0].Code != "BTG" {
		t.Errorf("by the rules %v", p)
	}
	if e.Entity[0].What.Reference != "Patient/p-1" || e.Entity[0].What.Identifier.Value != a.Compartment {
		t.Errorf("about %+v", e.Entity[0].What)
	}
	if d := e.Entity[1].Detail; len(d) != 3 || d[0].ValueString != "care" || d[2].ValueString != "17" {
		t.Errorf("details %+v", d)
	}
}

// TestAuditCheckSeesBreaks: the check of the profile is one that can fail.
func TestAuditCheckSeesBreaks(t *testing.T) {
	for name, spoil := range map[string]func(e *auditEvent){
		"no patient":    func(e *auditEvent) { e.Entity = e.Entity[1:] },
		"no data":       func(e *auditEvent) { e.Entity = e.Entity[:1] },
		"no server":     func(e *auditEvent) { e.Agent = slices.Delete(e.Agent, 1, 2) },
		"no network":    func(e *auditEvent) { e.Agent[0].Network = nil },
		"no user":       func(e *auditEvent) { e.Agent = e.Agent[:2] },
		"failed":        func(e *auditEvent) { e.Outcome = "4" },
		"no read":       func(e *auditEvent) { e.Subtype = e.Subtype[1:] },
		"a local time":  func(e *auditEvent) { e.Recorded = "2026-11-21T10:30:00" },
		"no observer":   func(e *auditEvent) { e.Source.Observer = nil },
		"another type":  func(e *auditEvent) { e.Type.Code = "object" },
		"not a patient": func(e *auditEvent) { e.Entity[0].What.Type = "Group" },
	} {
		e := auditOf(t, sampleAudit(fhir.AuditView))
		spoil(&e)
		if checkAudit(&e) == nil {
			t.Errorf("%s is not seen", name)
		}
	}
}

func FuzzAudit(f *testing.F) {
	f.Add("view", "Amina", "nurse", "Test clinic", "care", "unconscious", uint64(3), false)
	f.Add("", "\x00\n\xff", " ", "\"", "a b,c", "\u2028", uint64(0), true)
	f.Fuzz(func(t *testing.T, action, name, role, box, rule, reason string, size uint64, refused bool) {
		a := sampleAudit(fhir.AuditAction(action))
		a.Name, a.Second, a.SecondID, a.Role, a.Box, a.Staff, a.Compartment, a.Device = name, name, name, role, box, name, role, box
		a.Rules, a.Reason, a.Size, a.Refused = []string{rule}, reason, size, refused
		r, err := a.Resource()
		if err != nil {
			t.Fatal(err)
		}
		var e auditEvent
		if err := json.Unmarshal(r.JSON, &e); err != nil {
			t.Fatal(err)
		}
		if err := checkAudit(&e); err != nil {
			t.Error(fmt.Sprintf("%q", r.JSON), err)
		}
		if strings.ContainsAny(string(r.JSON), "\n\r") {
			t.Error("more than one line")
		}
	})
}
