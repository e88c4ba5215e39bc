package node_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/node"
)

// image copies a stopped box into a folder of its own.
func (c *clinic) image() *clinic {
	c.t.Helper()
	out := &clinic{t: c.t, o: c.o}
	out.o.Data = c.t.TempDir()
	if err := os.CopyFS(out.o.Data, os.DirFS(c.o.Data)); err != nil {
		c.t.Fatal(err)
	}
	if err := os.RemoveAll(out.o.Data + "/control.sock"); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// elsewhere gives the box a port of its own, as a second board has an address of its own.
func (c *clinic) elsewhere() *clinic {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	c.o.Listen = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port)}
	return c
}

func (c *clinic) untilTold(words string) {
	c.t.Helper()
	c.until(fmt.Sprintf("a fault that says %q", words), func(s node.Status) bool {
		return strings.Contains(strings.Join(s.Faults, "\n"), words)
	})
}

func (c *clinic) faults() string {
	c.t.Helper()
	s, err := c.n.Status(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Join(s.Faults, "\n")
}

func TestRestoredBoxGetsItsRecordsBackAndSaysSo(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.register("form-1", "Nakato")
	c.confirmed()
	if got := c.faults(); strings.Contains(got, "restored") {
		t.Errorf("before anything happened: %s", got)
	}
	c.stop()
	old := c.image()
	c.start()
	c.signIn()
	id := c.register("form-2", "Babirye")
	c.confirmed()
	c.stop()
	if got := c.faultsAfterStart(); strings.Contains(got, "restored") {
		t.Errorf("after an ordinary restart: %s", got)
	}
	old.start()
	old.untilTold("this box was restored from an older state: 3 of its own records came back from Hub")
	old.signIn()
	old.until("the patient of the lost days", func(node.Status) bool { return len(old.find("babirye")) == 1 })
	if err := old.n.SeenFault(t.Context(), old.token, "restored"); err != nil {
		t.Fatal(err)
	}
	if got := old.faults(); strings.Contains(got, "restored") {
		t.Errorf("after staff read it: %s", got)
	}
	old.register("form-3", "Mukasa")
	old.confirmed()
	old.open(id)
	if got := old.faults(); strings.Contains(got, "restored") || strings.Contains(got, "two boards") {
		t.Errorf("after going on: %s", got)
	}
	old.stop()
}

func (c *clinic) faultsAfterStart() string {
	c.t.Helper()
	c.start()
	c.confirmed()
	out := c.faults()
	c.stop()
	return out
}

func TestClonedCardIsFlaggedAndBothGoOn(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.register("form-1", "Nakato")
	c.confirmed()
	c.stop()
	twin := c.image().elsewhere()
	both := []*clinic{c, twin}
	for i, x := range both {
		x.start()
		x.signIn()
		x.register(fmt.Sprint("first-", i), "Babirye")
		x.confirmed()
	}
	for i, x := range both {
		x.until("what the other one wrote", func(node.Status) bool { return len(x.find("babirye")) == 2 })
		x.register(fmt.Sprint("second-", i), "Mukasa")
		x.confirmed()
	}
	const words = "the card of Clinic runs in two boards at once"
	for _, x := range append(both, hub) {
		x.untilTold(words)
	}
	members, err := hub.n.Members()
	if err != nil || !members[1].Cloned || members[0].Cloned {
		t.Errorf("members: %+v, %v; want the clinic flagged", members, err)
	}
	for i, x := range both { // both keep working
		x.register(fmt.Sprint("third-", i), "Okello")
		x.confirmed()
	}
	for _, x := range both {
		x.until("what the other one wrote", func(node.Status) bool { return len(x.find("okello")) == 2 })
		if got := x.faults(); strings.Contains(got, "refused") || strings.Contains(got, "two records for one place") {
			t.Errorf("faults of an honest clone: %s", got)
		}
	}
}

// Two cards of one box that are used by turns, never at once.
func TestCardsByTurnsAreFlagged(t *testing.T) {
	hub := newHub(t)
	c := newMember(t, hub, "Clinic")
	c.register("form-1", "Nakato")
	c.confirmed()
	c.stop()
	twin := c.image().elsewhere()
	for turn := range 2 {
		for i, x := range []*clinic{c, twin} {
			x.start()
			x.confirmed()
			x.until("the ledger", func(s node.Status) bool { return s.Size >= hubSize(t, hub) })
			x.signIn()
			x.register(fmt.Sprint("turn-", turn, "-", i), "Babirye")
			x.confirmed()
			if got := hub.faults(); turn == 0 && got != "" {
				t.Errorf("after each card was used once, which a restored box does too: %s", got)
			}
			x.stop()
		}
	}
	hub.untilTold("the card of Clinic runs in two boards")
	c.start()
	c.untilTold("the card of Clinic runs in two boards")
}
