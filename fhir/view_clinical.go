package fhir

// Encounter is one visit.
type Encounter struct {
	Status, Class string
	Type, Reason  Concept
	Start, End    string
	Author        string // the first participant's name
	Place         string
	Urgent        bool
}

// Encounter reads the view of an Encounter.
func (r Resource) Encounter() Encounter {
	v := r.tree()
	class := v.get("class")
	e := Encounter{Status: v.get("status").text, Class: class.get("code").text, Type: conceptOf(v.get("type")),
		Reason: conceptOf(v.get("reasonCode")), Start: v.at("period", "start").text, End: v.at("period", "end").text,
		Author: v.at("participant", "individual", "display").text, Place: v.at("serviceProvider", "display").text}
	for _, k := range conceptOf(v.get("priority")).Codings {
		e.Urgent = e.Urgent || k.Code == "UR" || k.Code == "EM" || k.Code == "S"
	}
	e.Urgent = e.Urgent || e.Class == "EMER"
	return e
}

// Component is one part of an Observation.
type Component struct {
	Code     Concept
	Value    string
	Quantity Quantity
}

// Observation is one finding or measurement.
type Observation struct {
	Status     string
	Category   string // code of the first category
	Code       Concept
	Value      string // as shown, whatever its type
	Quantity   Quantity
	Effective  string
	Components []Component
	Encounter  string // reference text
	Note       string
}

// Observation reads the view of an Observation.
func (r Resource) Observation() Observation {
	v := r.tree()
	o := Observation{Status: v.get("status").text, Category: v.at("category", "coding", "code").text, Code: conceptOf(v.get("code")),
		Value: choiceOf(v, "value"), Quantity: quantityOf(v.get("valueQuantity")), Effective: dateOf(v), Encounter: encounterOf(v),
		Note: v.at("note", "text").text}
	if o.Value == "" {
		o.Value = conceptOf(v.get("dataAbsentReason")).Text
	}
	for _, c := range v.get("component").list() {
		o.Components = append(o.Components, Component{conceptOf(c.get("code")), choiceOf(c, "value"), quantityOf(c.get("valueQuantity"))})
	}
	return o
}

// Measure finds which of Measures the Observation is, by its LOINC code.
func (o Observation) Measure() (Measure, bool) {
	for _, k := range o.Code.Codings {
		for _, m := range Measures {
			if k.System == systemLOINC && k.Code == m.LOINC {
				return m, true
			}
		}
	}
	return Measure{}, false
}

// Condition is one problem.
type Condition struct {
	Code         Concept
	Clinical     string // active, recurrence, relapse, inactive, remission, resolved or ""
	Verification string
	Onset        string
	Abatement    string
	Recorded     string
	Encounter    string
}

// Condition reads the view of a Condition.
func (r Resource) Condition() Condition {
	v := r.tree()
	return Condition{Code: conceptOf(v.get("code")), Clinical: v.at("clinicalStatus", "coding", "code").text,
		Verification: v.at("verificationStatus", "coding", "code").text, Onset: choiceOf(v, "onset"), Abatement: choiceOf(v, "abatement"),
		Recorded: v.get("recordedDate").text, Encounter: encounterOf(v)}
}

// Active says whether the problem is a present one: no status counts as present.
func (c Condition) Active() bool {
	switch c.Clinical {
	case "inactive", "remission", "resolved":
		return false
	}
	return c.Abatement == "" && c.Verification != "refuted" && c.Verification != "entered-in-error"
}

// MedicationRequest is one medicine ordered.
type MedicationRequest struct {
	Status    string
	Medicine  Concept // of the code; empty when Reference is set
	Reference string  // medicationReference
	Dosage    string  // text of the dosage instructions, or a reading of the first
	Authored  string
	Encounter string
}

// MedicationRequest reads the view of a MedicationRequest.
func (r Resource) MedicationRequest() MedicationRequest {
	v := r.tree()
	m := MedicationRequest{Status: v.get("status").text, Medicine: conceptOf(v.get("medicationCodeableConcept")),
		Reference: referenceOf(v.get("medicationReference"), "Medication"), Authored: v.get("authoredOn").text, Encounter: encounterOf(v)}
	if m.Medicine.Text == "" {
		m.Medicine.Text = v.at("medicationReference", "display").text
	}
	for _, d := range v.get("dosageInstruction").list() {
		text := d.get("text").text
		if text == "" {
			text = quantityOf(d.at("doseAndRate", "doseQuantity")).String()
		}
		if text != "" && m.Dosage != "" {
			m.Dosage += "; "
		}
		m.Dosage += text
	}
	return m
}

// Active says whether the order stands.
func (m MedicationRequest) Active() bool { return m.Status == "active" || m.Status == "on-hold" }

// AllergyIntolerance is one allergy.
type AllergyIntolerance struct {
	Code         Concept
	Clinical     string // active, inactive, resolved or ""
	Verification string
	Criticality  string
	Category     string
	Reaction     string // first manifestation
	Recorded     string
}

// AllergyIntolerance reads the view of an AllergyIntolerance.
func (r Resource) AllergyIntolerance() AllergyIntolerance {
	v := r.tree()
	return AllergyIntolerance{Code: conceptOf(v.get("code")), Clinical: v.at("clinicalStatus", "coding", "code").text,
		Verification: v.at("verificationStatus", "coding", "code").text, Criticality: v.get("criticality").text,
		Category: v.get("category").first().text, Reaction: conceptOf(v.at("reaction").get("manifestation")).Text,
		Recorded: v.get("recordedDate").text}
}

// Active says whether the allergy must be shown as one: only what says otherwise is not.
func (a AllergyIntolerance) Active() bool {
	return a.Clinical != "inactive" && a.Clinical != "resolved" && a.Verification != "refuted" && a.Verification != "entered-in-error"
}

// Immunization is one dose given, or not given.
type Immunization struct {
	Status    string // completed, not-done or entered-in-error
	Vaccine   Concept
	Date      string
	Lot       string
	Dose      string // "2" of the series
	Encounter string
}

// Immunization reads the view of an Immunization.
func (r Resource) Immunization() Immunization {
	v := r.tree()
	return Immunization{Status: v.get("status").text, Vaccine: conceptOf(v.get("vaccineCode")), Date: choiceOf(v, "occurrence"),
		Lot: v.get("lotNumber").text, Dose: choiceOf(v.at("protocolApplied"), "doseNumber"), Encounter: encounterOf(v)}
}

// Request is something asked to happen: a ServiceRequest; a visit's "come back" is one.
type Request struct {
	Status     string
	Code       Concept
	Occurrence string // date
	Authored   string
	Encounter  string
}

// ServiceRequest reads the view of a ServiceRequest.
func (r Resource) ServiceRequest() Request {
	v := r.tree()
	return Request{Status: v.get("status").text, Code: conceptOf(v.get("code")), Occurrence: choiceOf(v, "occurrence"),
		Authored: v.get("authoredOn").text, Encounter: encounterOf(v)}
}
