package node

import (
	"maps"
	"slices"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/healthpost/healthpost/seal"
)

// OpenLocked opens a box whose keys are locked, as running it does.
func OpenLocked(o Options) (*Node, error) {
	o.whileLocked = true
	return Open(o)
}

// CompartmentKeys are the unwrapped keys that a box has in memory.
func (n *Node) CompartmentKeys() []seal.Key {
	n.vault.mu.Lock()
	defer n.vault.mu.Unlock()
	return slices.Collect(maps.Values(n.vault.known))
}

// Protocols are those that a running box serves to peers.
func (n *Node) Protocols() []protocol.ID { return n.up.Load().links.host.Libp2p().Mux().Protocols() }

// InvitationToken is the secret of an invitation.
func InvitationToken(text string) ([]byte, error) {
	i, err := parseInvitation(text)
	return i.Token, err
}
