package node_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// ofKind counts the entries of a kind in a box's ledger.
func (c *clinic) ofKind(k record.Kind) (n int) {
	c.t.Helper()
	st := c.n.Store()
	for from, to := uint64(0), st.Head().Size; from < to; {
		entries, err := st.Entries(from, to, 1<<20)
		if err != nil {
			c.t.Fatal(err)
		}
		for i := range entries {
			if entries[i].Record.Core.Kind == k {
				n++
			}
		}
		from += uint64(len(entries))
	}
	return n
}

func TestBoxesAttestOnceADay(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.confirmed()
	for day := range 2 {
		c.stop()
		hub.stop()
		clock := time.Now().Add(time.Duration(day+1) * 24 * time.Hour)
		hub.o.Now = func() time.Time { return clock }
		c.o.Now = hub.o.Now
		hub.start()
		c.start()
		for i := range 2 {
			if err := hub.n.AddStaff(t.Context(), &web.Session{Operator: true}, web.NewStaff{Name: "Okello " + string(rune('A'+2*day+i)), PIN: pin}); err != nil {
				t.Fatal(err)
			}
			everywhere(hub, c)
		}
		hub.until("what the clinic verified", func(node.Status) bool { return hub.ofKind(record.KindAttest) == day+1 })
		everywhere(hub, c)
	}
	c.confirmed()
	if n := hub.ofKind(record.KindAttest); n != 2 {
		t.Errorf("attestations in two days: %d, want 2", n)
	}
	if got := hub.faults(); got != "" {
		t.Errorf("faults after true attestations: %s", got)
	}
}

func TestWhoVerifiedAnotherLedgerIsTold(t *testing.T) {
	hub := newHub(t)
	c, other := newMember(t, hub, "Clinic"), newMember(t, hub, "Other")
	c.register("form-1", "Nakato")
	c.confirmed()
	c.stop()
	st := hub.n.Store()
	var epoch record.EpochID
	entries, err := st.Entries(0, st.Head().Size, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var device record.DeviceID
	copy(device[:], c.key()[32:])
	for i := range entries {
		if e := entries[i].Record.Position().Epoch; entries[i].Record.Core.Kind != record.KindRegionFound {
			if d, _, err := st.EpochAuthor(e); err == nil && d == device {
				epoch = e
			}
		}
	}
	feed := record.Feed{Epoch: epoch, Lane: record.LaneAudit}
	head, ok, err := st.State().Head(feed)
	if err != nil || !ok {
		t.Fatalf("head of the clinic's feed: %v, %v", ok, err)
	}
	body, err := record.Marshal(record.Attest{Size: 3, Root: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	lie := record.Sign(record.Core{Epoch: epoch, Lane: feed.Lane, N: head.N + 1, Prev: head.RID, HLC: uint64(time.Now().UnixMilli()) << 16, Kind: record.KindAttest}, body, c.key())
	if in, err := st.Ingest(t.Context(), device, []record.Record{lie}); err != nil || in.New != 1 {
		t.Fatalf("the lie: %+v, %v", in, err)
	}
	for _, x := range []*clinic{hub, other} {
		x.untilTold("Clinic has verified another ledger than this box")
	}
}

func TestRefusalThatTheRulesDoNotKnowIsNotBelieved(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	id := c.register("form-1", "Nakato")
	c.confirmed()
	c.stop()
	c.o.DoubtAfter = 0
	c.start()
	c.signIn()
	c.confirmed()
	if err := c.n.SetLink(false); err != nil {
		t.Fatal(err)
	}
	r := c.place(c.visit(id, "fever"))
	hubID, err := record.ParseDeviceID(status(t, hub).Device)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []record.Verdict{record.NotAllowed, record.Revoked, record.BadPrev} {
		if err := c.n.HeardRefusal(record.Outcome{RID: r.RID(), Verdict: v}, hubID); err != nil {
			t.Fatal(err)
		}
	}
	c.visit(id, "cough") // any change makes the box look
	c.untilTold("Hub refused a record of this box that the rules allow")
	if s := status(t, c); s.Refused != 0 || s.Pending == 0 {
		t.Errorf("counts: %d refused, %d pending; want the record to wait", s.Refused, s.Pending)
	}
	if err := c.n.SetLink(true); err != nil {
		t.Fatal(err)
	}
	c.confirmed()
	if v := c.open(id); len(v.Chart.Visits) != 2 {
		t.Errorf("visits: %d, want 2", len(v.Chart.Visits))
	}
}
