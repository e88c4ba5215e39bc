package raftlog

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// FuzzConfiguration reads a configuration item of the raft log, which raft itself
// would end the process on.
func FuzzConfiguration(f *testing.F) {
	c := raft.Configuration{Servers: []raft.Server{{ID: "abcdefgh", Address: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"}}}
	f.Add(raft.EncodeConfiguration(c))
	f.Add([]byte{0x81, 0xa7})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { decodeConfiguration(b) })
		c, err := decodeConfiguration(b)
		if err != nil {
			if !errors.Is(err, record.ErrMalformed) {
				t.Errorf("error without a family: %v", err)
			}
			return
		}
		again, err := decodeConfiguration(raft.EncodeConfiguration(c))
		if err != nil || len(again.Servers) != len(c.Servers) {
			t.Errorf("got %d servers back, %v, want %d", len(again.Servers), err, len(c.Servers))
		}
		for _, s := range c.Servers {
			if d, err := deviceAt(s.Address); err == nil && d == (record.DeviceID{}) {
				t.Errorf("%q names no device", s.Address)
			}
		}
	})
}
