package node_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/web"
)

// newBox makes a box that listens on a free port of loopback and does not run.
func newBox(t *testing.T, role record.Role, name string) *clinic {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := &clinic{t: t, o: options(t.TempDir())}
	c.o.Profile, c.o.Listen = "lan", []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)}
	if _, err := node.Init(c.o.Data, role, name); err != nil {
		t.Fatal(err)
	}
	return c
}

// newHub makes the first hub of a region and runs it.
func newHub(t *testing.T) *clinic {
	t.Helper()
	hub := newBox(t, record.RoleHub, "Hub")
	if _, err := node.CreateRegion(t.Context(), hub.o, "Lake region"); err != nil {
		t.Fatal(err)
	}
	hub.start()
	return hub
}

func (c *clinic) invite(role record.Role) string {
	c.t.Helper()
	inv, err := c.n.Invite(c.t.Context(), node.InviteRequest{Role: role})
	if err != nil {
		c.t.Fatal(err)
	}
	return inv.Text
}

// newMember makes a clinic that joined at hub, runs it, and waits until it has
// the ledger's start, so that staff can be added.
func newMember(t *testing.T, hub *clinic, name string) *clinic {
	t.Helper()
	c := newBox(t, record.RoleClinic, name)
	if _, err := node.Join(t.Context(), c.o, hub.invite(record.RoleClinic), nil); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.until("the ledger's start", func(s node.Status) bool { return s.Confirmed >= 3 })
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	c.signIn()
	return c
}

// TestNobodyIsAddedBeforeTheKeysAreHere: a box that joined and met no hub since tells its first member of
// staff to wait.
func TestNobodyIsAddedBeforeTheKeysAreHere(t *testing.T) {
	hub, c := newHub(t), newBox(t, record.RoleClinic, "Early")
	if _, err := node.Join(t.Context(), c.o, hub.invite(record.RoleClinic), nil); err != nil {
		t.Fatal(err)
	}
	hub.stop()
	c.start()
	if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); !errors.Is(err, web.ErrNotReady) {
		t.Errorf("adding staff without the region's keys: got %v, want %v", err, web.ErrNotReady)
	}
}

// patience bounds what would hang; a busy machine needs a good part of it.
const patience = 2 * time.Minute

// until waits until the box's status is as wanted.
func (c *clinic) until(what string, wanted func(node.Status) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	changed := c.n.Watch(ctx)
	for {
		s, err := c.n.Status(ctx)
		if err != nil {
			c.t.Fatalf("waiting for %s: %v", what, err)
		}
		if wanted(s) {
			return
		}
		if _, ok := <-changed; !ok {
			c.t.Fatalf("waiting for %s: %+v", what, s)
		}
	}
}

func TestTodayIsOfThisBox(t *testing.T) {
	hub := newHub(t)
	one, two := newMember(t, hub, "One"), newMember(t, hub, "Two")
	id := one.register("form-1", "Nakato")
	if _, err := one.n.SaveVisit(t.Context(), one.token, id, "form-2", fhir.Visit{At: time.Now(), Problem: "fever", Urgent: true}); err != nil {
		t.Fatal(err)
	}
	one.register("form-3", "Babirye")
	one.confirmed()
	two.until("the other clinic's people", func(node.Status) bool { return len(two.find("testova")) == 2 })
	here, err := one.n.Today(t.Context(), one.token)
	if err != nil || len(here.Recent) != 1 || len(here.Waiting) != 2 {
		t.Errorf("today where they came: got %d visits, %d waiting, %v; want 1, 2", len(here.Recent), len(here.Waiting), err)
	}
	there, err := two.n.Today(t.Context(), two.token)
	if err != nil || len(there.Recent) != 0 || len(there.Waiting) != 0 {
		t.Errorf("today at the other clinic: got %d visits, %d waiting, %v; want none", len(there.Recent), len(there.Waiting), err)
	}
}

func TestInvitationWorksOnceAndForItsRole(t *testing.T) {
	hub := newHub(t)
	text := hub.invite(record.RoleClinic)
	join := func(c *clinic, text string) string {
		_, err := node.Join(t.Context(), c.o, text, nil)
		return fmt.Sprint(err)
	}
	first := newBox(t, record.RoleClinic, "First")
	if got := join(newBox(t, record.RoleHub, "Other role"), text); !strings.Contains(got, "for a clinic") {
		t.Errorf("another role: got %s", got)
	}
	if got := join(first, text[:len(text)-4]); !strings.Contains(got, "copy all of it") {
		t.Errorf("a cut invitation: got %s", got)
	}
	if got := join(first, text); got != "<nil>" {
		t.Fatalf("joining: %s", got)
	}
	if got := join(newBox(t, record.RoleClinic, "Second"), text); got == "<nil>" {
		t.Error("the same invitation admitted a second box")
	}
	hub.invite(record.RoleClinic) // strangers may knock again
	if got := join(newBox(t, record.RoleClinic, "Third"), text); !strings.Contains(got, "used already") {
		t.Errorf("a used invitation: got %s", got)
	}
	members, err := hub.n.Members()
	if err != nil || len(members) != 2 {
		t.Errorf("members: got %+v, %v; want the hub and one clinic", members, err)
	}
}

func TestJoinIsRepeatedAfterALostAnswer(t *testing.T) {
	hub := newHub(t)
	text := hub.invite(record.RoleClinic)
	c := newBox(t, record.RoleClinic, "Clinic")
	lost := c.o
	lost.Data = t.TempDir()
	if err := os.CopyFS(lost.Data, os.DirFS(c.o.Data)); err != nil { // as it was before the answer came
		t.Fatal(err)
	}
	if _, err := node.Join(t.Context(), c.o, text, nil); err != nil {
		t.Fatal(err)
	}
	before, err := hub.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Join(t.Context(), lost, text, nil); err != nil {
		t.Fatalf("joining again: %v", err)
	}
	after, err := hub.n.Status(t.Context())
	if err != nil || after.Size != before.Size {
		t.Errorf("ledger after the second answer: %d entries, before %d, %v", after.Size, before.Size, err)
	}
	c.o = lost
	c.start()
	c.until("the ledger", func(s node.Status) bool { return s.Confirmed >= before.Size })
}

func TestRevokedBoxStaysOut(t *testing.T) {
	hub := newHub(t)
	text := hub.invite(record.RoleClinic)
	c := newBox(t, record.RoleClinic, "Clinic")
	kept := c.o
	kept.Data = t.TempDir()
	if err := os.CopyFS(kept.Data, os.DirFS(c.o.Data)); err != nil {
		t.Fatal(err)
	}
	if _, err := node.Join(t.Context(), c.o, text, nil); err != nil {
		t.Fatal(err)
	}
	members, err := hub.n.Members()
	if err != nil || len(members) != 2 {
		t.Fatalf("members: %+v, %v", members, err)
	}
	if _, err := hub.n.Revoke(t.Context(), "Hub", "by mistake"); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("a hub that revokes itself: got %v", err)
	}
	for _, text := range []string{"No such box", members[1].Device[:11], members[1].Device + "0", ""} {
		if _, err := hub.n.Revoke(t.Context(), text, ""); err == nil || !strings.Contains(err.Error(), "no member") {
			t.Errorf("revoking %q: got %v", text, err)
		}
	}
	if v, err := hub.n.Revoke(t.Context(), members[1].Device[:12], "stolen"); err != nil || !v.Passed {
		t.Fatalf("revoking by the short form: %+v, %v", v, err)
	}
	for _, invitation := range []string{text, hub.invite(record.RoleClinic)} {
		if _, err := node.Join(t.Context(), kept, invitation, nil); err == nil || !strings.Contains(err.Error(), "membership was ended") {
			t.Errorf("a revoked box that joins again: got %v", err)
		}
		hub.invite(record.RoleField) // the door stays open to strangers
	}
	third := newBox(t, record.RoleClinic, "Third")
	if _, err := node.Join(t.Context(), third.o, hub.invite(record.RoleClinic), nil); err != nil {
		t.Errorf("the hub admits others afterwards: %v", err)
	}
}

func TestInvitationsExpireAndAreForgotten(t *testing.T) {
	hub := newHub(t)
	hub.stop()
	clock := time.Now()
	hub.o.Now = func() time.Time { return clock }
	hub.start()
	text := hub.invite(record.RoleClinic)
	hub.stop()
	clock = clock.Add(25 * time.Hour)
	hub.start()
	fresh := hub.invite(record.RoleClinic)
	c := newBox(t, record.RoleClinic, "Clinic")
	if _, err := node.Join(t.Context(), c.o, text, nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an invitation of yesterday: got %v", err)
	}
	if _, err := node.Join(t.Context(), c.o, fresh, nil); err != nil {
		t.Fatal(err)
	}
	hub.stop()
	clock = clock.Add(60 * 24 * time.Hour)
	hub.start()
	hub.invite(record.RoleClinic)
	d := newBox(t, record.RoleClinic, "Late")
	if _, err := node.Join(t.Context(), d.o, text, nil); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("an invitation of two months ago: got %v", err)
	}
}

// A founder may stop after any of its steps; the next start takes the rest.
func TestFoundingIsFinishedLater(t *testing.T) {
	for _, role := range []record.Role{record.RoleHub, record.RoleStandalone} {
		c := newBox(t, role, "Founder")
		n, err := node.Open(c.o)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(n.FoundOnly(t.Context(), "Lake region"), n.Close()); err != nil {
			t.Fatal(err)
		}
		if role == record.RoleHub {
			if _, err := node.CreateRegion(t.Context(), c.o, "Lake region"); err != nil {
				t.Fatalf("creating the region again: %v", err)
			}
		}
		c.start()
		if err := c.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
			t.Errorf("%s: adding staff: %v", role, err)
		}
		c.confirmed()
		c.stop()
	}
}

// Here the power went after the founding had its place and before box.toml said so.
func TestFoundingIsNotRepeated(t *testing.T) {
	c := newClinic(t)
	c.confirmed()
	region, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.stop()
	path := filepath.Join(c.o.Data, "box.toml")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	without := regexp.MustCompile(`(?m)^region.*$`).ReplaceAll(raw, nil)
	if err := os.WriteFile(path, without, 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	if s, err := c.n.Status(t.Context()); err != nil || s.Region != region.Region {
		t.Errorf("region after the start: got %s, %v; want %s", s.Region, err, region.Region)
	}
}

// A box that starts and stops leaves nothing behind, however often.
func TestStopEndsEverything(t *testing.T) {
	c := newClinic(t)
	c.confirmed()
	c.stop()
	c.start()
	c.stop()
	before := runtime.NumGoroutine()
	for range 5 {
		c.start()
		c.stop()
	}
	if after := runtime.NumGoroutine(); after > before+10 { // some of the libraries' end a little later
		t.Errorf("goroutines: %d before, %d after five more starts", before, after)
	}
}
