package fhir

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names of what R4 has no code or extension for. They are part of what is stored: never change one.
const (
	SystemCard        = "https://github.com/healthpost/healthpost/fhir/card"
	SystemProblem     = "https://github.com/healthpost/healthpost/fhir/problem"
	SystemDangerSign  = "https://github.com/healthpost/healthpost/fhir/danger-sign"
	ExtensionBirthEst = "https://github.com/healthpost/healthpost/fhir/birth-date-estimated"
)

// Codes of a FieldError: keys of the page's catalogue, with what Args hold.
const (
	CodeRequired  = "error.required"
	CodeTooLong   = "error.too-long"   // the most characters
	CodeText      = "error.text"       // holds characters that are not text
	CodeChoice    = "error.choice"     // none of the offered answers
	CodeDate      = "error.date"       // no such day
	CodeFuture    = "error.future"     // a day that has not come
	CodeNumber    = "error.number"     // not a number
	CodeRange     = "error.range"      // impossible: low, high, unit
	CodeUnusual   = "warning.unusual"  // soft: usual low, usual high, unit
	CodePair      = "error.pair"       // the other one is missing too: its field
	CodePressure  = "error.pressure"   // systolic is not above diastolic
	CodeEmptyForm = "error.empty-form" // nothing was entered
)

// FieldError is one thing to say about one field. Code is a catalogue key that the page translates; Field is the form field name;
// Soft ones ask, the others refuse.
type FieldError struct {
	Field, Code string
	Args        []string
	Soft        bool
}

// Registration is what the page asks when a person is registered. Empty text: not known.
type Registration struct {
	Given, Family  string
	Sex            string // female, male, other or unknown
	BirthDate      string // YYYY, YYYY-MM or YYYY-MM-DD
	BirthEstimated bool
	Village        string
	Mother         string // mother, or head of the household
	Phone          string
	Card           string
}

const textSizeMax = 200 // characters of one short text field

// Validate lists what must be changed before the registration can be saved.
func (r Registration) Validate() []FieldError {
	var errs []FieldError
	if strings.TrimSpace(r.Given) == "" && strings.TrimSpace(r.Family) == "" {
		errs = append(errs, FieldError{Field: "given", Code: CodeRequired})
	}
	for _, f := range []struct{ name, text string }{{"given", r.Given}, {"family", r.Family}, {"village", r.Village},
		{"mother", r.Mother}, {"phone", r.Phone}, {"card", r.Card}} {
		errs = append(errs, checkText(f.name, f.text, textSizeMax, false)...)
	}
	switch r.Sex {
	case "female", "male", "other", "unknown":
	case "":
		errs = append(errs, FieldError{Field: "sex", Code: CodeRequired})
	default:
		errs = append(errs, FieldError{Field: "sex", Code: CodeChoice})
	}
	if r.BirthDate != "" && (!isDate(r.BirthDate) || r.BirthDate < "1850") {
		errs = append(errs, FieldError{Field: "birthDate", Code: CodeDate})
	}
	return errs
}

// checkText refuses text that is too long or holds what cannot be shown; lines says whether line breaks are allowed.
func checkText(field, s string, sizeMax int, lines bool) []FieldError {
	if utf8.RuneCountInString(s) > sizeMax {
		return []FieldError{{Field: field, Code: CodeTooLong, Args: []string{fmt.Sprint(sizeMax)}}}
	}
	for _, c := range s {
		if lines && (c == '\n' || c == '\r' || c == '\t') {
			continue
		}
		if c == utf8.RuneError || unicode.IsControl(c) {
			return []FieldError{{Field: field, Code: CodeText}}
		}
	}
	return nil
}

// Resources is the Patient resource of a new person, its id drawn from rand. It fails on what Validate refuses.
func (r Registration) Resources(rand io.Reader) ([]Resource, error) {
	ids, err := newIDRun(rand)
	if err != nil {
		return nil, err
	}
	p, err := r.patient(ids.next())
	if err != nil {
		return nil, err
	}
	return []Resource{p}, nil
}

func (r Registration) patient(id string) (Resource, error) {
	if err := firstHard(r.Validate()); err != nil {
		return Resource{}, err
	}
	r = r.trimmed()
	p := object{{"resourceType", "Patient"}, {"id", id}}
	if r.Card != "" {
		p = p.with("identifier", list{r.cardJSON()})
	}
	p = p.with("active", true).with("name", list{r.nameJSON()})
	if r.Phone != "" {
		p = p.with("telecom", list{r.phoneJSON()})
	}
	p = p.with("gender", r.Sex)
	if r.BirthDate != "" {
		p = p.with("birthDate", r.BirthDate)
		if r.BirthEstimated {
			p = p.with("_birthDate", estimatedJSON())
		}
	}
	if r.Village != "" {
		p = p.with("address", list{object{{"city", r.Village}}})
	}
	if r.Mother != "" {
		p = p.with("contact", list{r.motherJSON()})
	}
	return build(p)
}

func (r Registration) trimmed() Registration {
	for _, s := range []*string{&r.Given, &r.Family, &r.Village, &r.Mother, &r.Phone, &r.Card} {
		*s = strings.Join(strings.Fields(*s), " ")
	}
	return r
}

func (r Registration) nameJSON() object {
	n := object{{"text", strings.TrimSpace(r.Given + " " + r.Family)}}
	if r.Family != "" {
		n = n.with("family", r.Family)
	}
	if r.Given != "" {
		given := list{}
		for _, g := range strings.Fields(r.Given) {
			given = append(given, g)
		}
		n = n.with("given", given)
	}
	return n
}

func (r Registration) cardJSON() object { return object{{"system", SystemCard}, {"value", r.Card}} }

func (r Registration) phoneJSON() object { return object{{"system", "phone"}, {"value", r.Phone}} }

func (r Registration) motherJSON() object {
	role := object{{"system", "http://terminology.hl7.org/CodeSystem/v3-RoleCode"}, {"code", "MTH"}, {"display", "mother"}}
	return object{{"relationship", list{object{{"coding", list{role}}}}}, {"name", object{{"text", r.Mother}}}}
}

func estimatedJSON() object {
	return object{{"extension", list{object{{"url", ExtensionBirthEst}, {"valueBoolean", true}}}}}
}

// firstHard makes an error of the first refusal; fields are named, what was typed is not.
func firstHard(errs []FieldError) error {
	for _, e := range errs {
		if !e.Soft {
			return fmt.Errorf("field %s: %s", e.Field, e.Code)
		}
	}
	return nil
}
