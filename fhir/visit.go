package fhir

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Visit is what the page asks in one visit. Numbers are decimal text; empty text means not taken or not asked.
type Visit struct {
	At          time.Time
	DangerSigns []string // of DangerSigns
	Temperature string   // these nine as in Measures
	Breaths     string
	Weight      string
	MUAC        string
	Height      string
	Systolic    string
	Diastolic   string
	Pulse       string
	SpO2        string
	RDT         string // malaria rapid test: positive, negative or invalid
	Problem     string // one of Problems
	ProblemOther, Treatment, Note,
	Advice string
	ReturnIn string // days from the visit ("2"), or a day ("2026-05-30")
	Urgent   bool
	Allergy  string   // an allergy not known before
	Files    []File   // photos and documents, at most FilesMax
	Topics   []string // of TopicWords: what the whole visit is kept apart as, but for its allergy
}

// File is a photo or document of a visit; the box keeps its content.
type File struct {
	Hash  ContentHash
	Type  string // MIME type
	Size  int    // of the content, in bytes
	Title string // name of the file as it came, or ""
}

// FilesMax is how many files a visit may have.
const FilesMax = 4

// DangerSigns are the signs that are asked of every sick child first, in the order of the page, with their words in English.
var DangerSigns = []Choice{
	{"not-drinking", "Not able to drink or breastfeed"},
	{"vomits-everything", "Vomits everything"},
	{"convulsions", "Convulsions"},
	{"lethargic", "Lethargic or unconscious"},
}

// Problems are the main problems a visit can have. Other stands with ProblemOther.
var Problems = []Choice{
	{"fever", "Fever"},
	{"malaria", "Malaria"},
	{"cough", "Cough"},
	{"pneumonia", "Pneumonia"},
	{"diarrhoea", "Diarrhoea"},
	{"malnutrition", "Malnutrition"},
	{"skin", "Skin problem"},
	{"ear", "Ear problem"},
	{"wound", "Wound or injury"},
	{"pregnancy", "Pregnancy check"},
	{"pain", "Pain"},
	{"hypertension", "High blood pressure"},
	{"diabetes", "Diabetes"},
	{"checkup", "Check-up"},
	{"other", "Other"},
}

// Choice is one answer of a closed question: what is stored, and its words in English. Pages translate by the code.
type Choice struct{ Code, Label string }

func labelOf(choices []Choice, code string) (string, bool) {
	for _, c := range choices {
		if c.Code == code {
			return c.Label, true
		}
	}
	return "", false
}

var rdtResults = []struct {
	word, code, label string // code of http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation
}{{"positive", "POS", "Positive"}, {"negative", "NEG", "Negative"}, {"invalid", "IND", "Indeterminate"}}

const (
	longTextSizeMax = 2000
	returnDaysMax   = 366
)

// reading gives the text typed for a measure.
func (v *Visit) reading(field string) string {
	switch field {
	case "temperature":
		return v.Temperature
	case "breaths":
		return v.Breaths
	case "weight":
		return v.Weight
	case "muac":
		return v.MUAC
	case "height":
		return v.Height
	case "systolic":
		return v.Systolic
	case "diastolic":
		return v.Diastolic
	case "pulse":
		return v.Pulse
	case "spo2":
		return v.SpO2
	}
	return ""
}

// Validate lists what is impossible (refused) and what is unusual (Soft: asked about).
func (v Visit) Validate() []FieldError {
	var errs []FieldError
	if v.At.IsZero() || v.At.Year() < 1850 || v.At.Year() > 9999 {
		errs = append(errs, FieldError{Field: "at", Code: CodeDate})
	}
	for i, sign := range v.DangerSigns {
		if _, ok := labelOf(DangerSigns, sign); !ok || slices.Contains(v.DangerSigns[:i], sign) {
			errs = append(errs, FieldError{Field: "dangerSigns", Code: CodeChoice})
			break
		}
	}
	for _, m := range Measures {
		errs = append(errs, m.check(v.reading(m.Field))...)
	}
	errs = append(errs, v.checkPressure()...)
	if v.RDT != "" && !slices.ContainsFunc(rdtResults[:], func(r struct{ word, code, label string }) bool { return r.word == v.RDT }) {
		errs = append(errs, FieldError{Field: "rdt", Code: CodeChoice})
	}
	errs = append(errs, v.checkTexts()...)
	if v.ReturnIn != "" {
		if _, ok := v.returnDay(); !ok {
			errs = append(errs, FieldError{Field: "returnIn", Code: CodeDate})
		}
	}
	if _, ok := TopicsOfWords(v.Topics); !ok || len(v.Topics) > len(topicTerms) {
		errs = append(errs, FieldError{Field: "topics", Code: CodeChoice})
	}
	if len(v.Files) > FilesMax {
		errs = append(errs, FieldError{Field: "files", Code: CodeChoice})
	}
	if v.empty() {
		errs = append(errs, FieldError{Field: "problem", Code: CodeEmptyForm})
	}
	return errs
}

func (v *Visit) checkPressure() []FieldError {
	switch {
	case v.Systolic == "" && v.Diastolic != "":
		return []FieldError{{Field: "systolic", Code: CodePair, Args: []string{"diastolic"}}}
	case v.Systolic != "" && v.Diastolic == "":
		return []FieldError{{Field: "diastolic", Code: CodePair, Args: []string{"systolic"}}}
	}
	s, okS := Decimal(v.Systolic)
	d, okD := Decimal(v.Diastolic)
	if okS && okD && CompareDecimal(s, d) <= 0 {
		return []FieldError{{Field: "systolic", Code: CodePressure}}
	}
	return nil
}

func (v *Visit) checkTexts() []FieldError {
	var errs []FieldError
	if _, ok := labelOf(Problems, v.Problem); v.Problem != "" && !ok {
		errs = append(errs, FieldError{Field: "problem", Code: CodeChoice})
	}
	if v.Problem == "other" && strings.TrimSpace(v.ProblemOther) == "" {
		errs = append(errs, FieldError{Field: "problemOther", Code: CodeRequired})
	}
	errs = append(errs, checkText("problemOther", v.ProblemOther, textSizeMax, false)...)
	errs = append(errs, checkText("allergy", v.Allergy, textSizeMax, false)...)
	errs = append(errs, checkText("treatment", v.Treatment, longTextSizeMax, true)...)
	errs = append(errs, checkText("note", v.Note, longTextSizeMax, true)...)
	return append(errs, checkText("advice", v.Advice, longTextSizeMax, true)...)
}

// returnDay is the day to come back, as an R4 date.
func (v *Visit) returnDay() (string, bool) {
	if len(v.ReturnIn) == len("2006-01-02") && isDate(v.ReturnIn) {
		return v.ReturnIn, v.ReturnIn >= v.At.Format(time.DateOnly)
	}
	days, err := strconv.Atoi(v.ReturnIn)
	if err != nil || days < 1 || days > returnDaysMax {
		return "", false
	}
	return v.At.AddDate(0, 0, days).Format(time.DateOnly), true
}

func (v *Visit) empty() bool {
	for _, m := range Measures {
		if v.reading(m.Field) != "" {
			return false
		}
	}
	return len(v.DangerSigns)+len(v.Files) == 0 && !v.Urgent &&
		strings.TrimSpace(v.RDT+v.Problem+v.ProblemOther+v.Treatment+v.Note+v.Advice+v.ReturnIn+v.Allergy) == ""
}

// Resources is the visit as R4 resources, the Encounter first. patientID is the id of the Patient, or a whole reference when it holds a
// '/' or ':'; author is the name shown as who did it. The Encounter is referred to in the same way as the patient. It fails on what
// Validate refuses.
func (v Visit) Resources(rand io.Reader, patientID, author string) ([]Resource, error) {
	if err := firstHard(v.Validate()); err != nil {
		return nil, err
	}
	ids, err := newIDRun(rand)
	if err != nil {
		return nil, err
	}
	topics, _ := TopicsOfWords(v.Topics) // as Validate saw
	w := visitWriter{visit: &v, topics: topics, ids: ids, at: v.At.Format(time.RFC3339), author: strings.TrimSpace(author), patient: patientID}
	style := "Encounter/"
	if strings.HasPrefix(patientID, "urn:uuid:") {
		style = "urn:uuid:"
	}
	if !strings.ContainsAny(patientID, "/:") {
		w.patient = "Patient/" + patientID
	}
	w.encounter(style)
	w.danger()
	w.measures()
	w.rdt()
	w.texts()
	w.problem()
	w.treatment()
	w.allergy()
	w.comeBack()
	w.files()
	if w.err != nil {
		return nil, w.err
	}
	return w.out, nil
}
