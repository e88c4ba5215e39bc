package record_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/record"
)

func (b *box) rules(text string) record.Record {
	return b.write(record.LaneControl, record.KindRules, record.CompartmentID{}, []byte(text))
}

// inForce is the name of the newest rules, and how many are listed.
func (g *region) inForce(t testing.TB) (name []byte, listed int) {
	t.Helper()
	list, err := record.RulesOf(g)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return nil, 0
	}
	return list[len(list)-1].Name, len(list)
}

func TestRulesPassByVotes(t *testing.T) {
	g := newRegion(t)
	passed := func(text string) bool {
		name, _ := g.inForce(t)
		want := sha256.Sum256([]byte(text))
		return bytes.Equal(name, want[:])
	}
	g.mustOrder(t, g.hubs[0].rules("one"))
	if _, n := g.inForce(t); n != 0 || len(g.proposals(t)) != 1 {
		t.Fatalf("one hub of three: %d rules, %d proposals", n, len(g.proposals(t)))
	}
	g.mustOrder(t, g.hubs[0].rules("another"), g.hubs[1].rules("one")) // the first hub thought again
	if _, n := g.inForce(t); n != 0 {
		t.Fatal("votes of one hub each for two texts passed")
	}
	g.mustOrder(t, g.hubs[0].recovery(1, g.hubs[0])) // a vote about something else
	at := g.Size()
	g.mustOrder(t, g.hubs[2].rules("one"))
	if list, err := record.RulesOf(g); err != nil || !passed("one") || list[0].Seq != at {
		t.Fatalf("two hubs of three: %+v, %v", list, err)
	}
	if n := len(g.proposals(t)); n != 1 { // that about the recovery keys
		t.Errorf("%d proposals are open, want 1", n)
	}
	g.mustOrder(t, g.hubs[1].rules("one")) // late
	for i := range 12 {
		text := fmt.Sprint("rules ", i)
		g.mustOrder(t, g.hubs[i%3].rules(text), g.hubs[(i+1)%3].rules(text))
		if !passed(text) {
			t.Fatalf("%s did not pass", text)
		}
	}
	if _, n := g.inForce(t); n != 8 {
		t.Errorf("%d rules are listed, want the last 8", n)
	}
}

// TestRulesAreOrderedWhateverTheySay: a hub of an earlier release orders every record of the kind, so this one
// must too: hubs of two releases in one region have one ledger. What breaks the rules has no effect.
func TestRulesAreOrderedWhateverTheySay(t *testing.T) {
	g := newRegion(t)
	for name, r := range map[string]record.Record{
		"by a clinic":           g.clinics[0].rules("one"),
		"that are empty":        g.hubs[0].rules(""),
		"that are no text":      g.hubs[1].rules("\xff\xfe"),
		"that are far too long": g.hubs[2].rules(strings.Repeat("a", record.RulesTextMax+1)),
	} {
		if got := g.order(t, startMillis+int64(g.Size())*1000, r); got[0].Verdict != record.Ordered {
			t.Errorf("rules %s: %v, want Ordered", name, got[0].Verdict)
		}
	}
	if _, n := g.inForce(t); n != 0 || len(g.proposals(t)) != 0 {
		t.Errorf("%d rules, %d proposals", n, len(g.proposals(t)))
	}
}
