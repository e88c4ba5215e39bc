package policy_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/seal/policy"
)

// places are how a chart and its topic stand to a box, in the words of the table.
var places = []struct {
	name string
	set  func(*policy.Ask)
	seen string // by whom, written down by hand: the role's first letters, m for medicines only
}{
	{"home", func(q *policy.Ask) { q.Home = true }, "nurse clinician pharmacist:m"},
	{"home of a limit", func(q *policy.Ask) { q.Home, q.Limited = true, true }, "nurse clinician pharmacist:m"},
	{"elsewhere", func(*policy.Ask) {}, ""},
	{"elsewhere, limited", func(q *policy.Ask) { q.Limited = true }, ""},
	{"permission that names it", func(q *policy.Ask) { q.Grant = policy.Grant{ID: "g1", Until: q.Time + day} }, "nurse clinician health_worker pharmacist:m"},
	{"the same, limited", func(q *policy.Ask) { q.Limited, q.Grant = true, policy.Grant{ID: "g1"} }, "nurse clinician health_worker pharmacist:m"},
	{"permission that ended", func(q *policy.Ask) { q.Grant = policy.Grant{ID: "g1", Until: q.Time} }, ""},
}

func topicAsk(role policy.Role, topic string, medicine bool) policy.Ask {
	q := ask(policy.Sensitive, "clinic", role)
	q.Purpose, q.Time, q.Topic, q.Medicine = policy.Treatment, 100*day, topic, medicine
	return q
}

// TestTopicsTable asks each role at each place for each topic, and holds docs/ACCESS.md to the answers.
func TestTopicsTable(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ACCESS.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| topics |")
	for _, r := range policy.RoleNames {
		fmt.Fprintf(&table, " %s |", strings.ReplaceAll(string(r), "_", " "))
	}
	table.WriteString("\n|---|" + strings.Repeat("---|", len(policy.RoleNames)) + "\n")
	for _, p := range places {
		fmt.Fprintf(&table, "| %s |", p.name)
		for _, r := range policy.RoleNames {
			var seen [2]bool // all, medicines
			for _, topic := range []string{"hiv", "sexual", "mental"} {
				for i, medicine := range []bool{false, true} {
					q := topicAsk(r, topic, medicine)
					p.set(&q)
					seen[i] = policy.Default().Decide(q).Allowed
				}
				words := strings.Fields(p.seen)
				if all := slices.Contains(words, string(r)); seen[0] != all || seen[1] != (all || slices.Contains(words, string(r)+":m")) {
					t.Errorf("%s of %s as %s: all %v, medicines %v", topic, p.name, r, seen[0], seen[1])
				}
			}
			switch {
			case seen[0]:
				table.WriteString(" yes |")
			case seen[1]:
				table.WriteString(" medicines |")
			default:
				table.WriteString(" |")
			}
		}
		table.WriteByte('\n')
	}
	if !strings.Contains(string(doc), table.String()) {
		t.Errorf("docs/ACCESS.md does not hold the table that the default rules give:\n%s", table.String())
	}
}

// TestPurposesNeedAPermission: whatever somebody may do for treatment, for anything else it takes the
// patient's word for that, at home too.
func TestPurposesNeedAPermission(t *testing.T) {
	asks := map[string]policy.Ask{"a file": {Action: policy.Export, Patient: patient, Box: "clinic"}, "a file of a topic": {Action: policy.Sensitive, Patient: patient, Box: "clinic", Topic: "hiv"},
		"a nurse's view": ask(policy.View, "clinic", policy.Nurse), "a file on a hub": {Action: policy.Export, Patient: patient, Box: "hub"}}
	for name, q := range asks {
		q.Time, q.Home = 100*day, true
		for _, purpose := range []string{"", "treatment", "payment", "research", "report", "profit"} {
			q.Purpose, q.Grant = purpose, policy.Grant{}
			treat := purpose == "" || purpose == policy.Treatment
			if v := policy.Default().Decide(q); v.Allowed != treat || !treat && !slices.Contains(v.Rules, "purpose") {
				t.Errorf("%s for %q: %+v", name, purpose, v)
			}
			for until, want := range map[int64]bool{0: true, q.Time + 1: true, q.Time: treat} {
				q.Grant = policy.Grant{ID: "g1", Until: until}
				if v := policy.Default().Decide(q); v.Allowed != want || want && (v.Grant == q.Grant) == treat {
					t.Errorf("%s for %q with a permission until %d: %+v", name, purpose, until, v)
				}
			}
		}
	}
	for _, r := range policy.RoleNames {
		q := ask(policy.Export, "clinic", r)
		if v := policy.Default().Decide(q); v.Allowed {
			t.Errorf("%s writes charts to a file: %+v", r, v)
		}
	}
}

// TestRulesFromBeforeTopics: a region's text that does not speak of topics leaves them to the program's rules,
// one that does decides itself.
func TestRulesFromBeforeTopics(t *testing.T) {
	before, err := policy.Compile([]byte(`@id("all") permit (principal, action, resource);`))
	if err != nil {
		t.Fatal(err)
	}
	after, err := policy.Compile([]byte(`@id("all") permit (principal, action, resource);
@id("none") forbid (principal, action in [Action::"sensitive", Action::"export"], resource);`))
	if err != nil {
		t.Fatal(err)
	}
	q := topicAsk(policy.Nurse, "hiv", false)
	if v := before.Decide(q); v.Allowed {
		t.Errorf("elsewhere, by the older text: %+v", v)
	}
	q.Home = true
	if v := before.Decide(q); !v.Allowed || !slices.Equal(v.Rules, []string{"topics"}) {
		t.Errorf("at home, by the older text: %+v", v)
	}
	if v := after.Decide(q); v.Allowed || !slices.Equal(v.Rules, []string{"none"}) {
		t.Errorf("at home, by a text that says no: %+v", v)
	}
	if v := before.Decide(ask(policy.View, "clinic", policy.Nurse)); !slices.Equal(v.Rules, []string{"all"}) {
		t.Errorf("what the older text speaks of: %+v", v)
	}
}

func BenchmarkDecideTopic(b *testing.B) {
	q := topicAsk(policy.Clinician, "hiv", false)
	q.Grant = policy.Grant{ID: "g1"}
	for b.Loop() {
		policy.Default().Decide(q)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
}
