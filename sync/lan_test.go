package peersync

import (
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
)

// TestNeighboursAreNear keeps an answer on the local network from sending this
// box anywhere else.
func TestNeighboursAreNear(t *testing.T) {
	var got []ma.Multiaddr
	f := found(func(_ record.DeviceID, list []ma.Multiaddr) { got = list })
	id, err := PeerID(record.DeviceID{0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc,
		0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c})
	if err != nil {
		t.Fatal(err)
	}
	f.HandlePeerFound(peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/8.8.8.8/tcp/4001"), ma.StringCast("/dns4/example.org/tcp/4001"),
		ma.StringCast("/ip4/192.168.1.7/tcp/4001"), ma.StringCast("/ip6/fe80::1/udp/4001/quic-v1")}})
	if len(got) != 2 || got[0].String() != "/ip4/192.168.1.7/tcp/4001" || got[1].String() != "/ip6/fe80::1/udp/4001/quic-v1" {
		t.Errorf("kept %v, want the two nearby addresses", got)
	}
}

func TestTurn(t *testing.T) {
	freed := 0
	turn := NewTurn(func() { freed++ })
	a, b := &Session{}, &Session{}
	for i, x := range []struct {
		do   func() bool
		want bool
	}{
		{func() bool { return turn.take(a, false) }, true},
		{func() bool { return turn.take(b, false) }, false},
		{func() bool { return turn.take(b, true) }, false}, // a is fetching
		{func() bool { turn.rest(a); return turn.take(b, false) }, false},
		{func() bool { return turn.take(b, true) }, true}, // a rests
		{func() bool { turn.drop(a); return turn.take(a, true) }, false},
		{func() bool { turn.drop(b); return turn.take(a, false) }, true},
	} {
		if got := x.do(); got != x.want {
			t.Errorf("step %d: got %t, want %t", i, got, x.want)
		}
	}
	if freed != 2 {
		t.Errorf("told of a free turn %d times, want 2", freed)
	}
}
