package node

import (
	"context"

	"github.com/healthpost/healthpost/web"
)

// What the page shows of evidence: web.Clinic.

// SeenFault notes that staff have read a fault that need not last.
func (n *Node) SeenFault(ctx context.Context, s web.Session, code string) error {
	if _, err := n.staff.get(s.Token, true); err != nil {
		return err
	}
	if web.FaultKnown(code) && !web.FaultEnds(code) {
		return web.ErrRefused
	}
	return explain(n.seen(ctx, code))
}

// Proof is the printed proof of a record.
func (n *Node) Proof(ctx context.Context, s web.Session, rid string) (web.ProofPage, error) {
	if _, err := n.staff.get(s.Token, true); err != nil {
		return web.ProofPage{}, err
	}
	return web.ProofPage{}, web.ErrNotConfirmed
}

// RootSheet is the region's root for paper.
func (n *Node) RootSheet(ctx context.Context, s web.Session) (web.RootPage, error) {
	if _, err := n.staff.get(s.Token, true); err != nil {
		return web.RootPage{}, err
	}
	return web.RootPage{}, web.ErrNotConfirmed
}
