package peersync

import (
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
)

// PeerID is libp2p's name for a device: its Ed25519 key in another spelling.
func PeerID(d record.DeviceID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(d[:])
	if err != nil {
		return "", fmt.Errorf("naming device %s: %w", d.Short(), err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("naming device %s: %w", d.Short(), err)
	}
	return id, nil
}

// DeviceOf is the device behind a peer id; an error for keys other than Ed25519.
func DeviceOf(id peer.ID) (record.DeviceID, error) {
	key, err := id.ExtractPublicKey()
	if err != nil {
		return record.DeviceID{}, fmt.Errorf("reading peer id: %w", err)
	}
	raw, err := key.Raw()
	if err != nil || key.Type() != crypto.Ed25519 || len(raw) != ed25519.PublicKeySize {
		return record.DeviceID{}, fmt.Errorf("reading peer id: %w: not an Ed25519 key", record.ErrMalformed)
	}
	return record.DeviceID(raw), nil
}

// SplitAddress takes a multiaddr that ends in /p2p/ apart into the device and
// the address to dial. A multiaddr without /p2p/ gives a zero device.
func SplitAddress(s string) (record.DeviceID, ma.Multiaddr, error) {
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return record.DeviceID{}, nil, fmt.Errorf("reading address: %w", err)
	}
	dial, id := peer.SplitAddr(a)
	if dial == nil {
		return record.DeviceID{}, nil, fmt.Errorf("reading address: %w: no transport in it", record.ErrMalformed)
	}
	if id == "" {
		return record.DeviceID{}, dial, nil
	}
	d, err := DeviceOf(id)
	return d, dial, err
}

func privateKey(key ed25519.PrivateKey) (crypto.PrivKey, error) {
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("reading device key: %w", err)
	}
	return k, nil
}
