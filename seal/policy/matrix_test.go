package policy_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/seal/policy"
)

// mayDo is what each role may do, written down a second time and by hand: the rules are held to this, and
// this is held to nothing but what was meant.
var mayDo = map[policy.Role]string{
	policy.Nurse:         "identify view write amend retract give review consent emergency find register prove links carry",
	policy.Clinician:     "identify view write amend retract give review consent emergency recover find register prove links carry",
	policy.Pharmacist:    "identify view find prove links carry",
	policy.HealthWorker:  "identify view write amend emergency find register prove links carry",
	policy.Registrar:     "identify amend find register links carry",
	policy.Auditor:       "identify review oversee find prove links carry",
	policy.Administrator: "recover erase staff oversee links carry",
}

// relations are how a patient's chart stands to a box, and whether that closes it.
var relations = map[string]struct {
	set    func(q *policy.Ask)
	closes bool
}{
	"open to all":            {func(*policy.Ask) {}, false},
	"home of a limited one":  {func(q *policy.Ask) { q.Limited, q.Home = true, true }, false},
	"limited, elsewhere":     {func(q *policy.Ask) { q.Limited = true }, true},
	"granted for a week":     {func(q *policy.Ask) { q.Limited, q.Grant = true, policy.Grant{ID: "g1", Until: q.Time + 7*day} }, false},
	"granted without end":    {func(q *policy.Ask) { q.Limited, q.Grant = true, policy.Grant{ID: "g1"} }, false},
	"granted until now":      {func(q *policy.Ask) { q.Limited, q.Grant = true, policy.Grant{ID: "g1", Until: q.Time} }, true},
	"granted until last day": {func(q *policy.Ask) { q.Limited, q.Grant = true, policy.Grant{ID: "g1", Until: q.Time - day} }, true},
	"home, grant over": {func(q *policy.Ask) {
		q.Limited, q.Home, q.Grant = true, true, policy.Grant{ID: "g1", Until: q.Time - day}
	}, false},
}

// TestMatrix asks every role, alone and with each other, for every action, in every relation of box and
// patient, on every kind of box.
func TestMatrix(t *testing.T) {
	var sets []policy.Roles
	for i, a := range policy.RoleNames {
		sets = append(sets, policy.Roles{a})
		for _, b := range policy.RoleNames[i+1:] {
			sets = append(sets, policy.Roles{a, b})
		}
	}
	sets = append(sets, nil, policy.Roles{"matron"}, policy.RoleNames)
	may := func(roles policy.Roles, a policy.Action) bool {
		for _, r := range roles {
			for _, word := range strings.Fields(mayDo[r]) {
				if word == string(a) {
					return true
				}
			}
		}
		return false
	}
	cells, allowed := 0, 0
	for _, roles := range sets {
		if len(roles) == 0 { // nobody who signed in has none; what everybody may do they could
			roles = policy.Roles{}
		}
		for _, action := range append(allActions(), "destroy") {
			for _, box := range []string{"clinic", "hub", "field", "standalone"} {
				for name, relation := range relations {
					q := ask(action, box, roles...)
					q.Purpose, q.Time = policy.Treatment, 1000*day
					relation.set(&q)
					want := may(roles, action)
					if action.OnPatient() && (box == "hub" || relation.closes && action != policy.Identify && action != policy.Emergency && action != policy.Recover) {
						want = false
					}
					if (action == policy.Links || action == policy.Carry) && !want {
						want = true // of whoever signed in, in whatever role
					}
					got := policy.Default().Decide(q)
					if got.Allowed != want {
						t.Errorf("%s as %s at a %s, chart %s: %v by %v, want %v", action, roles, box, name, got.Allowed, got.Rules, want)
					}
					if got.Allowed && len(got.Rules) == 0 {
						t.Errorf("%s as %s at a %s, chart %s: allowed by no rule", action, roles, box, name)
					}
					if cells++; want {
						allowed++
					}
				}
			}
		}
	}
	if t.Logf("%d cells, %d allowed", cells, allowed); cells < 2000 || allowed < 100 || allowed > cells*3/4 {
		t.Errorf("%d cells, %d allowed", cells, allowed)
	}
}
