package node

import (
	"bytes"
	"crypto/ed25519"
	"math"
	"testing"
	"time"

	"github.com/healthpost/healthpost/record"
)

// person is a staff key that is the same each time.
func person(i byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{i}, ed25519.SeedSize))
}

func TestOnlySignedEmergenciesCount(t *testing.T) {
	c := record.CompartmentID{1}
	claim := glassClaim{Compartment: c[:], HLC: 1 << 40, Words: "unconscious after a fall"}
	good, err := signGlass(claim, person(1), person(2))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeGlass(good, c); err != nil || len(got.Staff) != 2 || got.Words != claim.Words {
		t.Fatalf("a good one: %+v, %v", got, err)
	}
	bad := map[string][]byte{}
	sign := func(name string, claim glassClaim, keys ...ed25519.PrivateKey) {
		plain, err := signGlass(claim, keys...)
		if err != nil {
			t.Fatal(err)
		}
		bad[name] = plain
	}
	sign("one person", claim, person(1))
	sign("one person twice", claim, person(1), person(1))
	sign("three persons", claim, person(1), person(2), person(3))
	other := claim
	other.Compartment = make([]byte, 16)
	sign("of another chart", other, person(1), person(2))
	long := claim
	long.Words = string(bytes.Repeat([]byte("x"), 501))
	sign("a long reason", long, person(1), person(2))
	var b glassBody
	if err := record.Unmarshal(good, &b); err != nil {
		t.Fatal(err)
	}
	b.Sigs[1], b.Sigs[0] = b.Sigs[0], b.Sigs[1]
	if bad["signatures of each other"], err = record.Marshal(b); err != nil {
		t.Fatal(err)
	}
	for name, plain := range bad {
		if _, err := decodeGlass(plain, c); err == nil {
			t.Errorf("%s counts", name)
		}
	}
}

// TestAClockAheadKeepsNoEmergencyFromBeingLate: when it was is the word of the box that wrote it.
func TestAClockAheadKeepsNoEmergencyFromBeingLate(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	n := &Node{}
	n.o.Now = func() time.Time { return now }
	for days, want := range map[int]bool{-8: true, -6: false, 0: false, 6: false, 8: true, 40_000: true} {
		if got := n.isLate(hlcFrom(now.AddDate(0, 0, days))); got != want {
			t.Errorf("%d days ahead: late %v, want %v", days, got, want)
		}
	}
	if !n.isLate(math.MaxUint64) || !n.isLate(0) {
		t.Error("the ends of time are not late")
	}
}

func FuzzDecodeGlass(f *testing.F) {
	c := record.CompartmentID{1}
	for _, claim := range []glassClaim{{Compartment: c[:], Words: "unconscious after a fall"}, {Compartment: c[:], Of: make([]byte, 32), Words: "needed"}} {
		keys := []ed25519.PrivateKey{person(1), person(2)}
		plain, err := signGlass(claim, keys[:2-len(claim.Of)/32]...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		claim, err := decodeGlass(plain, c)
		if err != nil {
			return
		}
		if len(claim.Staff) == 0 || len(claim.Staff) > 2 || len(claim.Of) != 0 && len(claim.Staff) != 1 {
			t.Errorf("%d persons, %d bytes of what it is about", len(claim.Staff), len(claim.Of))
		}
		for _, k := range claim.Staff {
			if len(staffIDOf(k)) != 32 {
				t.Error("a staff id of another length")
			}
		}
	})
}
