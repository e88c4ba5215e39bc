package node_test

import (
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// assign changes what a box holds and waits until that box knows.
func (c *clinic) assign(to *clinic, q node.AssignRequest) {
	c.t.Helper()
	if _, err := c.n.Assign(c.t.Context(), q); err != nil {
		c.t.Fatal(err)
	}
	size := c.size()
	to.until("the assignment", func(s node.Status) bool { return s.Confirmed >= size })
}

func (c *clinic) size() uint64 {
	c.t.Helper()
	s, err := c.n.Status(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return s.Size
}

func TestPartialReplicaHoldsItsOwn(t *testing.T) {
	hub := newHub(t)
	one, two := newMember(t, hub, "One"), newMember(t, hub, "Two")
	hub.assign(one, node.AssignRequest{Box: "One", Mode: record.ModePartial})
	own := one.register("form-1", "Nakato")
	other := two.register("form-2", "Babirye")
	two.register("form-3", "Achieng")
	one.confirmed()
	two.confirmed()
	size := two.size()
	one.until("the others' entries", func(s node.Status) bool { return s.Confirmed >= size })
	if got := one.find("testova"); len(got) != 1 {
		t.Fatalf("a partial replica finds %d people, want its own one", len(got))
	}
	hub.assign(one, node.AssignRequest{Box: "One", Add: []string{other}})
	one.until("the assigned person", func(node.Status) bool { return len(one.find("testova")) == 2 })
	one.open(other)
	if _, err := one.n.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := one.find("testova"); len(got) != 2 {
		t.Fatalf("after releasing nothing %d people are found, want 2", len(got))
	}
	hub.assign(one, node.AssignRequest{Box: "One", Remove: []string{other}})
	got, err := one.n.Release(t.Context())
	if err != nil || got.Entries == 0 || got.People != 1 {
		t.Fatalf("released %+v, %v; want one person", got, err)
	}
	if _, err := one.n.Open(t.Context(), one.token, other); err == nil {
		t.Error("a released chart opens")
	}
	if names := one.find("testova"); len(names) != 1 {
		t.Errorf("%d people are found after releasing, want 1", len(names))
	}
	one.open(own)
	rep, err := one.n.Verify(t.Context(), node.VerifyRequest{}, func(node.Progress) {})
	if err != nil || len(rep.Damage) != 0 {
		t.Errorf("verifying a partial replica: %+v, %v", rep, err)
	}
}

func TestWhoMayAssign(t *testing.T) {
	hub := newHub(t)
	one := newMember(t, hub, "One")
	newMember(t, hub, "Two")
	size := hub.size()
	one.until("both members", func(s node.Status) bool { return s.Confirmed >= size })
	for _, c := range []struct {
		by   *clinic
		q    node.AssignRequest
		want string
	}{
		{one, node.AssignRequest{Box: "Two", Mode: record.ModePartial}, "run this on a hub"},
		{hub, node.AssignRequest{Box: "Hub", Mode: record.ModePartial}, "holds everything"},
		{hub, node.AssignRequest{Box: "Nobody", Mode: record.ModePartial}, "no member"},
		{hub, node.AssignRequest{Box: "One", Add: []string{"12"}}, "hexadecimal"},
	} {
		if _, err := c.by.n.Assign(t.Context(), c.q); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("assigning %+v: got %v, want %q", c.q, err, c.want)
		}
	}
	if _, err := one.n.Release(t.Context()); err == nil {
		t.Error("a full replica releases")
	}
}
