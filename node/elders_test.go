package node_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
)

// The only hub of a region is put back to an older copy of its disk. It takes what
// the clinics hold of its ledger before it orders anything, so it contradicts
// nothing that it signed, and says so to staff.
func TestRestoredLoneHubTakesItsLedgerBack(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.register("form-1", "Nakato")
	c.confirmed()
	hub.stop()
	old := hub.image()
	hub.start()
	c.register("form-2", "Babirye")
	c.confirmed()
	before, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hub.stop()
	old.o.Listen = hub.o.Listen
	old.start()
	c.register("form-3", "Akello")
	c.until("what was saved since", func(s node.Status) bool { return s.Pending+s.Shared == 0 && s.Confirmed > before.Confirmed })
	old.until("the whole ledger", func(s node.Status) bool { return s.Confirmed > before.Confirmed })
	if got := c.faults(); strings.Contains(got, "two different ledgers") {
		t.Errorf("the clinic says: %s", got)
	}
	for _, b := range []*clinic{old, c} {
		if v, err := b.n.Verify(t.Context(), node.VerifyRequest{Full: true}, func(node.Progress) {}); err != nil || len(v.Damage) > 0 {
			t.Errorf("verify: %+v, %v", v, err)
		}
	}
}
