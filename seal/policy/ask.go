package policy

import (
	"cmp"
	"slices"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// Ask is one question.
type Ask struct {
	Staff   string // id of who asks; "" for a command of who runs the box
	Roles   Roles
	Action  Action
	Patient string // compartment, for actions about one
	Box     string // what the box is for: "clinic", "hub", "field", "standalone"
	Purpose string // what it is for: Treatment, which "" stands for, or another word of the rules
	Time    int64  // Unix seconds by which grants end

	// What the patient decided, as the chart here says it.
	Limited bool  // only some boxes may open the chart
	Home    bool  // this box is one of those in any case
	Grant   Grant // to this box, for the purpose; the zero value: there is none

	// Of Sensitive. Limited, Home and Grant are then those of the topic.
	Topic    string // that it is about
	Medicine bool   // a medicine of the topic, and nothing else
}

// Grant is a patient's word that a box may open the chart.
type Grant struct {
	ID    string
	Until int64 // Unix seconds, 0 for no end
}

// Treatment is the purpose of whoever works with a patient.
const Treatment = "treatment"

// Verdict is the answer.
type Verdict struct {
	Allowed bool
	Rules   []string // that decided, by their ids in the order of their text; none when no rule covers it
	Grant   Grant    // without which it would have been no; the zero value: none was needed
}

// context is what the rules see besides who, what and whom.
func (q *Ask) context() cedar.Record {
	all := cedar.RecordMap{"box": cedar.String(q.Box), "purpose": cedar.String(cmp.Or(q.Purpose, Treatment)), "time": cedar.Long(q.Time),
		"limited": cedar.Boolean(q.Limited), "home": cedar.Boolean(q.Home)}
	if q.Grant.ID != "" {
		all["grant"] = cedar.NewRecord(cedar.RecordMap{"id": cedar.String(q.Grant.ID), "until": cedar.Long(q.Grant.Until)})
	}
	if q.Action == Sensitive {
		all["topic"], all["medicine"] = cedar.String(q.Topic), cedar.Boolean(q.Medicine)
	}
	return cedar.NewRecord(all)
}

const (
	groupPatient = "patient"
	groupBox     = "box"
)

// Decide answers. It never fails: what cannot be evaluated is refused.
func (r *Rules) Decide(q Ask) Verdict {
	if slices.Contains(r.unheard, q.Action) {
		return Default().Decide(q)
	}
	who := entity("Staff", q.Staff)
	if q.Staff == "" {
		who = entity("Command", "box")
	}
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
		Context: q.context(),
	})
	v := Verdict{Allowed: got == cedar.Allow && len(why.Errors) == 0}
	if without := q; v.Allowed && q.Grant != (Grant{}) {
		without.Grant = Grant{}
		if !r.Decide(without).Allowed {
			v.Grant = q.Grant
		}
	}
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
