package policy

import (
	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// Ask is one question.
type Ask struct {
	Staff   string // id of who asks
	Roles   Roles
	Action  Action
	Patient string // compartment, for actions about one
	Box     string // what the box is for: "clinic", "hub", "field", "standalone"
}

// Verdict is the answer.
type Verdict struct {
	Allowed bool
	Rules   []string // that decided, by their ids in the order of their text; none when no rule covers it
}

const (
	groupPatient = "patient"
	groupBox     = "box"
)

// Decide answers. It never fails: what cannot be evaluated is refused.
func (r *Rules) Decide(q Ask) Verdict {
	who := entity("Staff", q.Staff)
	act := entity("Action", string(q.Action))
	what, group := entity("Box", q.Box), groupBox
	if q.Action.OnPatient() {
		what, group = entity("Patient", q.Patient), groupPatient
	}
	roles := make([]cedar.EntityUID, len(q.Roles))
	for i, x := range q.Roles {
		roles[i] = entity("Role", string(x))
	}
	got, why := cedar.Authorize(r, entities{
		{UID: who, Parents: cedar.NewEntityUIDSet(roles...)},
		{UID: act, Parents: cedar.NewEntityUIDSet(entity("Action", group))},
		{UID: what},
	}, cedar.Request{
		Principal: who, Action: act, Resource: what,
		Context: cedar.NewRecord(cedar.RecordMap{"box": cedar.String(q.Box)}),
	})
	v := Verdict{Allowed: got == cedar.Allow && len(why.Errors) == 0}
	for _, x := range why.Reasons {
		v.Rules = append(v.Rules, string(x.PolicyID))
	}
	if len(why.Errors) > 0 {
		v.Rules = nil
		for _, x := range why.Errors {
			v.Rules = append(v.Rules, string(x.PolicyID))
		}
	}
	return v
}

func entity(kind, id string) cedar.EntityUID {
	return cedar.NewEntityUID(cedar.EntityType(kind), cedar.String(id))
}

// entities are the few that a question speaks of.
type entities [3]types.Entity

// Get finds one of them.
func (e entities) Get(id types.EntityUID) (types.Entity, bool) {
	for i := range e {
		if e[i].UID == id {
			return e[i], true
		}
	}
	return types.Entity{}, false
}
