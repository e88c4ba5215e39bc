package node_test

import (
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// joinHub makes another hub of the region and runs it; the other hubs approve.
func joinHub(t *testing.T, name string, first *clinic, others ...*clinic) *clinic {
	t.Helper()
	h := newBox(t, record.RoleHub, name)
	text := first.invite(record.RoleHub)
	done := make(chan error, 1)
	asked := make(chan struct{}, 1)
	go func() {
		_, err := node.Join(t.Context(), h.o, text, func(int) {
			select {
			case asked <- struct{}{}:
			default:
			}
		})
		done <- err
	}()
	for _, x := range others {
		select {
		case <-asked:
		case err := <-done:
			t.Fatalf("%s joined without enough votes: %v", name, err)
		}
		x.until("the proposal", func(node.Status) bool {
			set, err := x.n.HubSet()
			return err == nil && len(set.Proposals) == 1
		})
		if _, err := x.n.Approve(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	h.start()
	return h
}

// everywhere waits until all of them hold the first one's ledger under a final checkpoint.
func everywhere(first *clinic, others ...*clinic) {
	first.t.Helper()
	size := hubSize(first.t, first)
	for _, x := range append(others, first) {
		x.until("the whole ledger", func(s node.Status) bool { return s.Confirmed >= size })
	}
}

// A clinic that was away while the hubs changed twice is led from one set to the next.
func TestClinicFollowsTheHubsThatChangedWhileItWasAway(t *testing.T) {
	one := newHub(t)
	two := joinHub(t, "Hub two", one)
	everywhere(one, two)
	c := newMember(t, one, "Clinic")
	c.register("form-1", "Nakato")
	everywhere(one, two, c)
	c.confirmed()
	c.stop()
	three := joinHub(t, "Hub three", one, two)
	everywhere(one, two, three)
	if v, err := one.n.Expel(t.Context(), "Hub two", "moved away"); err != nil || v.Passed {
		t.Fatalf("the first vote to expel: %+v, %v", v, err)
	}
	three.until("the proposal", func(node.Status) bool {
		set, err := three.n.HubSet()
		return err == nil && len(set.Proposals) == 1
	})
	if v, err := three.n.Approve(t.Context(), "Hub two"); err != nil || !v.Passed {
		t.Fatalf("the second vote to expel: %+v, %v", v, err)
	}
	everywhere(one, three)
	two.stop()
	if err := one.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Okello Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	everywhere(one, three)
	hands := 0
	if err := one.n.Store().ScanRows([]byte("hand/note/"), 10, func(_, _ []byte) bool { hands++; return true }); err != nil || hands < 2 {
		t.Errorf("handovers kept at the hub: %d, %v; want those of three changes", hands, err)
	}
	c.dials(one).start()
	everywhere(one, c)
	c.signIn()
	c.register("form-2", "Babirye")
	c.confirmed()
	if got := c.faults(); got != "" {
		t.Errorf("faults: %s", got)
	}
}

// A clinic that knows none of the hubs there are, and nobody who does, joins again: it
// keeps what it holds and what waits.
func TestClinicJoinsAgainWhenEveryHubIsAnother(t *testing.T) {
	one := newHub(t)
	two := joinHub(t, "Hub two", one)
	c := newMember(t, one, "Clinic")
	c.register("form-1", "Nakato")
	everywhere(one, two, c)
	c.confirmed()
	c.stop()
	if v, err := one.n.Expel(t.Context(), "Hub", "worn out"); err != nil || v.Passed {
		t.Fatalf("the first vote to expel: %+v, %v", v, err)
	}
	two.until("the proposal", func(node.Status) bool {
		set, err := two.n.HubSet()
		return err == nil && len(set.Proposals) == 1
	})
	if v, err := two.n.Approve(t.Context(), "Hub"); err != nil || !v.Passed {
		t.Fatalf("the second vote to expel: %+v, %v", v, err)
	}
	two.until("raft to go on without the first hub", func(s node.Status) bool { return s.Voters == 1 })
	everywhere(two)
	one.stop()
	text := two.invite(record.RoleClinic)
	if _, err := node.Join(t.Context(), c.o, text, nil); err != nil {
		t.Fatalf("joining again: %v", err)
	}
	c.start()
	c.signIn()
	c.register("form-2", "Babirye")
	everywhere(two, c)
	c.confirmed()
	if got := c.faults(); got != "" {
		t.Errorf("faults: %s", got)
	}
}

// A box that confirmed what a reset did not know of says so and stops confirming.
func TestResetThatTakesBackWhatWasConfirmedIsNotFollowed(t *testing.T) {
	hub := newHub(t)
	keys := sheets(t, hub, 1, 1)
	one, two := newMember(t, hub, "One"), newMember(t, hub, "Two")
	one.confirmed()
	two.confirmed()
	one.stop()
	for i := range 4 {
		two.register("form-"+strconv.Itoa(i), "Nakato")
	}
	two.confirmed()
	before := status(t, two)
	two.stop()
	hub.stop() // for good
	if _, err := reset(t, one, node.ResetRequest{Sheets: keys, Force: true}); err != nil {
		t.Fatal(err)
	}
	one.start()
	two.start()
	two.untilTold("a reset of the region would take back records that were confirmed here")
	two.signIn()
	two.register("later", "Babirye")
	if now := status(t, two); now.Confirmed != before.Confirmed || now.Root != before.Root {
		t.Errorf("ledger after that: %d confirmed, %s; want %d, %s", now.Confirmed, now.Root, before.Confirmed, before.Root)
	}
}
