package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/dict"
)

const ledgerZst = 4

// strangePeople write in a way that no program was shipped with.
func strangePeople(n int) (people [][][]byte) {
	r := rand.New(rand.NewPCG(7, 7))
	for p := range n {
		var visits [][]byte
		for range 4 {
			visits = append(visits, strangeVisit(r, p))
		}
		people = append(people, visits)
	}
	return people
}

func strangeVisit(r *rand.Rand, person int) []byte {
	var b bytes.Buffer
	for i := range 12 {
		fmt.Fprintf(&b, `{"xenoforme":"urn:zz:kvart-%d-oblongata","messwert":{"zahl":%d.%d,"einheit":"quillbeat per gnorph"},"wessen":"Person%06d","gewoehnlich":"halbmond fahrstuhl %d"}`,
			i%4, r.IntN(300), r.IntN(10), person*7919, i)
	}
	return b.Bytes()
}

func frameWith(t testing.TB, dictionary, text []byte) []byte {
	t.Helper()
	return frame(t, text, zstd.WithSingleSegment(true), zstd.WithEncoderDict(dictionary))
}

func withoutNumber(frame []byte) []byte {
	return append([]byte{frame[0] &^ 3}, frame[5:]...)
}

func ledgerDictionary(t testing.TB) record.Dictionary {
	t.Helper()
	b, err := dict.Train(strangePeople(40), dict.TrainOptions{PeopleMin: dict.PeopleMin})
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.DecodeDictionary(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestLedgerDictionaryMakesBodiesShorter(t *testing.T) {
	var with, without seal.Dictionaries
	d := ledgerDictionary(t)
	if err := with.Add(d); err != nil {
		t.Fatal(err)
	}
	plain := append([]byte(`{"id":"5f0c1e9a-6c1b-4d0e-9a51-0d2f6f8f3b11"}`), strangeVisit(rand.New(rand.NewPCG(1, 2)), 4242)...)
	packed, err := with.Pack(plain)
	if err != nil {
		t.Fatal(err)
	}
	builtIn, err := without.Pack(plain)
	if err != nil {
		t.Fatal(err)
	}
	if packed[0] != ledgerZst || 10*len(packed) > 7*len(builtIn) {
		t.Errorf("method %d in %d bytes, want %d in at most 0.7 of %d", packed[0], len(packed), ledgerZst, len(builtIn))
	}
	if got, err := with.Unpack(packed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unpacked %d bytes, %v, want %d", len(got), err, len(plain))
	}
	if got, err := with.Unpack(builtIn); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unpacked %d bytes, %v, want %d", len(got), err, len(plain))
	}
	_, err = without.Unpack(packed)
	var unknown *seal.UnknownDictionary
	if !errors.As(err, &unknown) || unknown.ID != d.ID || !errors.Is(err, seal.ErrNewer) {
		t.Errorf("without the dictionary: %v, want that %s is unknown", err, d.ID)
	}
	if _, err := packed.Unpack(); !errors.Is(err, seal.ErrNewer) {
		t.Errorf("without any ledger: %v, want ErrNewer", err)
	}
	if err := without.Add(d); err != nil {
		t.Fatal(err)
	}
	if got, err := without.Unpack(packed); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("once it came: %d bytes, %v", len(got), err)
	}
	if p, err := with.Pack(testSave); err != nil || p[0] != uuidsZst {
		t.Errorf("what the shipped dictionary packs better: method %d, %v", p[0], err)
	}
}

func TestLedgerDictionarySealsAndOpens(t *testing.T) {
	var d seal.Dictionaries
	if err := d.Add(ledgerDictionary(t)); err != nil {
		t.Fatal(err)
	}
	key, plain := newKey(t, 1), strangeVisit(rand.New(rand.NewPCG(1, 2)), 9)
	packed, err := d.Pack(plain)
	if err != nil {
		t.Fatal(err)
	}
	body, err := packed.Seal(reproducible(3), key, 1, testPos, testKind, testComp)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Open(one(key), testPos, testKind, testComp, body); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("opened %d bytes, %v", len(got), err)
	}
	if _, err := seal.Open(one(key), testPos, testKind, testComp, body); !errors.Is(err, seal.ErrNewer) {
		t.Errorf("without the dictionary: %v, want ErrNewer", err)
	}
}

// A word of one person's records is in no dictionary that everybody can read.
func TestTrainingLeavesOutWhatFewPeopleSay(t *testing.T) {
	people := strangePeople(40)
	rare := []byte(`"Katarzyna Wisniewska-Oduya, hiv positive"`)
	for p := range dict.PeopleMin - 1 {
		people[p] = append(people[p], bytes.Repeat(append(rare, people[p][0]...), 3))
	}
	b, err := dict.Train(people, dict.TrainOptions{PeopleMin: dict.PeopleMin})
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(rare) - 7 {
		if bytes.Contains(b, rare[i:i+8]) {
			t.Fatalf("%q of %d people is in the dictionary", rare[i:i+8], dict.PeopleMin-1)
		}
	}
	again, err := dict.Train(people, dict.TrainOptions{PeopleMin: dict.PeopleMin})
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("trained again: other bytes, %v", err)
	}
	if _, err := dict.Train(people[:1], dict.TrainOptions{PeopleMin: dict.PeopleMin}); !errors.Is(err, dict.ErrTooFew) {
		t.Errorf("of one person: %v, want ErrTooFew", err)
	}
}

func TestDictionariesRefuse(t *testing.T) {
	good := ledgerDictionary(t)
	var d seal.Dictionaries
	junk := bytes.Clone(good.Bytes)
	for i := 8; i < 200; i++ {
		junk[i] ^= 0xa5
	}
	bad, err := record.DecodeDictionary(junk)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Add(bad); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("tables of noise: %v, want ErrDamaged", err)
	}
	if err := d.Add(good); err != nil {
		t.Fatal(err)
	}
	head := func(count byte) seal.Packed { return append(append(seal.Packed{ledgerZst}, good.ID[:]...), count) }
	for name, p := range map[string]seal.Packed{
		"no dictionary":       {ledgerZst, 1, 2, 3},
		"no table":            head(0)[:9],
		"table cut":           append(head(1), make([]byte, 15)...),
		"no frame":            head(0),
		"its number stated":   append(head(0), frameWith(t, good.Bytes, testVisit)...),
		"shipped dictionary":  append(head(0), dictFrame(t, testVisit)...),
		"mark without a UUID": append(head(0), withoutNumber(frameWith(t, good.Bytes, []byte("\xff\x00")))...),
	} {
		if got, err := d.Unpack(p); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: %d bytes, %v, want ErrDamaged", name, len(got), err)
		}
	}
}

func TestDictionariesConcurrently(t *testing.T) {
	var d seal.Dictionaries
	x := ledgerDictionary(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			plain := strangeVisit(rand.New(rand.NewPCG(uint64(i), 2)), i)
			for n := range 10 {
				if n == 5 {
					if err := d.Add(x); err != nil {
						t.Error(err)
					}
				}
				p, err := d.Pack(plain)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := d.Unpack(p); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("worker %d: %d bytes, %v", i, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
