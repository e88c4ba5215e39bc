package node

import (
	"bytes"
	"errors"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// A box that sheets of the escrow opened a chart to gives itself a permission. That counts everywhere where
// the escrow signed it that was in force at its place in the ledger. Sheets of an earlier one open
// what was wrapped to them, on the box where they are brought, and nothing that came later.

// recovered is a permission that an escrow signed.
type recovered struct {
	box   record.DeviceID
	until uint64
}

// recoveries reads what the ledger has of uses for a chart, as far as the escrow in force then signed them.
func (d *directives) recoveries(n *Node, c record.CompartmentID) error {
	var uses []record.UsedEscrow
	var bad error
	err := n.store.ScanRegistry(record.UsedEscrowsOf(c), func(key, value []byte) bool {
		var u record.UsedEscrow
		u, bad = record.ReadUsedEscrow(key, value)
		uses = append(uses, u)
		return bad == nil
	})
	if err := errors.Join(err, bad); err != nil || len(uses) == 0 {
		return err
	}
	list, err := record.EscrowsOf(n.store.State())
	if err != nil {
		return err
	}
	d.used = map[chart.DirectiveID]recovered{}
	for _, u := range uses {
		inForce := len(list)
		for inForce > 0 && list[inForce-1].Seq > u.Seq {
			inForce--
		}
		if inForce > 0 && bytes.Equal(list[inForce-1].Public, u.Public) {
			d.used[u.Directive] = recovered{u.Device, u.Until}
		}
	}
	return nil
}

// byEscrow reports whether an escrow signed this permission of a box to itself.
func (d *directives) byEscrow(x *chart.Decided, by record.DeviceID) bool {
	u, ok := d.used[x.ID]
	return ok && x.Decision == chart.DecisionGrant && u.box == by && x.Grantee == by && x.Until == int64(u.until)
}
