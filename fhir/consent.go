package fhir

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The systems by which Consent resources of this region name a decision and a box.
const (
	SystemConsent = "https://github.com/healthpost/healthpost/fhir/consent"
	SystemBox     = "https://github.com/healthpost/healthpost/fhir/box"

	systemConsentScope = systemTerms + "consentscope"
	systemActReason    = systemTerms + "v3-ActReason"
	systemActCode      = systemTerms + "v3-ActCode"
	systemParticipant  = systemTerms + "v3-ParticipationType"

	codePrivacy   = "patient-privacy"
	codeTreatment = "TREAT"
	codeReceiver  = "IRCP" // who gets to see it
	codeConsent   = "59284-0"
)

// Consent is a patient's decision about who may read, as a Consent resource says it.
type Consent struct {
	ID       string // 32 hexadecimal digits, where the decision has one of this program's
	Active   bool
	Privacy  bool // about who reads, not about a treatment or a study
	Deny     bool // its first provision denies, else it permits
	At       time.Time
	Until    time.Time // zero for no end
	Boxes    []ConsentBox
	Topics   Topics   // that it is about; 0: everything
	Purposes []string // of a permission, of PurposeWords
}

// purposeTerms are what a permission can be for: the word that rules and decisions know, and the code.
var purposeTerms = [...]struct{ word, code, display string }{
	{"treatment", codeTreatment, "treatment"}, {"payment", "HPAYMT", "healthcare payment"}, {"research", "HRESCH", "healthcare research"},
	{"report", "PUBHLTH", "public health"},
}

// PurposeWords are the words of all purposes; the first is treatment.
func PurposeWords() (out []string) {
	for _, p := range purposeTerms {
		out = append(out, p.word)
	}
	return out
}

// purposeCodings are the codes of purposes, in the order of PurposeWords. A word that is none has no code.
func purposeCodings(words []string) (out list) {
	for _, p := range purposeTerms {
		if slices.Contains(words, p.word) {
			out = append(out, coding(systemActReason, p.code, ""))
		}
	}
	return out
}

func purposesOf(v value) (out []string) {
	for _, k := range v.list() {
		for _, p := range purposeTerms {
			if k.get("system").text == systemActReason && k.get("code").text == p.code {
				out = append(out, p.word)
			}
		}
	}
	return out
}

// ConsentBox is a box that a Consent names: in a permission those that may read, in a denial those
// that may in any case.
type ConsentBox struct{ ID, Name string }

// Resource is the decision as an R4 resource. patient is the id of the Patient, or a whole reference when it
// holds a '/' or ':'.
func (c Consent) Resource(patient string) (Resource, error) {
	if !isConsentID(c.ID) {
		return Resource{}, fmt.Errorf("building a Consent: an id of %d digits", len(c.ID))
	}
	var run idRun
	_, _ = hex.Decode(run[:], []byte(c.ID)) // as isConsentID saw
	if !strings.ContainsAny(patient, "/:") {
		patient = "Patient/" + patient
	}
	status, rule := "inactive", "OPTIN"
	if c.Active {
		status = "active"
	}
	if c.Deny {
		rule = "OPTOUT"
	}
	provision, err := c.provision()
	if err != nil {
		return Resource{}, err
	}
	return build(object{{"resourceType", "Consent"}, {"id", run.next()},
		{"identifier", list{object{{"system", SystemConsent}, {"value", c.ID}}}}, {"status", status},
		{"scope", object{{"coding", list{coding(systemConsentScope, codePrivacy, "")}}}},
		{"category", list{object{{"coding", list{coding(systemLOINC, codeConsent, "")}}}}},
		{"patient", reference(patient)}, {"dateTime", c.At.UTC().Format(time.RFC3339)},
		{"policyRule", object{{"coding", list{coding(systemActCode, rule, "")}}}}, {"provision", provision}})
}

// provision is what is denied or permitted, with its elements in the order of R4.
func (c Consent) provision() (object, error) {
	actors := list{}
	for _, b := range c.Boxes {
		actors = append(actors, object{{"role", object{{"coding", list{coding(systemParticipant, codeReceiver, "")}}}},
			{"reference", object{{"type", "Device"}, {"identifier", object{{"system", SystemBox}, {"value", b.ID}}}, {"display", b.Name}}}})
	}
	labels, o := c.Topics.codings(), object{{"type", "permit"}}
	if c.Deny {
		o = object{{"type", "deny"}}
		if len(labels) > 0 {
			o = o.with("securityLabel", labels)
		}
		if len(actors) > 0 {
			treat := purposeCodings([]string{purposeTerms[0].word})
			o = o.with("provision", list{object{{"type", "permit"}, {"actor", actors}, {"purpose", treat}}})
		}
		return o, nil
	}
	purposes := purposeCodings(c.Purposes)
	if len(purposes) == 0 {
		return nil, errors.New("building a Consent: a permission for nothing")
	}
	if !c.Until.IsZero() {
		o = o.with("period", object{{"end", c.Until.UTC().Format(time.RFC3339)}})
	}
	if len(actors) > 0 {
		o = o.with("actor", actors)
	}
	if len(labels) > 0 {
		o = o.with("securityLabel", labels)
	}
	return o.with("purpose", purposes), nil
}

// Consent reads a Consent resource. exact: it says nothing besides, so that who permits something by it
// passes over nothing.
func (r Resource) Consent() (c Consent, exact bool) {
	v := r.tree()
	p := v.get("provision")
	c = Consent{Active: v.get("status").text == "active", Deny: p.get("type").text == "deny", Privacy: conceptOf(v.get("scope")).Code(systemConsentScope) == codePrivacy}
	for _, id := range v.get("identifier").list() {
		if value := id.get("value").text; id.get("system").text == SystemConsent && isConsentID(value) {
			c.ID = value
		}
	}
	c.At, _ = ParseTime(v.get("dateTime").text)             // zero where it is none: another's form, and exact is false
	c.Until, _ = ParseTime(p.get("period").get("end").text) // likewise
	c.Topics, _ = topicsOf(p.get("securityLabel"))          // no error is dropped: whether it is marked confidential, which alone names no topic
	if c.Deny {
		p = p.get("provision").first()
	} else {
		c.Purposes = purposesOf(p.get("purpose"))
	}
	for _, a := range p.get("actor").list() {
		ref := a.get("reference")
		if id := ref.get("identifier"); id.get("system").text == SystemBox {
			c.Boxes = append(c.Boxes, ConsentBox{ID: id.get("value").text, Name: ref.get("display").text})
		}
	}
	again, err := c.Resource(referenceOf(v.get("patient"), "Patient"))
	return c, err == nil && JSONEqual(again.JSON, r.JSON)
}

func isConsentID(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == len(idRun{}) && s == strings.ToLower(s)
}
