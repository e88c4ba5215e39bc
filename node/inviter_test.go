package node_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// TestClinicInvitesWithAuthority: a clinic that the hubs gave authority invites a field device: once, for that role,
// until the end by ledger time, as long as it has the authority.
func TestClinicInvitesWithAuthority(t *testing.T) {
	hub := newBox(t, record.RoleHub, "Hub")
	var shift atomic.Int64 // of the hub's clock
	hub.o.Now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	if _, err := node.CreateRegion(t.Context(), hub.o, "Lake region"); err != nil {
		t.Fatal(err)
	}
	hub.start()
	c := newMember(t, hub, "Kibuye")
	together(hub, c)
	invite := func(role record.Role) (string, error) {
		inv, err := c.n.Invite(t.Context(), node.InviteRequest{Role: role})
		if err == nil && (inv.Hub != "Hub" || inv.Waits || inv.Expires.Before(c.o.Now())) {
			t.Errorf("an invitation: %+v", inv)
		}
		return inv.Text, err
	}
	join := func(role record.Role, name, text string) string {
		_, err := node.Join(t.Context(), newBox(t, role, name).o, text, nil)
		return fmt.Sprint(err)
	}
	if _, err := invite(record.RoleField); err == nil || !strings.Contains(err.Error(), "region inviter") {
		t.Errorf("without authority: %v", err)
	}
	for _, what := range []string{"Hub", "Nobody"} {
		if _, err := hub.n.SetInviter(t.Context(), what, true); err == nil {
			t.Errorf("authority for %s", what)
		}
	}
	if _, err := c.n.SetInviter(t.Context(), "Kibuye", true); err == nil {
		t.Error("a clinic gives itself authority")
	}
	if v, err := hub.n.SetInviter(t.Context(), "Kibuye", true); err != nil || !v.Passed || !strings.Contains(v.Words, `let "Kibuye" (`) {
		t.Fatalf("the only hub's vote: %+v, %v", v, err)
	}
	if _, err := hub.n.SetInviter(t.Context(), "Kibuye", true); err == nil {
		t.Error("a vote for what is so")
	}
	together(hub, c)
	for _, role := range []record.Role{record.RoleClinic, record.RoleHub} {
		if _, err := invite(role); err == nil || !strings.Contains(err.Error(), "field devices") {
			t.Errorf("a clinic invites a %s: %v", role, err)
		}
	}
	text, err := invite(record.RoleField)
	if err != nil {
		t.Fatal(err)
	}
	if got := join(record.RoleField, "Bicycle", text); got != "<nil>" {
		t.Fatalf("joining: %s", got)
	}
	if got := join(record.RoleField, "Thief", text); got == "<nil>" {
		t.Error("the same invitation admitted a second device")
	}
	if hub.n.StrangersMayKnock() {
		t.Error("a stranger may knock although the only invitation was used")
	}
	members, err := hub.n.Members()
	if err != nil || len(members) != 3 || !slices.ContainsFunc(members, func(m node.MemberInfo) bool { return m.Name == "Bicycle" && m.Role == record.RoleField }) {
		t.Errorf("members: %+v, %v", members, err)
	}
	refusedInvitations(t, hub, c, &shift, invite, join)
}

// refusedInvitations: what is over, and what was made by who may no more.
func refusedInvitations(t *testing.T, hub, c *clinic, shift *atomic.Int64, invite func(record.Role) (string, error), join func(record.Role, string, string) string) {
	late, err := invite(record.RoleField)
	if err != nil {
		t.Fatal(err)
	}
	if !hub.n.StrangersMayKnock() {
		t.Error("nobody may knock with an open invitation")
	}
	shift.Store(int64(record.InviteSeconds*time.Second + time.Minute))
	if hub.n.StrangersMayKnock() {
		t.Error("a stranger may knock with what is over")
	}
	hub.invite(record.RoleField) // somebody may, with another
	if got := join(record.RoleField, "Late", late); !strings.Contains(got, "has expired") {
		t.Errorf("a day later: %s", got)
	}
	shift.Store(0)
	text, err := invite(record.RoleField)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := hub.n.SetInviter(t.Context(), "Kibuye", false); err != nil || !v.Passed {
		t.Fatalf("taking it back: %+v, %v", v, err)
	}
	if got := join(record.RoleField, "Too late", text); !strings.Contains(got, "is not known here") {
		t.Errorf("by who may invite no more: %s", got)
	}
	together(hub, c)
	if _, err := invite(record.RoleField); err == nil {
		t.Error("invited after authority was taken back")
	}
}
