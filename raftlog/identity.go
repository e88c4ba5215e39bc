package raftlog

import (
	"crypto/rand"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

var (
	keyIncarnation = []byte{prefixMeta, 'i'}
	keyDevice      = []byte{prefixMeta, 'd'}
)

// openIncarnation reads the incarnation of this disk's raft state, or makes one
// on a disk that has none.
func openIncarnation(kv KV, d record.DeviceID) ([incarnationBytes]byte, error) {
	var incarnation [incarnationBytes]byte
	value, ok, err := kv.Get(keyIncarnation)
	if err != nil {
		return incarnation, fmt.Errorf("reading incarnation: %w", err)
	}
	if !ok {
		rand.Read(incarnation[:])
		if err := kv.Update([]Row{{keyDevice, d[:]}, {keyIncarnation, incarnation[:]}}); err != nil {
			return incarnation, fmt.Errorf("storing incarnation: %w", err)
		}
		return incarnation, nil
	}
	if len(value) != incarnationBytes {
		return incarnation, fmt.Errorf("reading incarnation: %w: %d bytes", record.ErrMalformed, len(value))
	}
	owner, ok, err := kv.Get(keyDevice)
	if err != nil {
		return incarnation, fmt.Errorf("reading incarnation: %w", err)
	}
	if !ok || string(owner) != string(d[:]) {
		return incarnation, fmt.Errorf("reading incarnation: %w", ErrForeign)
	}
	return [incarnationBytes]byte(value), nil
}
