package node

import (
	"bytes"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// FuzzHubSeed: what a hub tells a joining box is read in one way only, and what
// boxes of the first release wrote stays readable.
func FuzzHubSeed(f *testing.F) {
	hub := seedHub{Device: bytes.Repeat([]byte{7}, 32), Addresses: []string{"/ip4/10.0.0.1/tcp/4001"}}
	first, err := record.Marshal(firstSeed{Size: 9, Hubs: []seedHub{hub}, Members: [][]byte{}})
	if err != nil {
		f.Fatal(err)
	}
	var s hubSeed
	if err := record.Unmarshal(first, &s); err != nil || s.Generation != 1 || s.Size != 9 || len(s.Hubs) != 1 {
		f.Fatalf("a list of the first release: %+v, %v", s, err)
	}
	s.Generation = 3
	later, err := record.Marshal(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first)
	f.Add(later)
	f.Add(later[:len(later)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.Unmarshal(b, &hubSeed{}) })
		var s hubSeed
		if record.Unmarshal(b, &s) != nil {
			return
		}
		again, err := record.Marshal(s)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x reads as %+v, which is %x, %v", b, s, again, err)
		}
	})
}

// Epochs in the order of the ledger, with what each knew, and whether the device
// must have run twice.
func TestTwoBoards(t *testing.T) {
	one, two := []byte("one"), []byte("two")
	e := func(id string, opened uint64, hw []byte, knows uint64, before string) epochSeen {
		return epochSeen{Epoch: []byte(id), Opened: opened, Hardware: hw, Knows: knows, Before: []byte(before)}
	}
	for name, x := range map[string]struct {
		list []epochSeen
		want bool
	}{
		"restarts":                        {[]epochSeen{e("a", 10, one, 19, ""), e("b", 20, one, 29, "a"), e("c", 30, one, 30, "b")}, false},
		"restored once":                   {[]epochSeen{e("a", 10, one, 19, ""), e("b", 20, one, 29, "a"), e("c", 40, one, 55, "a"), e("d", 60, one, 60, "c")}, false},
		"restored, lost records late":     {[]epochSeen{e("a", 10, one, 19, ""), e("c", 40, one, 55, "a"), e("b", 50, one, 29, "a"), e("d", 60, one, 60, "c")}, false},
		"restored twice":                  {[]epochSeen{e("a", 10, one, 19, ""), e("b", 20, one, 29, "a"), e("c", 40, one, 55, "a"), e("d", 60, one, 70, "a"), e("e", 80, one, 80, "d")}, false},
		"moved to a spare board":          {[]epochSeen{e("a", 10, one, 19, ""), e("b", 20, two, 29, "a")}, false},
		"at once":                         {[]epochSeen{e("a", 10, one, 30, ""), e("b", 20, one, 30, "")}, true},
		"by turns":                        {[]epochSeen{e("a", 10, one, 19, ""), e("b", 20, one, 29, "a"), e("t", 30, one, 39, "a"), e("c", 40, one, 40, "b")}, true},
		"a board, another, and the first": {[]epochSeen{e("a", 10, one, 19, ""), e("b", 20, two, 29, "a"), e("c", 30, one, 30, "b")}, true},
		"predecessors in a circle":        {[]epochSeen{e("a", 10, one, 19, "b"), e("b", 20, one, 20, "a")}, false},
	} {
		got := false
		for at := range x.list { // each arrives in turn, the last record of each last
			got = got || twoBoards(x.list, at)
		}
		if got != x.want {
			t.Errorf("%s: two boards %v, want %v", name, got, x.want)
		}
	}
}
