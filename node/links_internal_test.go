package node

import (
	"testing"

	"github.com/rs/zerolog"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestLinksCutBeforeThereAreAny: who cuts the links of a box that is just starting
// finds them cut.
func TestLinksCutBeforeThereAreAny(t *testing.T) {
	n := openStandalone(t)
	n.o.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	l, err := n.newLinks()
	if err != nil {
		t.Fatal(err)
	}
	defer l.host.Close()
	l.setUp(false)
	var region record.RegionID
	live := peersync.NewLinks(l.host, replica{n.store, n, region}, peersync.LinksOptions{Session: l.sessionOptions(region), Hubs: l.hubs, Log: zerolog.Nop()})
	l.begin(live)
	if got := live.Why(); got != peersync.WhyCut {
		t.Errorf("links that were cut before they began: got %q, want %q", got, peersync.WhyCut)
	}
	l.setUp(true)
	if got := live.Why(); got == peersync.WhyCut {
		t.Errorf("links that were mended: got %q", got)
	}
}
