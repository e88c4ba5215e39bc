package node_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
)

// sheets agrees recovery sheets in the region of a lone hub.
func sheets(t *testing.T, hub *clinic, people, needed int) []node.Sheet {
	t.Helper()
	var out []node.Sheet
	q := node.RecoveryRequest{Needed: needed}
	for range people {
		s, err := node.NewSheet()
		if err != nil {
			t.Fatal(err)
		}
		out, q.Keys = append(out, s), append(q.Keys, s.Public())
	}
	if v, err := hub.n.SetRecovery(t.Context(), q); err != nil || !v.Passed {
		t.Fatalf("agreeing sheets: %+v, %v", v, err)
	}
	return out
}

func reset(t *testing.T, c *clinic, q node.ResetRequest) (node.ResetReport, error) {
	t.Helper()
	if q.Collect == 0 {
		q.Collect = 3 * time.Second
	}
	return node.Reset(t.Context(), c.o, q, func(s string) { t.Log(c.o.Data[len(c.o.Data)-3:], s) })
}

// Every hub is gone: one of the clinics goes on with the ledger as the clinics
// hold it, and everything that was saved meanwhile is ordered.
func TestResetOnAClinicWhenTheHubIsGone(t *testing.T) {
	hub := newHub(t)
	keys := sheets(t, hub, 3, 2)
	one, two := newMember(t, hub, "One"), newMember(t, hub, "Two")
	id := one.register("form-1", "Nakato")
	one.confirmed()
	two.until("the patient", func(node.Status) bool { return len(two.find("testova")) == 1 })
	before, err := one.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hub.stop() // for good
	if _, err := one.n.SaveVisit(t.Context(), one.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever"}); err != nil {
		t.Fatal(err)
	}
	two.register("form-3", "Babirye")
	one.stop()
	for name, x := range map[string]struct {
		sheets []node.Sheet
		why    string
	}{
		"no sheet":           {nil, "0 sheets of this region were given, 2 are needed"},
		"one sheet":          {keys[:1], "1 sheets of this region were given, 2 are needed"},
		"the same one twice": {[]node.Sheet{keys[0], keys[0]}, "1 sheets of this region were given"},
		"a stranger's":       {append(stranger(t), keys[0]), "is none of this region's"},
	} {
		if _, err := reset(t, one, node.ResetRequest{Sheets: x.sheets}); err == nil || !strings.Contains(err.Error(), x.why) {
			t.Errorf("%s: got %v, want %q", name, err, x.why)
		}
	}
	rep, err := reset(t, one, node.ResetRequest{Sheets: []node.Sheet{keys[2], keys[0]}, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Generation != 2 || rep.Size <= before.Size || len(rep.Hubs) != 1 || rep.Hubs[0] != "One" {
		t.Errorf("report: got %+v", rep)
	}
	one.start()
	one.signIn()
	one.confirmed()
	s, err := one.n.Status(t.Context())
	if err != nil || s.Role != record.RoleHub || s.Refused != 0 {
		t.Errorf("the new hub: %+v, %v", s, err)
	}
	two.until("the new generation and its own record", func(s node.Status) bool { return s.Pending+s.Shared == 0 && s.Confirmed >= rep.Size })
	for _, c := range []*clinic{one, two} {
		if v, err := c.n.Verify(t.Context(), node.VerifyRequest{Full: true}, func(node.Progress) {}); err != nil || len(v.Damage) > 0 {
			t.Errorf("verify: %+v, %v", v, err)
		}
	}
	one.until("both patients", func(node.Status) bool { return len(one.find("testova")) == 2 })
	if v := two.open(id); len(v.Chart.Visits) != 1 {
		t.Errorf("visits at the other clinic: got %d, want the one saved while there was no hub", len(v.Chart.Visits))
	}
	if keys, err := two.n.Keys(); err != nil || keys.Generation != 2 || len(keys.Hubs) != 1 || keys.Hubs[0].Name != "One" {
		t.Errorf("keys after the reset: %+v, %v", keys, err)
	}
}

// A region whose hub is there is not reset, unless somebody insists.
func TestNoResetWhileTheHubIsThere(t *testing.T) {
	hub := newHub(t)
	keys := sheets(t, hub, 1, 1)
	one := newMember(t, hub, "One")
	one.register("form-1", "Nakato")
	one.confirmed()
	one.stop()
	if _, err := reset(t, one, node.ResetRequest{Sheets: keys, Collect: 3 * time.Second}); !errors.Is(err, raftlog.ErrMajorityAnswers) {
		t.Errorf("got %v, want ErrMajorityAnswers", err)
	}
	one.start()
	if s, err := one.n.Status(t.Context()); err != nil || s.Role != record.RoleClinic {
		t.Errorf("the clinic afterwards: %+v, %v", s, err)
	}
}

func stranger(t *testing.T) []node.Sheet {
	t.Helper()
	s, err := node.NewSheet()
	if err != nil {
		t.Fatal(err)
	}
	return []node.Sheet{s}
}

// One reset after another begins one generation after another.
func TestResetTwice(t *testing.T) {
	hub := newHub(t)
	keys := sheets(t, hub, 1, 1)
	hub.stop()
	first, err := reset(t, hub, node.ResetRequest{Sheets: keys, Collect: time.Millisecond, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	hub.start()
	hub.until("the new generation's checkpoint", func(s node.Status) bool { return s.Confirmed >= first.Size })
	hub.stop()
	second, err := reset(t, hub, node.ResetRequest{Sheets: keys, Collect: time.Millisecond, Force: true})
	if err != nil || second.Generation != first.Generation+1 {
		t.Errorf("a reset after another: %+v, %v", second, err)
	}
}

func TestResetNeedsSheets(t *testing.T) {
	hub := newHub(t)
	hub.stop()
	if _, err := reset(t, hub, node.ResetRequest{Sheets: stranger(t)}); err == nil || !strings.Contains(err.Error(), "no recovery sheets were ever agreed") {
		t.Errorf("a region without sheets: got %v", err)
	}
	hub.start()
	for _, q := range []node.RecoveryRequest{{}, {Needed: 1}, {Needed: 2, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}, {Needed: 1, Keys: [][]byte{{1}}}} {
		if _, err := hub.n.SetRecovery(t.Context(), q); err == nil {
			t.Errorf("recovery keys %+v were taken", q)
		}
	}
}
