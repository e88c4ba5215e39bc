package fhir

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Audit is one line of an access log, as an AuditEvent tells it. Where a line fits one of IHE's profiles of
// Basic Audit Log Patterns 1.1 for R4, the resource names it in meta.profile; a test holds it to that
// profile's rules.
type Audit struct {
	ID      string // of the resource: letters, digits, "-" and "."
	At      time.Time
	Action  AuditAction
	Refused bool

	Staff, Name, Role string // id and name of the account and its roles; no Staff: a command of who runs the box
	Second, SecondID  string // the second person of an emergency, likewise
	Device, Box       string // id and name of the box that noted it
	Patient           string // reference to the Patient, "" when it is not known here
	Compartment       string // the patient's, "" for what is about nobody's chart
	Rules             []string
	Size              uint64 // of the ledger that the rules were asked at; 0 is not told
	Reason            string // words that were given, of an emergency
	For               string // what for, of PurposeWords; "": what the action tells
}

// AuditAction is what somebody did or tried.
type AuditAction string

// Those that are more than a word of the rules. Any other is told by its own name.
const (
	AuditIdentify  AuditAction = "identify"
	AuditView      AuditAction = "view"
	AuditReview    AuditAction = "review"
	AuditEmergency AuditAction = "emergency" // a look at the summary
	AuditBreak     AuditAction = "break"     // that it was opened, with both persons and the reason
	AuditFind      AuditAction = "find"
	AuditExport    AuditAction = "export"
	AuditPrint     AuditAction = "prove"
	AuditOversee   AuditAction = "oversee"
	AuditSignIn    AuditAction = "sign-in"
)

// Systems of an AuditEvent's codes and identifiers.
const (
	SystemAction      = "https://github.com/healthpost/healthpost/fhir/action"
	SystemStaff       = "https://github.com/healthpost/healthpost/fhir/staff"
	SystemDevice      = "https://github.com/healthpost/healthpost/fhir/device"
	SystemCompartment = "https://github.com/healthpost/healthpost/fhir/compartment"
	SystemRule        = "https://github.com/healthpost/healthpost/fhir/rule"

	profilePatientRead = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"
	systemDCM          = "http://dicom.nema.org/resources/ontology/DCM"
	systemRest         = "http://hl7.org/fhir/restful-interaction"
)

// auditKind is what FHIR calls an action.
type auditKind struct {
	typ, subtype object
	action       string // C, R, U, D or E
	reads        bool   // of a patient's data, to a person: the profile fits when it was allowed
}

var auditRest = coding(systemTerms+"audit-event-type", "rest", "RESTful Operation")

func restKind(code, action string) auditKind {
	return auditKind{typ: auditRest, subtype: coding(systemRest, code, code), action: action}
}

// kind gives what FHIR has for an action; what it has no word for is an operation.
func (a AuditAction) kind() auditKind {
	k := restKind("operation", "E")
	switch a {
	case AuditIdentify, AuditView, AuditReview, AuditEmergency:
		k = restKind("read", "R")
		k.reads = true
	case AuditFind, AuditOversee:
		k = restKind("search", "E")
	case AuditExport:
		k = auditKind{typ: coding(systemDCM, "110106", "Export"), subtype: coding(systemTerms+"iso-21089-lifecycle", "disclose", "Disclose"), action: "R"}
	case AuditPrint:
		k.typ, k.action = coding(systemDCM, "110106", "Export"), "R"
	case AuditBreak:
		k = auditKind{typ: coding(systemDCM, "110113", "Security Alert"), subtype: coding(systemDCM, "110127", "Emergency Override Started"), action: "E"}
	case AuditSignIn:
		k = auditKind{typ: coding(systemDCM, "110114", "User Authentication"), subtype: coding(systemDCM, "110122", "Login"), action: "E"}
	case "write", "register":
		k = restKind("create", "C")
	case "amend", "consent", "give":
		k = restKind("update", "U")
	case "retract":
		k = restKind("delete", "D")
	}
	return k
}

// auditTextMax bounds each text of an AuditEvent, in bytes.
const auditTextMax = 4096

// tidy leaves of a text what a string of FHIR may hold.
func tidy(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), auditTextMax)], ""))
}

// word is a text as one word of an identifier or a URI; "unknown" when nothing of it is left.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '-' || r == ':' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, s[:min(len(s), auditTextMax)])
	if s == "" {
		return "unknown"
	}
	return s
}

// tidied is a with texts as FHIR allows them, whoever wrote them.
func (a Audit) tidied() Audit {
	for _, s := range []*string{&a.Name, &a.Role, &a.Second, &a.Box, &a.Reason, &a.Patient} {
		*s = tidy(*s)
	}
	for _, s := range []*string{&a.Staff, &a.SecondID, &a.Compartment} {
		if *s != "" {
			*s = word(*s)
		}
	}
	a.Device, a.Action = word(a.Device), AuditAction(word(string(a.Action)))
	rules := make([]string, len(a.Rules))
	for i, r := range a.Rules {
		rules[i] = word(r)
	}
	a.Rules = rules
	return a
}

// Resource is the AuditEvent. Texts are cut to what FHIR allows; the error is that of an ID, a time or a
// reference to a Patient that are none.
func (raw Audit) Resource() (Resource, error) {
	a := raw.tidied()
	k := a.Action.kind()
	profiled := k.reads && !a.Refused && a.Compartment != "" && a.SecondID == ""
	o := object{{"resourceType", "AuditEvent"}, {"id", a.ID}}
	if profiled {
		o = o.with("meta", object{{"profile", list{profilePatientRead}}})
	}
	o = o.with("type", k.typ).with("subtype", list{k.subtype, coding(SystemAction, string(a.Action), "")}).
		with("action", k.action).with("recorded", a.At.UTC().Format("2006-01-02T15:04:05.000Z"))
	if a.Refused {
		o = o.with("outcome", "4")
	} else {
		o = o.with("outcome", "0")
	}
	switch {
	case a.Reason != "":
		o = o.with("outcomeDesc", a.Reason)
	case a.Refused && a.Action == AuditSignIn:
		o = o.with("outcomeDesc", "a wrong PIN")
	case a.Refused:
		o = o.with("outcomeDesc", "refused by the rules")
	}
	if a.Action == AuditBreak {
		o = o.with("purposeOfEvent", list{breakTheGlass()})
	}
	o = o.with("agent", a.agents(k)).with("source", object{{"site", a.boxName()}, {"observer", a.box()}, {"type", list{coding(systemTerms+"security-source-type", "4", "Application Server")}}})
	if entities := a.entities(profiled); len(entities) > 0 {
		o = o.with("entity", entities)
	}
	r, err := build(o)
	if err != nil {
		return r, fmt.Errorf("telling an access line: %w", err)
	}
	return r, nil
}

func breakTheGlass() object {
	return concept("", coding(systemTerms+"v3-ActReason", "BTG", "break the glass"))
}

func (a *Audit) boxName() string {
	if a.Box != "" {
		return a.Box
	}
	return a.Device
}

// box is the device that noted the line.
func (a *Audit) box() object {
	return object{{"type", "Device"}, {"identifier", object{{"system", SystemDevice}, {"value", a.Device}}}, {"display", a.boxName()}}
}

// agents are the box, which is client and server of its own page, and the persons.
func (a *Audit) agents(k auditKind) list {
	client, server := coding(systemDCM, "110152", "Destination Role ID"), coding(systemDCM, "110153", "Source Role ID")
	if k.action != "R" {
		client, server = coding(systemDCM, "110153", "Source Role ID"), coding(systemDCM, "110152", "Destination Role ID")
	}
	network := object{{"address", "urn:healthpost:device:" + a.Device}, {"type", "5"}} // a URI
	machine := func(role object) object {
		return object{{"type", concept("", role)}, {"who", a.box()}, {"requestor", false}, {"network", network}}
	}
	out := list{machine(client), machine(server), a.person(a.Staff, a.Name, a.Role, true)}
	if a.SecondID != "" {
		out = append(out, a.person(a.SecondID, a.Second, "", false))
	}
	return out
}

func (a *Audit) person(id, name, role string, asked bool) object {
	who := object{{"display", "who runs the box, by a command"}}
	if id != "" {
		who = object{{"type", "Practitioner"}, {"identifier", object{{"system", SystemStaff}, {"value", id}}}}
		if name != "" {
			who = who.with("display", name)
		}
	}
	o := object{{"type", concept("", coding(systemTerms+"v3-ParticipationType", "IRCP", "information recipient"))}}
	if role != "" {
		o = o.with("role", list{concept(role)})
	}
	o = o.with("who", who)
	if name != "" {
		o = o.with("name", name)
	}
	o = o.with("requestor", asked)
	if len(a.Rules) > 0 && asked {
		var policies list
		for _, r := range a.Rules {
			policies = append(policies, SystemRule+"/"+r)
		}
		o = o.with("policy", policies)
	}
	return o.with("purposeOfUse", list{a.purpose()})
}

// purpose is what the data was for: treatment, an emergency, or the care of the records themselves.
func (a *Audit) purpose() object {
	switch a.Action {
	case AuditEmergency, AuditBreak:
		return breakTheGlass()
	}
	for _, p := range purposeTerms {
		if p.word == a.For {
			return concept("", coding(systemActReason, p.code, p.display))
		}
	}
	switch a.Action {
	case AuditReview, AuditOversee, AuditExport, AuditSignIn, "carry", "links", "staff":
		return concept("", coding(systemTerms+"v3-ActReason", "HOPERAT", "healthcare operations"))
	}
	return concept("", coding(systemTerms+"v3-ActReason", "TREAT", "treatment"))
}

// entities are the patient, what was read of them, and how the rules decided.
func (a *Audit) entities(profiled bool) list {
	var out list
	if a.Compartment != "" {
		what := object{}
		if a.Patient != "" {
			what = what.with("reference", a.Patient)
		}
		what = what.with("type", "Patient").with("identifier", object{{"system", SystemCompartment}, {"value", a.Compartment}})
		out = append(out, object{{"what", what}, {"type", coding(systemTerms+"audit-entity-type", "1", "Person")}, {"role", coding(systemTerms+"object-role", "1", "Patient")}})
	}
	data := object{}
	if profiled {
		data = object{{"what", object{{"identifier", object{{"system", SystemCompartment}, {"value", a.Compartment}}}, {"display", string(a.Action)}}}}
	}
	data = data.with("type", coding(systemTerms+"audit-entity-type", "2", "System Object"))
	if profiled {
		data = data.with("role", coding(systemTerms+"object-role", "4", "Domain Resource"))
	}
	var detail list
	for _, r := range a.Rules {
		detail = append(detail, object{{"type", "rule"}, {"valueString", r}})
	}
	if a.Size > 0 {
		detail = append(detail, object{{"type", "ledger-size"}, {"valueString", strconv.FormatUint(a.Size, 10)}})
	}
	if len(detail) > 0 {
		data = data.with("detail", detail)
	}
	if profiled || len(detail) > 0 {
		out = append(out, data)
	}
	return out
}
