package node

import (
	"context"

	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/web"
)

// What the page shows of evidence: web.Clinic.

// SeenFault notes that staff have read a fault that need not last.
func (n *Node) SeenFault(ctx context.Context, s web.Session, code string) error {
	if _, err := n.allow(ctx, s, policy.Links, ""); err != nil {
		return err
	}
	if !web.FaultKnown(code) {
		return nil // of another version of the page: nothing is told under this name
	}
	if !web.FaultEnds(code) {
		return web.ErrRefused
	}
	return explain(n.seen(ctx, code))
}
