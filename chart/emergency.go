package chart

import (
	"slices"

	"github.com/healthpost/healthpost/fhir"
)

// Emergency is what somebody who is not let into a chart may see when a life depends on it: this, and
// nothing else of it. It holds views and no lines, so that nothing comes along that is not named here.
type Emergency struct {
	Allergies  []fhir.AllergyIntolerance
	NoAllergy  bool // it was asked, and none is known
	Medicines  []fhir.MedicationRequest
	Problems   []fhir.Condition
	Pregnancy  []fhir.Observation // the newest of each code
	Blood      []fhir.Observation // the newest of each different result
	Contacts   []fhir.Contact
	Incomplete bool // as Chart.Incomplete
	Closed     Closed
}

// EmergencyMax is how many entries a list of an Emergency has at most.
const EmergencyMax = 50

// Codes of LOINC.
var (
	pregnancyCodes = []string{"82810-3", "11449-6", "11778-8", "11779-6", "18185-9", "49051-6"}
	bloodCodes     = []string{"882-1", "883-9", "10331-7"}
)

// Emergency is the summary of a chart for an emergency.
func (c *Chart) Emergency() Emergency {
	e := Emergency{NoAllergy: len(c.Allergies) == 0 && len(c.PastAllergies) > 0, Incomplete: c.Incomplete, Closed: c.Closed}
	for i := range c.Allergies[:min(len(c.Allergies), EmergencyMax)] {
		e.Allergies = append(e.Allergies, c.Allergies[i].View)
	}
	for i := range c.Medicines[:min(len(c.Medicines), EmergencyMax)] {
		e.Medicines = append(e.Medicines, c.Medicines[i].View)
	}
	for i := range c.Problems[:min(len(c.Problems), EmergencyMax)] {
		e.Problems = append(e.Problems, c.Problems[i].View)
	}
	if c.Patient != nil {
		e.Contacts = c.Patient.Resource().Contacts()
	}
	for i := range c.Others {
		if c.Others[i].Type == "RelatedPerson" {
			e.Contacts = append(e.Contacts, c.Others[i].Resource().Contacts()...)
		}
	}
	e.Contacts = e.Contacts[:min(len(e.Contacts), EmergencyMax)]
	all := slices.Clone(c.Observations)
	for i := range c.Visits {
		all = append(all, c.Visits[i].Observations...)
	}
	newest(all, func(o Observation) string { return o.View.Effective })
	e.Pregnancy = firstOfEach(all, pregnancyCodes, func(o *fhir.Observation, code string) string { return code })
	e.Blood = firstOfEach(all, bloodCodes, func(o *fhir.Observation, code string) string { return code + " " + o.Value })
	return e
}

// firstOfEach keeps the observations of these codes, the first for each key.
func firstOfEach(all []Observation, codes []string, key func(o *fhir.Observation, code string) string) (out []fhir.Observation) {
	seen := map[string]bool{}
	for i := range all {
		o := &all[i].View
		code := o.Code.LOINC()
		if !slices.Contains(codes, code) || o.Status == "entered-in-error" || o.Status == "cancelled" || seen[key(o, code)] {
			continue
		}
		if seen[key(o, code)] = true; len(out) < EmergencyMax {
			out = append(out, *o)
		}
	}
	return out
}
