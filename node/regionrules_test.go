package node_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/seal/policy"
)

// TestRulesOfTheLedger: what the hubs voted for counts on a clinic, also after a restart; the text
// that cannot be read is not voted for, and one that passed somewhere else leaves the older in force.
func TestRulesOfTheLedger(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Kibuye")
	patient := c.register("form-1", "Nakato")
	if now, err := c.n.RegionRules(); err != nil || !now.Default || now.Text != string(policy.DefaultText()) {
		t.Fatalf("before any vote: %+v, %v", now, err)
	}
	text := string(policy.DefaultText()) + `
@id("no-charts-today") forbid (principal, action == Action::"view", resource);`
	for name, bad := range map[string]string{"prose": "nurses see everything", "nothing": "", "far too long": text + strings.Repeat(" ", 64<<10)} {
		if _, err := hub.n.SetRules(t.Context(), []byte(bad)); err == nil {
			t.Errorf("a vote for %s", name)
		}
	}
	if _, err := c.n.SetRules(t.Context(), []byte(text)); err == nil {
		t.Error("a clinic votes")
	}
	if v, err := hub.n.SetRules(t.Context(), []byte(text)); err != nil || !v.Passed {
		t.Fatalf("the only hub's vote: %+v, %v", v, err)
	}
	if _, err := hub.n.SetRules(t.Context(), []byte(text)); err == nil {
		t.Error("a vote for what is in force")
	}
	inForce := func(node.Status) bool {
		now, err := c.n.RegionRules()
		return err == nil && !now.Default && now.Text == text && now.Seq > 0
	}
	c.until("the rules", inForce)
	opens := func() bool {
		v, err := c.n.Open(t.Context(), c.token, patient)
		if err != nil {
			t.Fatal(err)
		}
		return !v.Limited
	}
	closed := func(when string) {
		t.Helper()
		if opens() {
			t.Errorf("%s: the chart opens", when)
		}
	}
	closed("as they came")
	if err := hub.n.PublishUnread(t.Context(), "nurses see everything"); err != nil {
		t.Fatal(err)
	}
	c.until("rules that it cannot read", func(node.Status) bool {
		now, err := c.n.RegionRules()
		return err == nil && now.Newer == 1 && now.Reason != "" && now.Text == text
	})
	closed("with newer ones that cannot be read")
	c.stop()
	c.start()
	c.signIn()
	closed("after a restart")
	if v, err := hub.n.SetRules(t.Context(), policy.DefaultText()); err != nil || !v.Passed {
		t.Fatalf("the way back: %+v, %v", v, err)
	}
	c.until("the rules of before", func(node.Status) bool { return opens() })
}
