package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// dials makes the box reach these and no others.
func (c *clinic) dials(others ...*clinic) *clinic {
	c.t.Helper()
	for _, x := range others {
		id, err := node.PeerIDOf(x.o.Data)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, l := range x.o.Listen {
			c.o.Dial = append(c.o.Dial, l+"/p2p/"+id)
		}
	}
	return c
}

const splitWords = "a majority of the hubs signed two different ledgers"

// twoViews gives two stopped clinics to which one hub confirmed two ledgers, and
// that hub, stopped, with the second of them.
func twoViews(t *testing.T) (a, b, hub *clinic, region record.RegionID) {
	t.Helper()
	hub = newHub(t)
	a, b = newMember(t, hub, "Kibuye"), newMember(t, hub, "Soroti")
	a.confirmed()
	b.confirmed()
	s, err := hub.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if region, err = record.ParseRegionID(s.Region); err != nil {
		t.Fatal(err)
	}
	a.stop()
	b.stop()
	hub.stop()
	twin := hub.image()
	for i, pair := range [][2]*clinic{{hub, a}, {twin, b}} {
		h, c := pair[0], pair[1]
		h.start()
		c.start()
		c.signIn()
		c.register(fmt.Sprint("view-", i), "Nakato")
		c.confirmed()
		c.stop()
		h.stop()
	}
	return a, b, twin, region
}

func TestTwoBoxesThatMeetFindTheForkAndGoOnWorking(t *testing.T) {
	a, b, hub, region := twoViews(t)
	b.start()
	a.dials(b).start()
	for _, x := range []*clinic{a, b} {
		x.untilTold(splitWords)
	}
	list, err := a.n.EvidenceList()
	if err != nil || len(list) == 0 || !list[0].Majority || list[0].Kind != "split view" || list[0].Culprits[0] != "Hub" {
		t.Fatalf("evidence: %+v, %v", list, err)
	}
	file, err := b.n.EvidenceFile(list[0].ID[:12])
	if err != nil {
		t.Fatal(err)
	}
	hubID, err := record.ParseDeviceID(list[0].Devices[0])
	if err != nil {
		t.Fatal(err)
	}
	e, err := record.DecodeEvidence(file)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := e.Verify(region, []record.DeviceID{hubID}); err != nil || !f.Final {
		t.Errorf("a third party with the hub's key alone: %+v, %v", f, err)
	}
	// Nothing clinical waits because hubs lie: what a writes now reaches b.
	before, err := b.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.signIn()
	a.register("after", "Babirye")
	b.until("what the other one wrote", func(s node.Status) bool { return s.Carried > before.Carried })
	a.stop()
	a.start()
	a.untilTold(splitWords) // a restart forgets nothing
	hub.start()
	b.stop()
	b.start()
	b.untilTold(splitWords)
	hub.untilTold(splitWords) // gossip
	size := hubSize(t, hub)
	for _, x := range []*clinic{b, hub} {
		if err := x.n.ClearEvidence(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.signIn()
	b.register("cleared", "Okello")
	b.until("its hub's ledger again", func(s node.Status) bool { return s.Size >= size })
}

func TestHubThatShowsAnotherLedgerIsFoundAtTheFirstMeeting(t *testing.T) {
	a, _, hub, _ := twoViews(t)
	hub.start()
	a.start()
	a.untilTold(splitWords)
	hub.untilTold(splitWords)
	s, err := a.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.signIn()
	a.register("after", "Babirye")
	a.until("own work", func(now node.Status) bool { return now.Confirmed == s.Confirmed && now.Pending+now.Shared > 0 })
}

func TestTwoRecordsForOnePlaceFreezeTheLaneEverywhere(t *testing.T) {
	hub := newHub(t)
	c, other := newMember(t, hub, "Clinic"), newMember(t, hub, "Other")
	id := c.register("form-1", "Nakato")
	c.confirmed()
	if err := c.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	rid := c.visit(id, "fever")
	if _, err := hub.n.Store().Ingest(t.Context(), record.DeviceID{}, []record.Record{sibling(c.place(rid), c.key())}); err != nil {
		t.Fatal(err)
	}
	if err := c.n.SetLink(true); err != nil {
		t.Fatal(err)
	}
	const words = "Clinic signed two records for one place"
	for _, x := range []*clinic{c, hub, other} {
		x.untilTold(words)
	}
	frozen := func(x *clinic) (n int) {
		if err := x.n.Store().ScanRegistry(record.FrozenPrefix(), func(_, _ []byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	other.until("the frozen lane", func(node.Status) bool { return frozen(other) == 1 })
	c.untilTold("1 records of this box were refused and written again")
	c.confirmed()
	if v := c.open(id); len(v.Chart.Visits) != 1 {
		t.Errorf("visits at the clinic: %d, want the one that was written again", len(v.Chart.Visits))
	}
	c.visit(id, "cough")
	c.confirmed()
	list, err := other.n.EvidenceList()
	if err != nil || len(list) != 1 || list[0].Kind != "equivocation" {
		t.Errorf("evidence elsewhere: %+v, %v", list, err)
	}
	entries, err := hub.n.Store().Entries(0, hubSize(t, hub), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	evidence := 0
	for i := range entries {
		if entries[i].Record.Core.Kind == record.KindEvidence {
			evidence++
		}
	}
	if evidence != 1 {
		t.Errorf("evidence records in the ledger: %d, want 1", evidence)
	}
}

func TestIdleHubsSignAnew(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.confirmed()
	c.stop()
	hub.stop()
	clock := time.Now()
	hub.o.Now = func() time.Time { return clock }
	clock = clock.Add(26 * time.Hour)
	c.o.Now = hub.o.Now
	c.start()
	c.untilTold("the regional view is as of")
	hub.start()
	c.until("a view of today", func(s node.Status) bool { return len(s.Faults) == 0 })
	if s, err := c.n.Status(t.Context()); err != nil || s.Size != hubSize(t, hub) {
		t.Errorf("size %d, %v; want that of the hub, %d", s.Size, err, hubSize(t, hub))
	}
}

// One hub of two signs two trees: the region goes on, and everybody is told.
func TestHubThatSignsTwoTreesIsNamedByTheOthers(t *testing.T) {
	n, region, second := twoHubs(t)
	c := n.NewCosigner(true)
	if err := c.Step(); err != nil {
		t.Fatal(err)
	}
	head := n.Store().Head()
	_, final, _ := n.Store().Final()
	lie := record.TreeHead{Size: final.Size + 1, Root: record.Hash{1}}
	if err := c.Offered(second.DeviceID(), cosign(t, region, lie, second)); err == nil {
		t.Error("another tree was taken without a word")
	}
	if list, err := n.EvidenceList(); err != nil || len(list) != 0 {
		t.Fatalf("evidence before the hub signed the true tree: %+v, %v", list, err)
	}
	if err := c.Offered(second.DeviceID(), cosign(t, region, head, second)); err != nil {
		t.Fatal(err)
	}
	if _, final, _ := n.Store().Final(); final != head {
		t.Errorf("final %+v, want %+v: the true tree is signed by both", final, head)
	}
	list, err := n.EvidenceList()
	if err != nil || len(list) != 1 || list[0].Majority || list[0].Culprits[0] != "Second hub" || len(list[0].Culprits) != 1 {
		t.Fatalf("evidence: %+v, %v; want one piece against the second hub alone", list, err)
	}
	s, err := n.Status(t.Context())
	if err != nil || s.Frozen || len(s.Faults) != 1 || !strings.Contains(s.Faults[0], "Second hub signed two different ledgers") {
		t.Errorf("faults: %+v, %v", s.Faults, err)
	}
	later := record.TreeHead{Size: final.Size + 1, Root: record.Hash{2}}
	if err := c.Offered(second.DeviceID(), cosign(t, region, later, second)); err == nil {
		t.Error("a third tree was taken without a word")
	}
	if list, err := n.EvidenceList(); err != nil || len(list) != 2 {
		t.Errorf("evidence after a second lie: %d pieces, %v; want 2", len(list), err)
	}
}
