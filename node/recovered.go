package node

import (
	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// A box that sheets of the escrow opened a chart to gives itself a permission. That counts everywhere where
// the escrow signed it: the one that was in force at its place in the ledger. Sheets of an earlier one open
// what was wrapped to them, on the box where they are brought, and nothing that came later.

// recovered is a permission that an escrow signed.
type recovered struct {
	box   record.DeviceID
	until uint64
}

// recovered reads a use of the escrow. One that nobody signed is none.
func (d *directives) recovered(n *Node, x store.Placed) error {
	u, err := record.DecodeEscrowUse(x.Record.Body)
	if err != nil {
		return nil
	}
	by, ok, err := n.store.EpochAuthor(x.Record.Position().Epoch)
	if err != nil || !ok {
		return err
	}
	list, err := record.EscrowsOf(n.store.State())
	if err != nil {
		return err
	}
	inForce := len(list)
	for inForce > 0 && x.Ordered && list[inForce-1].Seq > x.Seq {
		inForce--
	}
	region, _ := n.box.RegionID()
	if inForce == 0 || u.Verify(region, by, x.Record.Core.Compartment, list[inForce-1:inForce]) != nil {
		return nil
	}
	if d.used == nil {
		d.used = map[chart.DirectiveID]recovered{}
	}
	d.used[chart.DirectiveID(u.Directive)] = recovered{by, u.Until}
	return nil
}

// byEscrow reports whether an escrow signed this permission of a box to itself.
func (d *directives) byEscrow(x *chart.Decided, by record.DeviceID) bool {
	u, ok := d.used[x.ID]
	return ok && x.Decision == chart.DecisionGrant && u.box == by && x.Grantee == by && x.Until == int64(u.until)
}
