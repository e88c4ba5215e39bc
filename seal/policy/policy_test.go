package policy_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/seal/policy"
)

const patient = "00112233445566778899aabbccddeeff"

func ask(action policy.Action, box string, roles ...policy.Role) policy.Ask {
	return policy.Ask{Staff: "a1", Roles: roles, Action: action, Patient: patient, Box: box}
}

func allActions() []policy.Action {
	return slices.Concat(policy.PatientActions, policy.BoxActions)
}

// TestDefaultTable holds docs/ACCESS.md to what the default rules answer, cell by cell.
func TestDefaultTable(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ACCESS.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	head := []string{"| may |"}
	for _, r := range policy.RoleNames {
		head = append(head, fmt.Sprintf(" %s |", strings.ReplaceAll(string(r), "_", " ")))
	}
	want.WriteString(strings.Join(head, "") + "\n|---|" + strings.Repeat("---|", len(policy.RoleNames)) + "\n")
	for _, a := range allActions() {
		fmt.Fprintf(&want, "| %s |", a)
		for _, r := range policy.RoleNames {
			cell := " "
			if policy.Default().Decide(ask(a, "clinic", r)).Allowed {
				cell = " yes "
			}
			want.WriteString(cell + "|")
		}
		want.WriteByte('\n')
	}
	if !strings.Contains(string(doc), want.String()) {
		t.Errorf("docs/ACCESS.md does not hold the table that the default rules give:\n%s", want.String())
	}
}

func TestHubsOpenNoCharts(t *testing.T) {
	for _, a := range policy.PatientActions {
		v := policy.Default().Decide(ask(a, "hub", policy.RoleNames...))
		if v.Allowed || !slices.Equal(v.Rules, []string{"no-charts-on-hubs"}) {
			t.Errorf("%s on a hub: %+v", a, v)
		}
	}
}

func TestNothingIsAllowedByItself(t *testing.T) {
	for name, q := range map[string]policy.Ask{
		"no role":        ask(policy.View, "clinic"),
		"unknown role":   ask(policy.View, "clinic", "matron"),
		"unknown action": ask("destroy", "clinic", policy.RoleNames...),
	} {
		if v := policy.Default().Decide(q); v.Allowed || len(v.Rules) != 0 {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestSeveralRolesAddUp: more roles never take a right away, but where a forbid says so.
func TestSeveralRolesAddUp(t *testing.T) {
	for _, a := range allActions() {
		for i, r := range policy.RoleNames {
			for _, other := range policy.RoleNames[i+1:] {
				alone := policy.Default().Decide(ask(a, "clinic", r)).Allowed || policy.Default().Decide(ask(a, "clinic", other)).Allowed
				if both := policy.Default().Decide(ask(a, "clinic", r, other)).Allowed; both != alone {
					t.Errorf("%s as %s and %s: %v, want %v", a, r, other, both, alone)
				}
			}
		}
	}
}

func TestAnswersNameTheirRules(t *testing.T) {
	v := policy.Default().Decide(ask(policy.View, "clinic", policy.Nurse, policy.HealthWorker, policy.Pharmacist))
	if want := []string{"care", "outreach", "dispensary"}; !v.Allowed || !slices.Equal(v.Rules, want) {
		t.Errorf("got %+v, want %v in this order", v, want)
	}
}

func TestErrorsRefuse(t *testing.T) {
	rules, err := policy.Compile([]byte(`@id("all") permit (principal, action, resource);
@id("odd") permit (principal, action, resource) when { context.nothing == 1 };`))
	if err != nil {
		t.Fatal(err)
	}
	if v := rules.Decide(ask(policy.View, "clinic", policy.Nurse)); v.Allowed || !slices.Equal(v.Rules, []string{"odd"}) {
		t.Errorf("a rule that cannot be evaluated gave %+v", v)
	}
}

func TestForbidWins(t *testing.T) {
	rules, err := policy.Compile([]byte(`@id("all") permit (principal, action, resource);
@id("not-here") forbid (principal, action == Action::"carry", resource) when { context.box == "clinic" };`))
	if err != nil {
		t.Fatal(err)
	}
	if v := rules.Decide(ask(policy.Carry, "clinic", policy.Nurse)); v.Allowed || !slices.Equal(v.Rules, []string{"not-here"}) {
		t.Errorf("got %+v", v)
	}
	if v := rules.Decide(ask(policy.Carry, "field", policy.Nurse)); !v.Allowed {
		t.Errorf("elsewhere: %+v", v)
	}
}

func TestCompileRefuses(t *testing.T) {
	one := `@id("a") permit (principal, action, resource);`
	for name, text := range map[string]string{
		"nothing":          "",
		"prose":            "nurses may see everything",
		"no id":            `permit (principal, action, resource);`,
		"empty id":         `@id("") permit (principal, action, resource);`,
		"id with markup":   `@id("<b>") permit (principal, action, resource);`,
		"long id":          `@id("` + strings.Repeat("a", 65) + `") permit (principal, action, resource);`,
		"one id twice":     one + one,
		"too long":         one + strings.Repeat(" ", policy.RulesBytesMax),
		"deep brackets":    `@id("a") permit (principal, action, resource) when { ` + strings.Repeat("(", 40) + "true" + strings.Repeat(")", 40) + ` };`,
		"deep negation":    `@id("a") permit (principal, action, resource) when { ` + strings.Repeat("!", 40) + `true };`,
		"too many":         manyRules(policy.RulesMax + 1),
		"after the end":    one + "}",
		"not UTF-8":        "\xff\xfe",
		"unknown function": `@id("a") permit (principal, action, resource) when { launch("x") };`,
	} {
		if _, err := policy.Compile([]byte(text)); !errors.Is(err, policy.ErrRules) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := policy.Compile([]byte(manyRules(policy.RulesMax))); err != nil {
		t.Errorf("%d rules: %v", policy.RulesMax, err)
	}
}

func manyRules(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "@id(\"r%d\") permit (principal in Role::\"nurse\", action == Action::\"view\", resource);\n", i)
	}
	return b.String()
}

func TestParseRoles(t *testing.T) {
	for text, want := range map[string]string{
		"nurse": "nurse", "administrator, nurse": "nurse,administrator", "nurse,nurse": "nurse",
	} {
		if got, err := policy.ParseRoles(text); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "doctor", "nurse,", "nurse,root", strings.Repeat("nurse ", 9)} {
		if got, err := policy.ParseRoles(text); !errors.Is(err, policy.ErrRole) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func FuzzParseRoles(f *testing.F) {
	f.Add("nurse, administrator")
	f.Add(",")
	f.Fuzz(func(t *testing.T, text string) {
		roles, err := policy.ParseRoles(text)
		if err != nil {
			return
		}
		if again, err := policy.ParseRoles(roles.String()); err != nil || !slices.Equal(again, roles) {
			t.Errorf("%v came back as %v, %v", roles, again, err)
		}
	})
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`@id("a") permit (principal, action, resource);`))
	f.Add([]byte(`@id("a") forbid (principal in Role::"nurse", action in [Action::"view"], resource is Patient) when { context.box like "*" && !(resource.x has y) };`))
	f.Add([]byte(`@id("a") permit (principal, action, resource) when { if principal.a then [1,2].contains(1) else {"a": decimal("1.2")}.a < 2 };`))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := policy.Compile(text)
		if err != nil {
			if !errors.Is(err, policy.ErrRules) {
				t.Errorf("an error of no family: %v", err)
			}
			return
		}
		q := ask(policy.View, "clinic", policy.Nurse, policy.Administrator)
		once, twice := rules.Decide(q), rules.Decide(q)
		if once.Allowed != twice.Allowed || !slices.Equal(once.Rules, twice.Rules) {
			t.Errorf("one question, two answers: %+v, %+v", once, twice)
		}
		if once.Allowed && len(once.Rules) == 0 {
			t.Error("allowed by no rule")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	open, granted := ask(policy.View, "clinic", policy.Nurse), limited(policy.View)
	granted.Grant = policy.Grant{ID: "1234", Until: granted.Time + day}
	for name, of := range map[string]struct {
		rules *policy.Rules
		q     policy.Ask
	}{
		"rules=default": {policy.Default(), open}, "rules=default/granted": {policy.Default(), granted},
		"rules=200": {mustCompile(b, manyRules(policy.RulesMax)), open},
	} {
		b.Run(name, func(b *testing.B) {
			q, rules := of.q, of.rules
			for b.Loop() {
				if !rules.Decide(q).Allowed {
					b.Fatal("refused")
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
		})
	}
}

func mustCompile(tb testing.TB, text string) *policy.Rules {
	tb.Helper()
	rules, err := policy.Compile([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return rules
}
