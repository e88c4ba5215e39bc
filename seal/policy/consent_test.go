package policy_test

import (
	"slices"
	"testing"

	"github.com/healthpost/healthpost/seal/policy"
)

const day = 24 * 60 * 60

// limited is a question about a chart that only some boxes may open.
func limited(action policy.Action) policy.Ask {
	q := ask(action, "clinic", policy.Clinician, policy.Auditor)
	q.Limited, q.Purpose, q.Time = true, policy.Treatment, 100*day
	return q
}

func TestLimitedChartsOpenAtHomeAndByGrant(t *testing.T) {
	always := []policy.Action{policy.Identify, policy.Emergency, policy.Recover}
	for _, a := range policy.PatientActions {
		q := limited(a)
		if a == policy.Erase {
			q.Roles = policy.Roles{policy.Administrator}
		}
		if v := policy.Default().Decide(q); v.Allowed != slices.Contains(always, a) || !v.Allowed && !slices.Equal(v.Rules, []string{"limited"}) {
			t.Errorf("%s elsewhere: %+v", a, v)
		}
		q.Home = true
		if v := policy.Default().Decide(q); !v.Allowed || v.Grant != (policy.Grant{}) {
			t.Errorf("%s at home: %+v", a, v)
		}
		q.Home, q.Grant = false, policy.Grant{ID: "1234"}
		if v := policy.Default().Decide(q); !v.Allowed || (v.Grant == q.Grant) == slices.Contains(always, a) {
			t.Errorf("%s by a grant without end: %+v", a, v)
		}
	}
}

// TestGrantsEnd: to the second, and a grant says until when it allowed.
func TestGrantsEnd(t *testing.T) {
	q := limited(policy.View)
	q.Grant = policy.Grant{ID: "1234", Until: q.Time + 7*day}
	for in, want := range map[int64]bool{0: true, 7*day - 1: true, 7 * day: false, 8 * day: false} {
		at := q
		at.Time += in
		if v := policy.Default().Decide(at); v.Allowed != want || (v.Grant == q.Grant) != want {
			t.Errorf("%d s later: %+v, want %v", in, v, want)
		}
	}
}

// TestGrantsAddNoRole: a patient opens a chart to a box, not to whom the rules leave out.
func TestGrantsAddNoRole(t *testing.T) {
	q := limited(policy.View)
	q.Roles, q.Grant = policy.Roles{policy.Registrar}, policy.Grant{ID: "1234"}
	if v := policy.Default().Decide(q); v.Allowed || len(v.Rules) != 0 {
		t.Errorf("a registrar: %+v", v)
	}
	q.Limited = false
	q.Roles = policy.Roles{policy.Nurse}
	if v := policy.Default().Decide(q); !v.Allowed || v.Grant != (policy.Grant{}) {
		t.Errorf("a chart that is not limited leans on a grant: %+v", v)
	}
}
