package node

import "github.com/healthpost/healthpost/store"

// Store is the box's replica, for tests that bring about what peers and crashes do.
func (n *Node) Store() *store.Store { return n.store }
