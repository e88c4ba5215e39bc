package node_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/web"
)

// twoHubs gives a stopped hub whose ledger is longer than what is final, because
// the second hub of its region never ran, and that second hub's key.
func twoHubs(t *testing.T) (n *node.Node, region record.RegionID, second *seal.Keyring) {
	t.Helper()
	hub := newHub(t)
	other := newBox(t, record.RoleHub, "Second hub")
	if _, err := node.Join(t.Context(), other.o, hub.invite(record.RoleHub), nil); err != nil {
		t.Fatal(err)
	}
	if err := hub.n.AddStaff(t.Context(), nil, web.NewStaff{Name: "Amina Test", PIN: pin}); err != nil {
		t.Fatal(err)
	}
	hub.until("an order", func(s node.Status) bool { return s.Size > 5 })
	s, err := hub.n.Status(t.Context())
	if err != nil || s.Confirmed >= s.Size {
		t.Fatalf("final up to %d of %d without the second hub, %v", s.Confirmed, s.Size, err)
	}
	hub.stop()
	if region, err = record.ParseRegionID(s.Region); err != nil {
		t.Fatal(err)
	}
	if second, _, err = seal.LoadKeyring(filepath.Join(other.o.Data, "keys")); err != nil {
		t.Fatal(err)
	}
	if n, err = node.Open(hub.o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, region, second
}

// cosign is the second hub's note about a head.
func cosign(t *testing.T, region record.RegionID, head record.TreeHead, k *seal.Keyring) []byte {
	t.Helper()
	note, err := record.Cosign(region.Ledger(1), head, k.Signer(), time.Now().Unix())
	if err != nil {
		t.Fatal(err)
	}
	return note
}

// The power goes after a head was noted as signed and before anybody heard of it.
func TestALostCosignatureIsGivenAgain(t *testing.T) {
	n, region, second := twoHubs(t)
	if err := n.NewCosigner(true).Step(); err != nil {
		t.Fatal(err)
	}
	head := n.Store().Head()
	if n.Store().Signed() != head {
		t.Fatalf("signed %+v, want %+v", n.Store().Signed(), head)
	}
	c := n.NewCosigner(true)
	if err := c.Step(); err != nil {
		t.Fatal(err)
	}
	cp, err := record.OpenCheckpoint(region.Ledger(1), c.Note(), n.Store().Hubs())
	if err != nil || cp.Head != head {
		t.Fatalf("note after the restart: %+v, %v; want one for %+v", cp.Head, err, head)
	}
	if err := c.Offered(second.DeviceID(), cosign(t, region, head, second)); err != nil {
		t.Fatal(err)
	}
	if _, final, _ := n.Store().Final(); final != head {
		t.Errorf("final %+v, want %+v", final, head)
	}
	after := n.NewCosigner(false)
	if _, err := record.VerifyFinal(region.Ledger(1), after.Note(), n.Store().Hubs()); err != nil {
		t.Errorf("what others hear after another restart is not the final checkpoint: %v", err)
	}
}

func TestAHubSignsNothingSmallerAndNoOtherTree(t *testing.T) {
	n, region, second := twoHubs(t)
	c := n.NewCosigner(true)
	if err := c.Step(); err != nil {
		t.Fatal(err)
	}
	head := n.Store().Head()
	_, before, _ := n.Store().Final()
	smaller := record.TreeHead{Size: head.Size - 1}
	var err error
	if smaller.Root, err = n.Store().RootAt(smaller.Size); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again with an empty memory
		if err := c.Offered(second.DeviceID(), cosign(t, region, smaller, second)); err != nil {
			t.Errorf("an honest smaller note: %v", err)
		}
		other := record.TreeHead{Size: head.Size, Root: record.Hash{1}}
		if err := c.Offered(second.DeviceID(), cosign(t, region, other, second)); err == nil {
			t.Error("another root for a size was taken without a word")
		}
		if _, final, _ := n.Store().Final(); final != before {
			t.Errorf("final became %+v: this hub cosigned less than before, or another tree", final)
		}
		if n.Store().Signed() != head {
			t.Errorf("signed %+v, want %+v", n.Store().Signed(), head)
		}
		c = n.NewCosigner(false)
	}
}

// A hub that lies about sizes to come must not hold up the honest ones.
func TestALieAboutALaterSizeHoldsNothingUp(t *testing.T) {
	n, region, second := twoHubs(t)
	c := n.NewCosigner(false)
	head := n.Store().Head()
	lie := record.TreeHead{Size: head.Size + 1, Root: record.Hash{1}}
	if err := c.Offered(second.DeviceID(), cosign(t, region, lie, second)); err != nil {
		t.Fatalf("a note for a size that is not here yet: %v", err)
	}
	if err := c.Offered(second.DeviceID(), cosign(t, region, record.TreeHead{Size: lie.Size, Root: record.Hash{2}}, second)); err != nil {
		t.Errorf("a second root for a later size blames its sender before the ledger tells: %v", err)
	}
	if err := c.Offered(second.DeviceID(), cosign(t, region, head, second)); err != nil {
		t.Fatal(err)
	}
	if _, final, _ := n.Store().Final(); final != head {
		t.Errorf("final %+v, want %+v", final, head)
	}
}

// A hub whose disk forgot what it signed hears its own signature from others: until its
// ledger is as far again it signs nothing.
func TestAHubOnAnOlderDiskSignsNothingSmaller(t *testing.T) {
	n, region, second := twoHubs(t)
	own, _, err := seal.LoadKeyring(filepath.Join(n.Store().Dir(), "..", "keys"))
	if err != nil {
		t.Fatal(err)
	}
	head := n.Store().Head()
	c := n.NewCosigner(true)
	later := record.TreeHead{Size: head.Size + 5, Root: record.Hash{7}}
	if err := c.Offered(second.DeviceID(), cosign(t, region, later, own)); err != nil {
		t.Fatal(err)
	}
	before := n.Store().Signed()
	if err := c.Step(); err != nil {
		t.Fatal(err)
	}
	if err := c.Offered(second.DeviceID(), cosign(t, region, head, second)); err != nil {
		t.Fatal(err)
	}
	if got := n.Store().Signed(); got != before {
		t.Errorf("signed %+v after %+v was heard of", got, later)
	}
}

// One that has all of its log, but on a disk that forgot what it signed last, signs
// nothing before the log is in its ledger: neither as leader nor beside others.
func TestAHubSignsOnlyWhenItsLogIsApplied(t *testing.T) {
	n, region, second := twoHubs(t)
	ready := false
	c := n.NewCosignerBehind(func() bool { return ready })
	before, head := n.Store().Signed(), n.Store().Head()
	if err := c.Step(); err != nil {
		t.Fatal(err)
	}
	if err := c.Offered(second.DeviceID(), cosign(t, region, head, second)); err != nil {
		t.Fatal(err)
	}
	if got := n.Store().Signed(); got != before {
		t.Fatalf("signed %+v before its log was applied", got)
	}
	ready = true
	if err := c.Step(); err != nil {
		t.Fatal(err)
	}
	if _, final, _ := n.Store().Final(); n.Store().Signed() != head || final != head {
		t.Errorf("signed %+v, final %+v, want %+v: what the other hub had signed was kept", n.Store().Signed(), final, head)
	}
}
