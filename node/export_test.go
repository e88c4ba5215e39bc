package node

import (
	"context"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// Store is the box's replica, for tests that bring about what peers and crashes do.
func (n *Node) Store() *store.Store { return n.store }

// FoundOnly writes the founding record and nothing after it, as a founder does
// that loses its power there.
func (n *Node) FoundOnly(ctx context.Context, name string) error {
	if err := n.newReadingKey(); err != nil {
		return err
	}
	body, err := record.Marshal(record.RegionFound{Name: name, Nonce: make([]byte, 16), Founder: n.selfMember()})
	if err != nil {
		return err
	}
	_, err = n.appendControl(ctx, record.KindRegionFound, body)
	return err
}
