package node_test

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/web"
)

// A hub that is cut off from the others shows an old ledger and nothing false. A clinic
// that talks to it alone asks another one after a while.
func TestViewThatDoesNotBecomeYoungerIsAskedOfAnotherHub(t *testing.T) {
	one := newHub(t)
	two := joinHub(t, "Hub two", one)
	three := joinHub(t, "Hub three", one, two)
	everywhere(one, two, three)
	c := newMember(t, one, "Clinic")
	everywhere(one, two, three, c)
	c.stop()
	one.stop()
	cut := one.image().elsewhere()
	cut.o.Dial = []string{"/ip4/127.0.0.1/tcp/1/p2p/" + peerOf(t, two)}
	cut.start()
	if err := two.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Okello Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	everywhere(two, three)
	c.o.CosignEvery = 300 * time.Millisecond // what this box takes the hubs to do
	c.dials(cut, two).start()
	size := hubSize(t, two)
	c.until("what the others ordered", func(s node.Status) bool { return s.Confirmed >= size })
}

func peerOf(t *testing.T, c *clinic) string {
	t.Helper()
	id, err := node.PeerIDOf(c.o.Data)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
