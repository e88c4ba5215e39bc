package record_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// escrowUse is a box's word that sheets opened a chart to it, signed by the escrow with that key.
func (g *region) escrowUse(key byte, by *box, c record.CompartmentID, until uint64) record.EscrowUse {
	signer := escrowSigner(key)
	directive := bytes.Repeat([]byte{7}, 16)
	return record.EscrowUse{V: 1, Verifier: signer.Public().(ed25519.PublicKey), Compartment: c[:], Directive: directive, Until: until,
		Signature: ed25519.Sign(signer, record.EscrowUseClaim(g.id, by.id, c, directive, until))}
}

func (g *region) usedEscrows(t testing.TB) (list []record.UsedEscrow) {
	t.Helper()
	for key, value := range g.registry {
		if !bytes.HasPrefix([]byte(key), record.UsedEscrowPrefix()) {
			continue
		}
		u, err := record.ReadUsedEscrow([]byte(key), value)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, u)
	}
	return list
}

// TestEscrowUseIsKept: the ledger lists each use that the sheets signed, of an escrow that is in force or was,
// and no other: whatever else such a record says it is ordered.
func TestEscrowUseIsKept(t *testing.T) {
	g := newRegion(t)
	a, by := compartment("a"), g.clinics[0]
	for _, k := range []byte{1, 2} {
		g.mustOrder(t, g.hubs[0].escrow(escrowOf(k, 2, 3)), g.hubs[1].escrow(escrowOf(k, 2, 3)))
	}
	var none record.CompartmentID
	say := func(by *box, c record.CompartmentID, u record.EscrowUse) {
		t.Helper()
		g.mustOrder(t, by.write(record.LaneControl, record.KindEscrowUse, c, mustMarshal(u)))
	}
	noted := g.escrowUse(2, by, a, 99)
	late := noted
	late.Until++
	other := noted
	other.Directive = bytes.Repeat([]byte{8}, 16)
	elsewhere, b := noted, compartment("b")
	elsewhere.Compartment = b[:]
	another := noted
	another.V = 2
	for _, u := range []record.EscrowUse{g.escrowUse(3, by, a, 99), g.escrowUse(2, g.clinics[1], a, 99), elsewhere, late, other, another} {
		say(by, none, u)
	}
	say(by, a, noted) // which partial replicas would not have
	g.mustOrder(t, by.write(record.LaneControl, record.KindEscrowUse, none, []byte("noise")))
	if list := g.usedEscrows(t); len(list) != 0 {
		t.Fatalf("uses that nobody signed: %+v", list)
	}
	at := g.Size()
	say(by, none, noted)
	say(g.clinics[1], none, g.escrowUse(1, g.clinics[1], a, 0)) // by the sheets of before
	list := g.usedEscrows(t)
	if len(list) != 2 {
		t.Fatalf("got %d uses, want 2", len(list))
	}
	for _, u := range list {
		want := record.UsedEscrow{Seq: at, Time: u.Time, Compartment: a, Device: by.id, Until: 99, Public: bytes.Repeat([]byte{2}, 32)}
		if u.Seq != at {
			want = record.UsedEscrow{Seq: at + 1, Time: u.Time, Compartment: a, Device: g.clinics[1].id, Public: bytes.Repeat([]byte{1}, 32)}
		}
		if u.Seq != want.Seq || u.Directive != [16]byte(noted.Directive) || u.Compartment != want.Compartment || u.Device != want.Device || u.Until != want.Until || !bytes.Equal(u.Public, want.Public) || u.Time == 0 {
			t.Errorf("got %+v, want %+v", u, want)
		}
	}
	known, err := record.EscrowsOf(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := noted.Verify(g.id, by.id, known[:1]); !errors.Is(err, record.ErrSignature) {
		t.Errorf("of an escrow that is not known: %v", err)
	}
}

func FuzzReadUsedEscrow(f *testing.F) {
	f.Add(append([]byte("l"), make([]byte, 24)...), mustMarshal([]any{int64(5), make([]byte, 32), make([]byte, 16), uint64(9), make([]byte, 32)}))
	f.Add([]byte("l"), []byte{0x85})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		fuzz.Bounded(t, len(key)+len(value), func() { record.ReadUsedEscrow(key, value) })
		if u, err := record.ReadUsedEscrow(key, value); err == nil && len(u.Public) != 32 {
			t.Errorf("read as %+v", u)
		}
	})
}
