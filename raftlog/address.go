package raftlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

const incarnationBytes = 8

// serverName is the raft server id of a device on one disk.
func serverName(d record.DeviceID, incarnation [incarnationBytes]byte) raft.ServerID {
	h := sha256.New()
	h.Write([]byte("hp:hub:1\x00"))
	h.Write(d[:])
	h.Write(incarnation[:])
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:5])
	return raft.ServerID(strings.ToLower(text))
}

// peerOf is the libp2p peer id of a device key.
func peerOf(d record.DeviceID) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(d[:])
	if err != nil {
		return "", fmt.Errorf("reading device key: %w", err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("naming peer: %w", err)
	}
	return id, nil
}

// deviceOf is the device key inside a peer id.
func deviceOf(id peer.ID) (record.DeviceID, error) {
	key, err := id.ExtractPublicKey()
	if err != nil {
		return record.DeviceID{}, fmt.Errorf("reading peer id: %w", err)
	}
	raw, err := key.Raw()
	if err != nil || key.Type() != crypto.Ed25519 || len(raw) != ed25519.PublicKeySize {
		return record.DeviceID{}, fmt.Errorf("reading peer id: not an Ed25519 key")
	}
	return record.DeviceID(raw), nil
}

// addressOf is the raft address of a device.
func addressOf(d record.DeviceID) (raft.ServerAddress, error) {
	id, err := peerOf(d)
	return raft.ServerAddress(id.String()), err
}

// deviceAt is the device of a raft address.
func deviceAt(a raft.ServerAddress) (record.DeviceID, error) {
	id, err := peer.Decode(string(a))
	if err != nil {
		return record.DeviceID{}, fmt.Errorf("reading raft address: %w", err)
	}
	return deviceOf(id)
}
