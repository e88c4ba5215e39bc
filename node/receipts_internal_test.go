package node

import "github.com/healthpost/healthpost/record"

// TakeReceipt is what a session does with a hub's receipt.
func (n *Node) TakeReceipt(hub record.DeviceID, r record.Receipt) error { return n.takeReceipt(hub, r) }

// TakeEvidence is what a session does with a peer's evidence.
func (n *Node) TakeEvidence(from record.DeviceID, b []byte) error { return n.takeEvidence(from, b) }

// LooksAt is what a session asks before it asks for evidence.
func (n *Node) LooksAt(id [8]byte) bool { return n.evidence.seenIDs.lacks(id) }

// HeardRefusal is what a session does with a hub's refusal.
func (n *Node) HeardRefusal(out record.Outcome, by record.DeviceID) error {
	return n.heardRefusal(out, by)
}
