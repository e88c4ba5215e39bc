package seal_test

import (
	"crypto/rand"
	"testing"

	"github.com/healthpost/healthpost/seal"
)

func BenchmarkPack(b *testing.B) {
	b.SetBytes(int64(len(testVisit)))
	for b.Loop() {
		if _, err := seal.Pack(testVisit); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	p, err := seal.Pack(testVisit)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(testVisit)))
	for b.Loop() {
		if _, err := p.Unpack(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealPacked(b *testing.B) {
	p, err := seal.Pack(testVisit)
	if err != nil {
		b.Fatal(err)
	}
	key := newKey(b, 1)
	for b.Loop() {
		if _, err := p.Seal(rand.Reader, key, 1, testPos, testKind, testComp); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	key := newKey(b, 1)
	body, err := seal.Seal(rand.Reader, key, 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := seal.Open(one(key), testPos, testKind, testComp, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrapKey(b *testing.B) {
	region, dek := newKey(b, 1), newKey(b, 2)
	for b.Loop() {
		if _, err := seal.WrapKey(rand.Reader, region, testComp, 1, dek); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnwrapKeyWith(b *testing.B) {
	priv, dek := newExchange(b, 1), newKey(b, 2)
	w, err := seal.WrapKeyTo(priv.PublicKey(), testComp, 1, dek)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := seal.UnwrapKeyWith(priv, w); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlind(b *testing.B) {
	key := newKey(b, 1)
	for b.Loop() {
		seal.Blind(key, "name", []byte("amina"))
	}
}

func BenchmarkOpenRow(b *testing.B) {
	key := newKey(b, 1)
	row, err := seal.SealRow(rand.Reader, key, []byte("k"), testVisit)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := seal.OpenRow(key, []byte("k"), row); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnlockDefault is what one sign-in, or one guess, costs.
func BenchmarkUnlockDefault(b *testing.B) {
	k, err := seal.NewStaffKey(rand.Reader, goodPIN, seal.DefaultPINParams())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := k.Unlock(goodPIN); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPackWithLedgerDictionary(b *testing.B) {
	var d seal.Dictionaries
	if err := d.Add(ledgerDictionary(b)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(testVisit)))
	for b.Loop() {
		if _, err := d.Pack(testVisit); err != nil {
			b.Fatal(err)
		}
	}
}
