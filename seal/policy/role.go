package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrRole: not a role, or a set of roles that nobody may have.
var ErrRole = errors.New("no such role")

// Role is what a person is at a box.
type Role string

// The roles that the default rules know.
const (
	Nurse         Role = "nurse"
	Clinician     Role = "clinician"
	Pharmacist    Role = "pharmacist"
	HealthWorker  Role = "health_worker"
	Registrar     Role = "registrar"
	Auditor       Role = "auditor"
	Administrator Role = "administrator"
)

// RoleNames lists them in the order of pages and tables.
var RoleNames = []Role{Nurse, Clinician, Pharmacist, HealthWorker, Registrar, Auditor, Administrator}

// Roles is what one person is: at least one role, none twice, in the order of RoleNames.
type Roles []Role

// ParseRoles reads roles separated by commas: "nurse,administrator". Spaces around them
// and their order do not matter. The error wraps ErrRole.
func ParseRoles(text string) (Roles, error) {
	var out Roles
	for _, name := range strings.Split(text, ",") {
		r := Role(strings.TrimSpace(name))
		if !slices.Contains(RoleNames, r) {
			return nil, fmt.Errorf("reading roles: %w: choose from %s", ErrRole, Roles(RoleNames))
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Role) int { return slices.Index(RoleNames, a) - slices.Index(RoleNames, b) })
	return out, nil
}

func (r Roles) String() string {
	names := make([]string, len(r))
	for i, x := range r {
		names[i] = string(x)
	}
	return strings.Join(names, ",")
}

// Has reports whether x is among them.
func (r Roles) Has(x Role) bool { return slices.Contains(r, x) }

// Action is one thing that somebody does with a box or a chart.
type Action string

// About one chart.
const (
	Identify Action = "identify" // see who it is: name, age, where from
	View     Action = "view"     // open the chart and what is attached to it
	Write    Action = "write"    // save a visit, with photos and documents
	Amend    Action = "amend"    // change who it is
	Retract  Action = "retract"  // withdraw an item
	Give     Action = "give"     // give the chart to a field device, or take it back
	Review   Action = "review"   // read who looked at the chart
	Erase    Action = "erase"    // have the chart, or a record of it, erased everywhere; a second person agrees
	Consent  Action = "consent"  // see and write down who may read the chart, as the patient decides

	Recover Action = "recover" // open a closed chart with sheets of the region's escrow

	// Emergency opens the summary of a chart that View is refused for, with a reason and a second person.
	Emergency Action = "emergency"
)

// About a part or a copy of one chart, asked besides the actions above.
const (
	Sensitive Action = "sensitive" // see what is kept apart by a sensitive topic
	Export    Action = "export"    // write the chart to a file, for a purpose; a command does this, and no role
)

// LaterActions came after regions had voted for rules. Where a text says nothing of one of them, the rules
// that the program brings decide about it.
var LaterActions = []Action{Sensitive, Export}

// About the box.
const (
	Find     Action = "find"     // look for people by name, see today's lists
	Register Action = "register" // take a new person in
	Prove    Action = "prove"    // print a proof of a record, or the region's root
	Links    Action = "links"    // see links and states, send now, say that a fault was read
	Carry    Action = "carry"    // read and write sticks
	Staff    Action = "staff"    // add people, end their accounts
	Oversee  Action = "oversee"  // see which charts were opened in an emergency, say that this was looked into
)

// PatientActions and BoxActions list them in the order of tables.
var (
	PatientActions = []Action{Identify, View, Write, Amend, Retract, Give, Review, Consent, Emergency, Recover, Erase}
	BoxActions     = []Action{Find, Register, Prove, Links, Carry, Staff, Oversee}
)

// OnPatient reports whether the action is about one chart.
func (a Action) OnPatient() bool {
	return slices.Contains(PatientActions, a) || slices.Contains(LaterActions, a)
}
