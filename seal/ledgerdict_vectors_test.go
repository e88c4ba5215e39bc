package seal_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/dict"
)

const dictionaryVectorsPath = "../test/vectors/dictionary.json"

// dictionaryVectors is read only: another version of the compressor may train and
// pack to other bytes, which this one must still read.
type dictionaryVectors struct {
	Dictionary hexBytes       `json:"dictionary"` // body of the record
	Name       hexBytes       `json:"name"`
	ID         hexBytes       `json:"id"`
	Packed     []packedVector `json:"packed"`
}

func TestDictionaryVectors(t *testing.T) {
	if *update {
		writeDictionaryVectors(t)
	}
	b, err := os.ReadFile(dictionaryVectorsPath)
	if err != nil {
		t.Fatal(err)
	}
	var v dictionaryVectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	x, err := record.DecodeDictionary(v.Dictionary)
	if err != nil || !bytes.Equal(x.Name[:], v.Name) || !bytes.Equal(x.ID[:], v.ID) {
		t.Fatalf("name %x, id %s, %v", x.Name, x.ID, err)
	}
	var d seal.Dictionaries
	if err := d.Add(x); err != nil {
		t.Fatal(err)
	}
	for i, p := range v.Packed {
		if got, err := d.Unpack(seal.Packed(p.Packed)); err != nil || !bytes.Equal(got, p.Plain) {
			t.Errorf("packed %d: %q, %v", i, got, err)
		}
	}
}

func writeDictionaryVectors(t *testing.T) {
	t.Helper()
	small, err := dict.Train(strangePeople(8), dict.TrainOptions{HistoryBytesMax: 3 << 10, PeopleMin: dict.PeopleMin})
	if err != nil {
		t.Fatal(err)
	}
	x, err := record.DecodeDictionary(small)
	if err != nil {
		t.Fatal(err)
	}
	var d seal.Dictionaries
	if err := d.Add(x); err != nil {
		t.Fatal(err)
	}
	v := dictionaryVectors{Dictionary: small, Name: x.Name[:], ID: x.ID[:]}
	r := rand.New(rand.NewPCG(11, 11))
	for i := range 3 {
		plain := strangeVisit(r, 100+i)
		if i > 0 {
			plain = append(plain, `,"id":"5f0c1e9a-6c1b-4d0e-9a51-0d2f6f8f3b11","again":"5f0c1e9a-6c1b-4d0e-9a51-0d2f6f8f3b11"}`...)
		}
		p, err := d.Pack(plain)
		if err != nil || p[0] != ledgerZst {
			t.Fatalf("packed with method %d, %v", p[0], err)
		}
		v.Packed = append(v.Packed, packedVector{hexBytes(p), plain})
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = os.WriteFile(dictionaryVectorsPath, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
