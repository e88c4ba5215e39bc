package node_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	peersync "github.com/healthpost/healthpost/sync"
)

// What a clinic lost it fetches from the hub, a hub from a clinic; a box that
// nobody can help says so.
func TestMendFetchesFromOthers(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.register("form-1", "Nakato")
	c.confirmed()
	s, err := c.n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hub.until("the clinic's records", func(h node.Status) bool { return h.Confirmed >= s.Size })
	if err := c.n.Mend(t.Context(), 0, s.Size); err != nil {
		t.Errorf("a clinic beside its hub: %v", err)
	}
	if err := hub.n.Mend(t.Context(), 1, s.Size); err != nil {
		t.Errorf("a hub beside its clinic: %v", err)
	}
	hub.stop()
	if err := c.n.Mend(t.Context(), 0, s.Size); !errors.Is(err, peersync.ErrNoPeer) {
		t.Errorf("a clinic alone: got %v, want ErrNoPeer", err)
	}
}

// A sound box is checked without a word to staff; the check is kept, so that the
// next one begins where it ended.
func TestScrubOfASoundBox(t *testing.T) {
	c := newClinic(t)
	c.register("form-1", "Nakato")
	c.confirmed()
	if err := c.n.TellDamage(0, 3); err != nil {
		t.Fatal(err)
	}
	faults := func() string {
		t.Helper()
		s, err := c.n.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(s.Faults, "\n")
	}
	if got := faults(); !strings.Contains(got, "3 records or rows on this disk are damaged") {
		t.Errorf("faults while something is damaged: %q", got)
	}
	if err := c.n.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := faults(); strings.Contains(got, "damaged") {
		t.Errorf("faults after a check that found nothing: %q", got)
	}
	rep, err := c.n.Verify(t.Context(), node.VerifyRequest{}, func(node.Progress) {})
	if err != nil || rep.From == 0 || rep.LastFull.IsZero() || len(rep.Damage) > 0 {
		t.Errorf("verify after the check: %+v, %v; want one that goes on", rep, err)
	}
	whole, err := c.n.Verify(t.Context(), node.VerifyRequest{Full: true}, func(node.Progress) {})
	if err != nil || whole.From != 0 || whole.Entries <= rep.Entries {
		t.Errorf("a full verify: %+v, %v", whole, err)
	}
	c.stop()
	later := time.Now().Add(8 * 24 * time.Hour)
	c.o.Now = func() time.Time { return later }
	c.start()
	if rep, err := c.n.Verify(t.Context(), node.VerifyRequest{}, func(node.Progress) {}); err != nil || rep.From != 0 {
		t.Errorf("verify a week later: %+v, %v; want everything", rep, err)
	}
}

func TestRepairNeedsARunningBox(t *testing.T) {
	c := newClinic(t)
	c.stop()
	n, err := node.Open(c.o)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.Verify(t.Context(), node.VerifyRequest{Repair: true}, func(node.Progress) {}); !errors.Is(err, node.ErrNotRunning) {
		t.Errorf("got %v, want ErrNotRunning", err)
	}
}
