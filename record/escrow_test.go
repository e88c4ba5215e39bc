package record_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
)

func escrowSigner(key byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{key}, 32))
}

func escrowOf(key byte, need, of uint64) record.Escrow {
	return record.Escrow{V: 1, Public: bytes.Repeat([]byte{key}, 32), Verifier: escrowSigner(key).Public().(ed25519.PublicKey), Need: need, Of: of}
}

func (b *box) escrow(e record.Escrow) record.Record {
	return b.write(record.LaneControl, record.KindEscrow, record.CompartmentID{}, mustMarshal(e))
}

// escrows are those that passed, by the first byte of their keys.
func (g *region) escrows(t testing.TB) (keys []byte, list []record.OrderedEscrow) {
	t.Helper()
	list, err := record.EscrowsOf(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		keys = append(keys, e.Public[0])
	}
	return keys, list
}

func TestEscrowPassesByVotes(t *testing.T) {
	g := newRegion(t)
	want := func(keys ...byte) {
		t.Helper()
		if got, _ := g.escrows(t); !bytes.Equal(got, keys) {
			t.Fatalf("got escrows %d, want %d", got, keys)
		}
	}
	want()
	g.mustOrder(t, g.hubs[0].escrow(escrowOf(1, 3, 5)))
	g.mustOrder(t, g.hubs[1].escrow(escrowOf(1, 2, 5))) // the same key with another number is another escrow
	want()
	g.mustOrder(t, g.hubs[0].rules("one")) // a vote about something else
	at := g.Size()
	g.mustOrder(t, g.hubs[1].escrow(escrowOf(1, 3, 5))) // the second hub thought again
	want(1)
	if _, list := g.escrows(t); list[0].Seq != at || list[0].Need != 3 || list[0].Of != 5 {
		t.Errorf("in force: %+v, want that of entry %d", list[0], at)
	}
	if n := len(g.proposals(t)); n != 1 { // that about rules
		t.Errorf("%d proposals are open, want 1", n)
	}
	g.mustOrder(t, g.hubs[2].escrow(escrowOf(1, 3, 5))) // late
	want(1)
	for k := byte(2); k < 30; k++ {
		e := escrowOf(k, 2, 3)
		g.mustOrder(t, g.hubs[k%3].escrow(e), g.hubs[(k+1)%3].escrow(e))
	}
	keys, _ := g.escrows(t)
	if len(keys) != 16 || keys[0] != 14 || keys[15] != 29 {
		t.Errorf("got escrows %d, want the last 16, the newest last", keys)
	}
	g.mustOrder(t, g.hubs[0].escrow(escrowOf(20, 2, 3)), g.hubs[1].escrow(escrowOf(20, 2, 3))) // one of before again
	if keys, _ = g.escrows(t); keys[15] != 20 {
		t.Errorf("got escrows %d, want 20 in force", keys)
	}
}

// TestEscrowIsOrderedWhateverItSays: a release that does not know the kind orders every
// record of it, so this one must too; what breaks the rules has no effect.
func TestEscrowIsOrderedWhateverItSays(t *testing.T) {
	g := newRegion(t)
	another := escrowOf(1, 2, 3)
	another.V = 2
	short := escrowOf(1, 2, 3)
	short.Verifier = short.Verifier[:31]
	for _, e := range []record.Escrow{another, short, escrowOf(1, 1, 3), escrowOf(1, 4, 3), escrowOf(1, 2, 17), escrowOf(1, 0, 0), escrowOf(1, 3, 1<<62)} {
		g.mustOrder(t, g.hubs[0].escrow(e), g.hubs[1].escrow(e), g.hubs[2].escrow(e))
		if _, err := record.DecodeEscrow(mustMarshal(e)); !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%+v: got %v, want ErrMalformed", e, err)
		}
	}
	g.mustOrder(t, g.hubs[0].write(record.LaneControl, record.KindEscrow, record.CompartmentID{}, []byte("noise")),
		g.clinics[0].escrow(escrowOf(1, 2, 3)), g.clinics[1].escrow(escrowOf(1, 2, 3)))
	if keys, _ := g.escrows(t); len(keys) != 0 || len(g.proposals(t)) != 0 {
		t.Errorf("escrows %d, %d proposals", keys, len(g.proposals(t)))
	}
	if b := mustMarshal(escrowOf(1, 16, 16)); len(b) > 74 {
		t.Errorf("an escrow has %d bytes, want at most 74", len(b))
	}
}
