package node

import (
	"crypto/ecdh"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// TestCardTakesNoPlantedKeys: of what anybody may wrap to a card, only keys that their numbers commit to, of
// closed generations of this chart.
func TestCardTakesNoPlantedKeys(t *testing.T) {
	card, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, other := record.CompartmentID{1}, record.CompartmentID{2}
	keys := make([]seal.Key, 3)
	for i := range keys {
		if keys[i], err = seal.NewKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	gen := seal.ClosedGeneration(1, keys[0])
	var wraps []cardWrap
	wrap := func(c record.CompartmentID, gen uint64, k seal.Key) {
		w, err := seal.WrapKeyTo(card.PublicKey(), c, gen, k)
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, cardWrap{Wrap: w})
	}
	wrap(c, gen, keys[1])                                   // another key under a known number
	wrap(other, seal.ClosedGeneration(1, keys[1]), keys[1]) // of another chart
	wrap(c, firstGen, keys[2])                              // as if it were the region's
	wrap(c, gen, keys[0])
	broken := wraps[len(wraps)-1]
	broken.Box = append([]byte{^broken.Box[0]}, broken.Box[1:]...)
	got := wrappedTo(card, c, append(wraps, broken))
	if len(got) != 1 || got[gen] != keys[0] {
		t.Errorf("%d keys, want the one that was wrapped", len(got))
	}
	wraps = slices.Insert(wraps, 0, slices.Repeat([]cardWrap{broken}, lentWrapsMax)...)
	wraps[len(wraps)-1].by = record.DeviceID{1}
	if got := wrappedTo(card, c, wraps); len(got) != 1 {
		t.Error("one box's nonsense keeps the card from what another wrapped to it")
	}
}
