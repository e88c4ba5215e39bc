package link_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// maker writes made-up FHIR resources of about 1.3 kB: observations more than
// half, then conditions, requests, immunisations and encounters, with random ids,
// times and words, of patients some of whom come far more often than others.
type maker struct {
	*rand.Rand
	patients []string
	often    *rand.Zipf
}

func newMaker(rnd *rand.Rand, patients int) *maker {
	m := &maker{Rand: rnd, often: rand.NewZipf(rnd, 1.1, 4, uint64(patients-1))}
	for range patients {
		m.patients = append(m.patients, m.uuid())
	}
	return m
}

func (m *maker) uuid() string {
	a, b := m.Uint64(), m.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffffffffffff)
}

var noteWords = strings.Fields(`child mother fever cough water night day week clinic village rain road pain chest head belly drinks eats sleeps weak strong
better worse since yesterday morning evening tablets finished needs follow up visit home brought by father walks breathing fast slow normal swollen left right
arm leg skin dry wet rash itching seen not any more given told return bednet spray seeds market school sister brother`)

func (m *maker) words(n int) string {
	var out strings.Builder
	for out.Len() < n {
		out.WriteString(noteWords[m.IntN(len(noteWords))])
		out.WriteByte(' ')
	}
	return strings.TrimSpace(out.String())
}

func (m *maker) when() string {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(m.IntN(300*24*3600)) * time.Second).Format(time.RFC3339)
}

type object = map[string]any

func coded(system, code, display string) object {
	return object{"coding": []object{{"system": system, "code": code, "display": display}}, "text": display}
}

var measured = [][4]string{{"8310-5", "Body temperature", "Cel", "36.%d"}, {"29463-7", "Body weight", "kg", "4%d.5"}, {"8867-4", "Heart rate", "/min", "8%d"},
	{"9279-1", "Respiratory rate", "/min", "2%d"}, {"59408-5", "Oxygen saturation", "%", "9%d"}, {"8480-6", "Systolic blood pressure", "mm[Hg]", "12%d"}}

var diagnosed = [][2]string{{"61462000", "Malaria"}, {"233604007", "Pneumonia"}, {"62315008", "Diarrhoea"}, {"38341003", "Hypertension"}, {"44054006", "Diabetes type 2"}}

// resource makes one of this kind, padded with a note to about 1.3 kB.
func (m *maker) resource(kind, patient, encounter string) object {
	r := object{"resourceType": kind, "id": m.uuid(), "meta": object{"lastUpdated": m.when(), "profile": []string{"http://hl7.org/fhir/StructureDefinition/" + kind}},
		"identifier": []object{{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:" + m.uuid()}}}
	who := object{"reference": "Patient/" + patient}
	r["subject"] = who
	if encounter != "" && kind != "Encounter" {
		r["encounter"] = object{"reference": "Encounter/" + encounter}
	}
	switch kind {
	case "Observation":
		x := measured[m.IntN(len(measured))]
		r["status"], r["effectiveDateTime"], r["code"] = "final", m.when(), coded("http://loinc.org", x[0], x[1])
		r["category"] = []object{coded("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs", "Vital signs")}
		r["valueQuantity"] = object{"value": json.Number(fmt.Sprintf(x[3], m.IntN(10))), "unit": x[2], "system": "http://unitsofmeasure.org", "code": x[2]}
	case "Condition":
		x := diagnosed[m.IntN(len(diagnosed))]
		r["code"], r["recordedDate"] = coded("http://snomed.info/sct", x[0], x[1]), m.when()
		r["clinicalStatus"] = coded("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "Active")
	case "MedicationRequest":
		r["status"], r["intent"], r["authoredOn"] = "active", "order", m.when()
		r["medicationCodeableConcept"] = coded("http://www.whocc.no/atc", "J01CA04", "Amoxicillin")
		r["dosageInstruction"] = []object{{"text": fmt.Sprintf("%d tablets, %d times a day", 1+m.IntN(2), 2+m.IntN(2))}}
	case "Immunization":
		delete(r, "subject")
		r["patient"], r["status"], r["occurrenceDateTime"] = who, "completed", m.when()
		r["vaccineCode"], r["lotNumber"] = coded("http://hl7.org/fhir/sid/cvx", "03", "MMR"), fmt.Sprintf("L%06d", m.IntN(1_000_000))
	case "Encounter":
		r["status"], r["period"] = "finished", object{"start": m.when(), "end": m.when()}
		r["class"] = object{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"}
		if encounter != "" {
			r["id"] = encounter
		}
	}
	text, _ := json.Marshal(r)
	name, note := "note", any([]object{{"text": m.words(1154 + m.IntN(343) - len(text) - 20)}})
	if kind == "Encounter" { // has no note
		name, note = "reasonCode", []object{{"text": m.words(1154 + m.IntN(343) - len(text) - 20)}}
	}
	r[name] = note
	return r
}

var mix = []string{"Observation", "Observation", "Observation", "Observation", "Observation", "Observation", "Condition", "Condition", "MedicationRequest", "MedicationRequest",
	"Observation", "Observation", "Observation", "Observation", "Observation", "Condition", "MedicationRequest", "Immunization", "Immunization", "Encounter"}

func (m *maker) patient() string { return m.patients[m.often.Uint64()] }

func (m *maker) write(tb testing.TB, path string, resources ...object) {
	tb.Helper()
	var out strings.Builder
	for _, r := range resources {
		text, err := json.Marshal(r)
		check(tb, "writing a resource", err)
		out.Write(text)
		out.WriteByte('\n')
	}
	check(tb, "writing a resource", os.WriteFile(path, []byte(out.String()), 0o600))
}

// writePatients writes the patients that the others speak of.
func (m *maker) writePatients(tb testing.TB) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	m.write(tb, filepath.Join(dir, "patients.ndjson"), m.allPatients()...)
	return dir
}

func (m *maker) allPatients() (all []object) {
	for i, id := range m.patients {
		all = append(all, object{"resourceType": "Patient", "id": id, "gender": "female", "birthDate": "1990-01-01", "name": []object{{"family": m.words(6), "given": []string{m.words(6) + fmt.Sprint(i)}}}})
	}
	return all
}

// folderFiles is how many files a box is given to import at once, which has its limit of time.
const folderFiles = 250

// writeSingle writes n files of one resource each: each becomes a record.
func (m *maker) writeSingle(tb testing.TB, n int) (dirs []string) {
	tb.Helper()
	for i := range n {
		if i%folderFiles == 0 {
			dirs = append(dirs, tb.TempDir())
		}
		m.write(tb, filepath.Join(dirs[len(dirs)-1], fmt.Sprintf("%05d.ndjson", i)), m.resource(mix[m.IntN(len(mix))], m.patient(), ""))
	}
	return dirs
}

// writeLoose writes one file of n resources that name no visit, as another system
// gives them out: those of one patient become a record.
func (m *maker) writeLoose(tb testing.TB, n int) (dirs []string) {
	tb.Helper()
	dir := tb.TempDir()
	var all []object
	for range n {
		kind := mix[m.IntN(len(mix)-1)] // an encounter would be a visit
		all = append(all, m.resource(kind, m.patient(), ""))
	}
	m.write(tb, filepath.Join(dir, "all.ndjson"), all...)
	return []string{dir}
}

// writeVisits writes n files of ten resources each, an encounter and what belongs
// to it: each becomes a record.
func (m *maker) writeVisits(tb testing.TB, n int) (dirs []string) {
	tb.Helper()
	dir := tb.TempDir()
	for i := range n {
		patient, encounter := m.patient(), m.uuid()
		all := []object{m.resource("Encounter", patient, encounter)}
		for range 9 {
			all = append(all, m.resource(mix[m.IntN(len(mix)-1)], patient, encounter))
		}
		m.write(tb, filepath.Join(dir, fmt.Sprintf("%05d.ndjson", i)), all...)
	}
	return []string{dir}
}

// writeAll writes one file with the patients and n resources.
func (m *maker) writeAll(tb testing.TB, n int) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "all.ndjson")
	all := m.allPatients()
	for range n {
		all = append(all, m.resource(mix[m.IntN(len(mix))], m.patient(), ""))
	}
	m.write(tb, path, all...)
	return path
}
