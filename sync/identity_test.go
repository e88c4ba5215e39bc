package peersync_test

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

func TestDeviceAndPeerNames(t *testing.T) {
	want := deviceOf(deviceKey(1, 'h'))
	id, err := peersync.PeerID(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := peersync.DeviceOf(id); err != nil || got != want {
		t.Errorf("device %s, %v; want %s", got, err, want)
	}
	_, other, err := crypto.GenerateSecp256k1Key(nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := peer.IDFromPublicKey(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peersync.DeviceOf(foreign); !errors.Is(err, record.ErrMalformed) {
		t.Errorf("a key that is not Ed25519: %v, want ErrMalformed", err)
	}
	for _, x := range []struct {
		address, dial string
		device        record.DeviceID
		ok            bool
	}{
		{"/ip4/10.0.0.1/tcp/4001/p2p/" + id.String(), "/ip4/10.0.0.1/tcp/4001", want, true},
		{"/dns4/hub.example/udp/4001/quic-v1", "/dns4/hub.example/udp/4001/quic-v1", record.DeviceID{}, true},
		{"/p2p/" + id.String(), "", record.DeviceID{}, false},
		{"10.0.0.1:4001", "", record.DeviceID{}, false},
		{"", "", record.DeviceID{}, false},
	} {
		d, a, err := peersync.SplitAddress(x.address)
		if (err == nil) != x.ok || x.ok && (d != x.device || a.String() != x.dial) {
			t.Errorf("%q: device %s, dial %v, %v", x.address, d.Short(), a, err)
		}
	}
}
