package record_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// dictionaryBytes is what the ledger takes for a dictionary; no compressor would.
func dictionaryBytes(content string) []byte {
	return append([]byte{0x37, 0xa4, 0x30, 0xec, 0, 0, 1, 0}, content...)
}

func (b *box) dictionary(body []byte) record.Record {
	return b.write(record.LaneBulk, record.KindDictionary, record.CompartmentID{}, body)
}

func (g *region) dictionaries(t testing.TB) []record.OrderedDictionary {
	t.Helper()
	list, err := record.DictionariesOf(g)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestDictionariesAreListedOnce(t *testing.T) {
	g := newRegion(t)
	if got := g.dictionaries(t); len(got) != 0 {
		t.Fatalf("a new region has %d dictionaries", len(got))
	}
	one, two := dictionaryBytes("what all visits say"), dictionaryBytes("what all vaccinations say")
	first := g.Size()
	g.mustOrder(t, g.hubs[0].dictionary(one))
	second := g.Size()
	g.mustOrder(t, g.hubs[1].dictionary(two), g.hubs[2].dictionary(one))
	var want []record.OrderedDictionary
	for i, b := range [][]byte{one, two} {
		d, err := record.DecodeDictionary(b)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, record.OrderedDictionary{Name: d.Name[:], Seq: []uint64{first, second}[i]})
	}
	if diff := cmp.Diff(want, g.dictionaries(t), cmpopts.IgnoreUnexported(record.OrderedDictionary{})); diff != "" {
		t.Error(diff)
	}
}

func TestDictionaryOfOthersIsRefused(t *testing.T) {
	g := newRegion(t)
	good := dictionaryBytes("what all visits say")
	other := bytes.Clone(good)
	binary.LittleEndian.PutUint32(other[4:8], 77777)
	for name, r := range map[string]record.Record{
		"by a clinic":          g.clinics[0].dictionary(good),
		"with another number":  g.hubs[0].dictionary(other),
		"that is none":         g.hubs[1].dictionary(make([]byte, 100)),
		"that is empty":        g.hubs[2].dictionary(nil),
		"that is far too long": g.clinics[1].dictionary(make([]byte, record.DictionaryBytesMax+1)),
	} {
		if got := g.order(t, startMillis+int64(g.Size())*1000, r); got[0].Verdict != record.NotAllowed {
			t.Errorf("a dictionary %s: %v, want NotAllowed", name, got[0].Verdict)
		}
	}
	if got := g.dictionaries(t); len(got) != 0 {
		t.Errorf("%d dictionaries are listed", len(got))
	}
}

func TestDictionaryID(t *testing.T) {
	b := dictionaryBytes("what all visits say")
	d, err := record.DecodeDictionary(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(b); d.Name != want || !bytes.Equal(d.ID[:], want[:8]) {
		t.Errorf("name %x, id %s, want %x", d.Name, d.ID, want)
	}
}

func FuzzDecodeDictionary(f *testing.F) {
	f.Add(dictionaryBytes("what all visits say"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeDictionary(b) })
		d, err := record.DecodeDictionary(b)
		if err != nil {
			wantMalformed(t, err)
			return
		}
		if !bytes.Equal(d.Bytes, b) || binary.LittleEndian.Uint32(b[4:8]) != record.DictionaryNumber {
			t.Error("other bytes or another number")
		}
	})
}
