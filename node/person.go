package node

import (
	"strings"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// A number does not make a person: two hospitals that number from 1 both have a
// Patient/1, and cards are copied wrongly. What an import says of a patient whom
// this box knows by a number is weighed against what the box has, because mixing
// two people in one chart harms both. Only an id that is a UUID is taken at its
// word.

// contradictionsMin is how many of family name, given name, birth date and sex
// must differ before a patient is taken for somebody else: one may be corrected.
const contradictionsMin = 2

const otherPersonReason = "a person known here by its patient's number has other names, another birth date or another sex: " +
	"correct the number in the file, or the details on the page, then import again"

// strangers are the patients of a plan, by index, who are plainly not the people
// whom their numbers mean here.
func (n *Node) strangers(plan *fhir.Import) (map[int]bool, error) {
	out := map[int]bool{}
	for _, s := range plan.Saves {
		if s.Patient == fhir.NoPatient || plan.Patients[s.Patient].Known == "" {
			continue
		}
		c, err := record.ParseCompartmentID(plan.Patients[s.Patient].Known)
		if err != nil {
			return nil, err
		}
		for _, r := range s.Resources {
			if r.Type != "Patient" || n.namedByUUID(c, r) {
				continue
			}
			row, ok, err := n.row(c)
			if err != nil {
				return nil, err
			}
			if ok && contradictions(row, r.Patient()) >= contradictionsMin {
				out[s.Patient] = true
			}
		}
	}
	return out, nil
}

func (n *Node) namedByUUID(c record.CompartmentID, r fhir.Resource) bool {
	for _, name := range fhir.ReferenceNames(r) {
		if known, ok := n.resolvePatient(name); ok && strings.HasPrefix(name, "urn:uuid:") && known == c.String() {
			return true
		}
	}
	return false
}

// contradictions counts what differs of what both say.
func contradictions(a chart.Row, b fhir.Patient) int {
	count := 0
	for _, x := range [][2]string{{a.Family, b.Family}, {a.Given, b.Given}, {a.Sex, b.Sex}} {
		if said(x[0]) && said(x[1]) && !strings.EqualFold(strings.TrimSpace(x[0]), strings.TrimSpace(x[1])) {
			count++
		}
	}
	if short := min(len(a.BirthDate), len(b.BirthDate)); short > 0 && a.BirthDate[:short] != b.BirthDate[:short] {
		count++
	}
	return count
}

func said(s string) bool { return strings.TrimSpace(s) != "" && s != "unknown" }
