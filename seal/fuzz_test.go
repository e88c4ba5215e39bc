package seal_test

import (
	"bytes"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/dict"
	"github.com/healthpost/healthpost/test/fuzz"
)

func FuzzUnpack(f *testing.F) {
	for _, plain := range [][]byte{nil, testVisit, testSave, noise(100), bytes.Repeat(testVisit, 150)} {
		p, err := seal.Pack(plain)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(p))
	}
	f.Add([]byte{2, byte(dict.Current().ID)})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.BoundedBy(t, fuzz.FixedBytes+4*seal.PlainBytesMax, func() { seal.Packed(b).Unpack() })
		plain, err := seal.Packed(b).Unpack()
		if err != nil {
			return
		}
		if len(plain) > seal.PlainBytesMax {
			t.Fatalf("%d bytes from %d", len(plain), len(b))
		}
		again, err := seal.Pack(plain)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := again.Unpack(); err != nil || !bytes.Equal(back, plain) {
			t.Fatalf("packed again: %d bytes, %v, want %d", len(back), err, len(plain))
		}
	})
}

// FuzzPack: whatever goes in comes out, sealed or not.
func FuzzPack(f *testing.F) {
	f.Add(testVisit, uint64(1))
	f.Add(testSave, uint64(2))
	f.Add([]byte{0x80}, uint64(0))
	f.Fuzz(func(t *testing.T, plain []byte, gen uint64) {
		body, err := seal.Seal(reproducible(1), newKey(t, 1), gen, testPos, testKind, testComp, plain)
		if err != nil {
			return // too large
		}
		got, err := seal.Open(only(gen, newKey(t, 1)), testPos, testKind, testComp, body)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %d bytes, %v, want %d", len(got), err, len(plain))
		}
	})
}

// FuzzOpen: nobody without the key makes a body that opens.
func FuzzOpen(f *testing.F) {
	body, err := seal.Seal(reproducible(1), newKey(f, 2), 1, testPos, testKind, testComp, testVisit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.Open(one(newKey(t, 1)), testPos, testKind, testComp, b) })
		if got, err := seal.Open(one(newKey(t, 1)), testPos, testKind, testComp, b); err == nil {
			t.Fatalf("opened to %d bytes", len(got))
		}
	})
}

func FuzzDecodeWraps(f *testing.F) {
	b, err := seal.EncodeWraps(sampleWraps(f, 3))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.DecodeWraps(b) })
		wraps, err := seal.DecodeWraps(b)
		if err != nil {
			return
		}
		if again, err := seal.EncodeWraps(wraps); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again: %x, %v, want %x", again, err, b)
		}
		for _, w := range wraps {
			if _, err := seal.UnwrapKey(newKey(t, 99), w); err == nil {
				t.Fatal("unwrapped with a key that wrapped nothing")
			}
		}
	})
}

func FuzzDecodeKeyring(f *testing.F) {
	b, err := sampleKeyring(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(newerKeyFile(f)))
	locked := sampleKeyring(f)
	if err := locked.Lock(reproducible(5), seal.FileKey(newKey(f, 40))); err != nil {
		f.Fatal(err)
	}
	if b, err = locked.Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	_, _, b = withChip(f, seal.TPMLock)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.DecodeKeyring(b) })
		ring, err := seal.DecodeKeyring(b)
		if err != nil {
			return
		}
		if ring.Locked() {
			if !ring.Local.IsZero() || ring.LockKind() == seal.NoLock {
				t.Fatal("a locked keyring with keys, or without a lock")
			}
			return
		}
		if again, err := ring.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("written again: %d bytes, %v, want %d", len(again), err, len(b))
		}
	})
}

func FuzzDecodeStaffKey(f *testing.F) {
	f.Add(newStaff(f).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.DecodeStaffKey(b) })
		k, err := seal.DecodeStaffKey(b)
		if err != nil {
			return
		}
		if again := k.Encode(); !bytes.Equal(again, b) {
			t.Fatalf("written again: %x, want %x", again, b)
		}
	})
}

func FuzzOpenRow(f *testing.F) {
	row, err := seal.SealRow(reproducible(1), newKey(f, 2), []byte("k"), testVisit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.OpenRow(newKey(t, 1), []byte("k"), b) })
		if _, err := seal.OpenRow(newKey(t, 1), []byte("k"), b); err == nil {
			t.Fatal("opened")
		}
	})
}

func FuzzOpenWith(f *testing.F) {
	box, err := seal.SealTo(newExchange(f, 2).PublicKey(), nil, testVisit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(box)
	priv := newExchange(f, 1)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { seal.OpenWith(priv, []byte("another info"), b) })
		if _, err := seal.OpenWith(priv, []byte("another info"), b); err == nil {
			t.Fatal("opened")
		}
	})
}

// Whoever may publish a dictionary may publish any bytes.
func FuzzDictionaries(f *testing.F) {
	small, err := dict.Train(strangePeople(8), dict.TrainOptions{HistoryBytesMax: 4 << 10})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small, []byte("a visit"))
	f.Fuzz(func(t *testing.T, b, plain []byte) {
		if len(b) < 8 {
			return
		}
		copy(b, small[:8])
		x, err := record.DecodeDictionary(b)
		var d seal.Dictionaries
		if err != nil || d.Add(x) != nil {
			return
		}
		p, err := d.Pack(plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Unpack(p); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("got %x, %v, want %x", got, err, plain)
		}
	})
}
