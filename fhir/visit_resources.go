package fhir

import (
	"slices"
	"strconv"
	"strings"
)

const (
	systemLOINC      = "http://loinc.org"
	systemUCUM       = "http://unitsofmeasure.org"
	systemTerms      = "http://terminology.hl7.org/CodeSystem/"
	codeBloodPanel   = "85354-9"
	codeRDT          = "70569-9"
	codeNote         = "34109-9"
	codeInstructions = "69730-0"
)

// visitWriter writes the resources of one visit; the first error stops it.
type visitWriter struct {
	visit   *Visit
	topics  Topics
	ids     idRun
	at      string
	author  string
	patient string // reference text
	enc     string // reference text, once the Encounter is written
	out     []Resource
	err     error
}

// add gives o its type and a new id, and checks and keeps it. It returns the id.
func (w *visitWriter) add(typ string, o object) string {
	if w.err != nil {
		return ""
	}
	id := w.ids.next()
	head := object{{"resourceType", typ}, {"id", id}}
	if w.topics != 0 && typ != "AllergyIntolerance" { // which everybody has to see
		head = head.with("meta", w.topics.meta())
	}
	r, err := build(append(head, o...))
	if err != nil {
		w.err = err
		return ""
	}
	w.out = append(w.out, r)
	return id
}

func reference(to string) object { return object{{"reference", to}} }

func coding(system, code, display string) object {
	o := object{{"system", system}, {"code", code}}
	if display != "" {
		o = o.with("display", display)
	}
	return o
}

// concept is a CodeableConcept.
func concept(text string, codings ...any) object {
	o := object{}
	if len(codings) > 0 {
		o = o.with("coding", list(codings))
	}
	if text != "" {
		o = o.with("text", text)
	}
	return o
}

func (w *visitWriter) encounter(style string) {
	o := object{{"status", "finished"}, {"class", coding(systemTerms+"v3-ActCode", "AMB", "ambulatory")}}
	if w.visit.Urgent {
		o = o.with("priority", concept("Urgent", coding(systemTerms+"v3-ActPriority", "UR", "urgent")))
	}
	o = o.with("subject", reference(w.patient))
	if w.author != "" {
		o = o.with("participant", list{object{{"individual", object{{"display", w.author}}}}})
	}
	o = o.with("period", object{{"start", w.at}, {"end", w.at}})
	if text := w.visit.problemText(); text != "" {
		o = o.with("reasonCode", list{w.visit.problemConcept(text)})
	}
	w.enc = style + w.add("Encounter", o)
}

func (v *Visit) problemText() string {
	if other := strings.TrimSpace(v.ProblemOther); other != "" {
		return other
	}
	text, _ := labelOf(Problems, v.Problem)
	return text
}

func (v *Visit) problemConcept(text string) object {
	if v.Problem == "" {
		return concept(text)
	}
	label, _ := labelOf(Problems, v.Problem)
	return concept(text, coding(SystemProblem, v.Problem, label))
}

// observation adds an Observation of the category (vital-signs, exam, laboratory); rest are its value elements.
func (w *visitWriter) observation(category string, code object, rest ...pair) {
	o := object{{"status", "final"}}
	if category != "" {
		o = o.with("category", list{concept("", coding(systemTerms+"observation-category", category, ""))})
	}
	o = append(o, pair{"code", code}, pair{"subject", reference(w.patient)}, pair{"encounter", reference(w.enc)},
		pair{"effectiveDateTime", w.at})
	w.add("Observation", append(o, rest...))
}

func (w *visitWriter) danger() {
	var parts list
	for _, sign := range DangerSigns {
		if slices.Contains(w.visit.DangerSigns, sign.Code) {
			parts = append(parts, object{{"code", concept(sign.Label, coding(SystemDangerSign, sign.Code, sign.Label))}, {"valueBoolean", true}})
		}
	}
	if len(parts) > 0 {
		w.observation("exam", concept("Danger signs", coding(SystemDangerSign, "any", "Danger signs")), pair{"component", parts})
	}
}

func (m Measure) quantity(text string) object {
	d, _ := Decimal(text)
	return object{{"value", digits(d)}, {"unit", m.Unit}, {"system", systemUCUM}, {"code", m.UCUM}}
}

func (m Measure) code() object {
	codes := []any{coding(systemLOINC, m.LOINC, m.Label)}
	if m.Field == "spo2" { // the R4 vital signs profile asks for this one beside the method
		codes = append(codes, coding(systemLOINC, "2708-6", "Oxygen saturation in Arterial blood"))
	}
	return concept(m.Label, codes...)
}

func (w *visitWriter) measures() {
	var pressure list
	for _, m := range Measures {
		text := w.visit.reading(m.Field)
		switch {
		case text == "":
		case m.Field == "systolic":
			pressure = append(pressure, object{{"code", m.code()}, {"valueQuantity", m.quantity(text)}})
		case m.Field == "diastolic":
			pressure = append(pressure, object{{"code", m.code()}, {"valueQuantity", m.quantity(text)}})
			panel := concept("Blood pressure", coding(systemLOINC, codeBloodPanel, "Blood pressure panel with all children optional"))
			w.observation("vital-signs", panel, pair{"component", pressure})
		default:
			w.observation("vital-signs", m.code(), pair{"valueQuantity", m.quantity(text)})
		}
	}
}

func (w *visitWriter) rdt() {
	for _, r := range rdtResults {
		if r.word == w.visit.RDT {
			code := coding(systemLOINC, codeRDT, "Plasmodium sp Ag [Identifier] in Blood by Rapid immunoassay")
			result := concept(r.label, coding(systemTerms+"v3-ObservationInterpretation", r.code, r.label))
			w.observation("laboratory", concept("Malaria rapid test", code), pair{"valueCodeableConcept", result})
		}
	}
}

func (w *visitWriter) texts() {
	if note := strings.TrimSpace(w.visit.Note); note != "" {
		w.observation("exam", concept("Note", coding(systemLOINC, codeNote, "Note")), pair{"valueString", note})
	}
	if advice := strings.TrimSpace(w.visit.Advice); advice != "" {
		w.observation("therapy", concept("Advice", coding(systemLOINC, codeInstructions, "Instructions")), pair{"valueString", advice})
	}
}

func (w *visitWriter) problem() {
	text := w.visit.problemText()
	if text == "" {
		return
	}
	w.add("Condition", object{
		{"clinicalStatus", concept("", coding(systemTerms+"condition-clinical", "active", ""))},
		{"verificationStatus", concept("", coding(systemTerms+"condition-ver-status", "provisional", ""))},
		{"category", list{concept("", coding(systemTerms+"condition-category", "encounter-diagnosis", ""))}},
		{"code", w.visit.problemConcept(text)},
		{"subject", reference(w.patient)}, {"encounter", reference(w.enc)}, {"recordedDate", w.at}})
}

func (w *visitWriter) treatment() {
	if text := strings.TrimSpace(w.visit.Treatment); text != "" {
		w.add("MedicationRequest", object{{"status", "active"}, {"intent", "order"}, {"medicationCodeableConcept", concept(text)},
			{"subject", reference(w.patient)}, {"encounter", reference(w.enc)}, {"authoredOn", w.at}})
	}
}

func (w *visitWriter) allergy() {
	if text := strings.TrimSpace(w.visit.Allergy); text != "" {
		w.add("AllergyIntolerance", object{
			{"clinicalStatus", concept("", coding(systemTerms+"allergyintolerance-clinical", "active", ""))},
			{"verificationStatus", concept("", coding(systemTerms+"allergyintolerance-verification", "unconfirmed", ""))},
			{"code", concept(text)}, {"patient", reference(w.patient)}, {"encounter", reference(w.enc)}, {"recordedDate", w.at}})
	}
}

func (w *visitWriter) comeBack() {
	if day, ok := w.visit.returnDay(); ok {
		w.add("ServiceRequest", object{{"status", "active"}, {"intent", "plan"}, {"code", concept("Come back")},
			{"subject", reference(w.patient)}, {"encounter", reference(w.enc)}, {"occurrenceDateTime", day}, {"authoredOn", w.at}})
	}
}

func (w *visitWriter) files() {
	for _, f := range w.visit.Files {
		kind := "Document"
		if strings.HasPrefix(f.Type, "image/") {
			kind = "Photo"
		}
		a := object{{"contentType", f.Type}, {"data", f.Hash.text()}, {"size", digits(strconv.Itoa(f.Size))}}
		if f.Title != "" {
			a = a.with("title", f.Title)
		}
		o := object{{"status", "current"}, {"type", concept(kind)}, {"subject", reference(w.patient)}, {"date", w.at}}
		if w.author != "" {
			o = o.with("author", list{object{{"display", w.author}}})
		}
		w.add("DocumentReference", append(o, pair{"content", list{object{{"attachment", a.with("creation", w.at)}}}},
			pair{"context", object{{"encounter", list{reference(w.enc)}}}}))
	}
}
