package node_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// promises counts the receipts that a box keeps.
func (c *clinic) promises() (n int) {
	c.t.Helper()
	if err := c.n.Store().ScanRows([]byte("rcp/"), 100, func(_, _ []byte) bool { n++; return true }); err != nil {
		c.t.Fatal(err)
	}
	return n
}

func TestReceiptsAreKeptUntilTheLedgerHasTheRecords(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.confirmed()
	second := newBox(t, record.RoleHub, "Second hub")
	if _, err := node.Join(t.Context(), second.o, hub.invite(record.RoleHub), nil); err != nil {
		t.Fatal(err)
	}
	// One hub of two orders, and nothing becomes final.
	c.register("form-1", "Nakato")
	c.until("a receipt", func(node.Status) bool { return c.promises() > 0 })
	second.start()
	c.confirmed()
	c.until("receipts that are settled", func(node.Status) bool { return c.promises() == 0 })
	if got := c.faults(); got != "" {
		t.Errorf("faults after a promise that was kept: %s", got)
	}
}

func TestBrokenPromiseIsProvenAndTheRecordGoesElsewhere(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	id := c.register("form-1", "Nakato")
	c.confirmed()
	if err := c.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	r := c.place(c.visit(id, "fever"))
	region, err := record.ParseRegionID(status(t, c).Region)
	if err != nil {
		t.Fatal(err)
	}
	hubID, err := record.ParseDeviceID(status(t, hub).Device)
	if err != nil {
		t.Fatal(err)
	}
	promise := func(by time.Time) record.Receipt {
		return record.SignReceipt(region, by.Add(-time.Hour).Unix(), by.Unix(), []record.ReceiptHead{{Position: r.Position(), RID: r.RID()}}, hub.key())
	}
	// The hub took the visit long ago, and keeps promising a later day.
	for _, by := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(time.Hour), time.Now().Add(48 * time.Hour)} {
		if err := c.n.TakeReceipt(hubID, promise(by)); err != nil {
			t.Fatal(err)
		}
	}
	c.visit(id, "cough") // any change makes the box look
	c.untilTold("Hub promised to order a record of this box and did not")
	list, err := c.n.EvidenceList()
	if err != nil || len(list) != 1 || list[0].Kind != "broken promise" || list[0].Culprits[0] != "Hub" {
		t.Fatalf("evidence: %+v, %v", list, err)
	}
	file, err := c.n.EvidenceFile(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	e, err := record.DecodeEvidence(file)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := e.Verify(region, []record.DeviceID{hubID}); err != nil || f.Missing[0].RID != r.RID() {
		t.Errorf("a third party: %+v, %v", f, err)
	}
	if err := c.n.SetLink(true); err != nil {
		t.Fatal(err)
	}
	c.confirmed() // in time it does come
	hub.untilTold("Hub promised to order a record")
}

func TestPromiseAboutWhatIsInTheLedgerIsNoEvidence(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	id := c.register("form-1", "Nakato")
	r := c.place(c.visit(id, "fever"))
	c.confirmed()
	region, err := record.ParseRegionID(status(t, c).Region)
	if err != nil {
		t.Fatal(err)
	}
	hubID, err := record.ParseDeviceID(status(t, hub).Device)
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour).Unix()
	receipt := record.SignReceipt(region, past, past, []record.ReceiptHead{{Position: r.Position(), RID: r.RID()}}, hub.key())
	note, _, _ := c.n.Store().Final()
	e, err := record.NewBrokenPromise(region.Ledger(1), receipt, note, []record.DeviceID{hubID})
	if err != nil {
		t.Fatal(err)
	}
	named := e.ID()
	if !c.n.LooksAt([8]byte(named[:8])) {
		t.Error("evidence that was never seen is not asked for")
	}
	if err := c.n.TakeEvidence(hubID, e.Encode()); err == nil {
		t.Error("evidence about a record that is in the ledger was kept")
	}
	if c.n.LooksAt([8]byte(named[:8])) {
		t.Error("what was looked at and not kept is asked for again")
	}
	if list, err := c.n.EvidenceList(); err != nil || len(list) != 0 {
		t.Errorf("evidence: %+v, %v; want none", list, err)
	}
}

func status(t *testing.T, c *clinic) node.Status {
	t.Helper()
	s, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
