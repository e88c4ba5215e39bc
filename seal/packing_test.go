package seal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/dict"
	"pgregory.net/rapid"
)

// packedMore is what packing adds at most to what cannot be made shorter.
const packedMore = 1

// jsonValue draws any JSON value, white space and odd numbers and texts included.
func jsonValue(depth int) *rapid.Generator[string] {
	leaf := rapid.OneOf(
		rapid.SampledFrom([]string{"true", "false", "0", "-0.10", "1e-9", "1.50", "12345678901234567890", `"5f0c1e9a-6c1b-4d0e-9a51-0d2f6f8f3b11"`, `"urn:uuid:00000000-0000-4000-8000-000000000000"`, `"\ud83e\uddd2"`}),
		rapid.Map(rapid.String(), func(s string) string { b, _ := json.Marshal("x" + s); return string(b) }))
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(jsonValue(depth-1), 1, 4), func(list []string) string { return "[" + strings.Join(list, ", ") + "]" }),
		rapid.Map(rapid.MapOfN(rapid.StringMatching(`[a-z][a-zA-Z]{0,8}`), jsonValue(depth-1), 1, 4), object))
}

func object(m map[string]string) string {
	var b strings.Builder
	for k, v := range m {
		if b.Len() > 0 {
			b.WriteString(",\n ")
		}
		b.WriteString(`"` + k + `" :` + v)
	}
	return "{" + b.String() + "}"
}

// resource draws a resource that the fhir package takes.
func resource(t *rapid.T) []byte {
	m := rapid.MapOfN(rapid.StringMatching(`x[a-z]{1,6}`), jsonValue(3), 0, 5).Draw(t, "elements")
	m["code"] = `{"text":"x"}`
	m["resourceType"] = `"` + rapid.SampledFrom([]string{"Patient", "Observation", "Basic"}).Draw(t, "type") + `"`
	if m["resourceType"] == `"Observation"` {
		m["status"] = `"final"`
	}
	return []byte(object(m))
}

// What fhir takes comes back byte for byte with any dictionary, costs at most a
// byte more than itself, and without its dictionary is told to lack it.
func TestPackingProperty(t *testing.T) {
	first, second := smallDictionary(t, 8), smallDictionary(t, 9)
	var none, one, other, both seal.Dictionaries
	for d, list := range map[*seal.Dictionaries][]record.Dictionary{&one: {first}, &other: {second}, &both: {first, second}} {
		for _, x := range list {
			if err := d.Add(x); err != nil {
				t.Fatal(err)
			}
		}
	}
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		plain := resource(t)
		if rapid.Bool().Draw(t, "in the dictionary's words") {
			plain = append(plain, strangeText...)
		} else if _, err := fhir.ParseResource(plain); err == nil {
			taken++
		}
		for name, d := range map[string]*seal.Dictionaries{"none": &none, "one": &one, "both": &both} {
			p, err := d.Pack(plain)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(p) > len(plain)+packedMore {
				t.Fatalf("%s: %d bytes of %d", name, len(p), len(plain))
			}
			if got, err := both.Unpack(p); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%s: got %q, %v, want %q", name, got, err, plain)
			}
			got, err := other.Unpack(p)
			var unknown *seal.UnknownDictionary
			if err == nil && !bytes.Equal(got, plain) || err != nil && name == "none" || err != nil && !errors.As(err, &unknown) {
				t.Fatalf("%s, read with another: got %q, %v", name, got, err)
			}
		}
	})
	if taken == 0 {
		t.Error("no resource was one that fhir takes")
	}
}

// strangeText is long enough in a dictionary's words to be packed with it.
var strangeText = bytes.Join(strangePeople(1)[0][:1], nil)

func smallDictionary(t *testing.T, people int) record.Dictionary {
	t.Helper()
	b, err := dict.Train(strangePeople(people), dict.TrainOptions{HistoryBytesMax: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	d, err := record.DecodeDictionary(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Who has no grant has no key: of any generations wrapped to any holders, each
// holder opens those wrapped to it and no other, before a revocation and after.
func TestOnlyTheGrantedOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		holders := rapid.IntRange(1, 5).Draw(t, "holders")
		generations := rapid.IntRange(1, 4).Draw(t, "generations")
		for gen := range generations {
			granted := rapid.IntRange(0, 1<<holders-1).Draw(t, "granted")
			key := reproducibleKey(100 + gen)
			var wraps []seal.Wrap
			for h := range holders {
				if granted>>h&1 == 1 {
					w, err := seal.WrapKey(reproducible(byte(gen)), reproducibleKey(h), testComp, uint64(gen), key)
					if err != nil {
						t.Fatal(err)
					}
					wraps = append(wraps, w)
				}
			}
			body, err := seal.Seal(reproducible(1), key, uint64(gen), testPos, testKind, testComp, testVisit)
			if err != nil {
				t.Fatal(err)
			}
			for h := range holders {
				got := opens(reproducibleKey(h), wraps, body)
				if want := granted>>h&1 == 1; got != want {
					t.Fatalf("generation %d, holder %d: opens %v, want %v", gen, h, got, want)
				}
			}
		}
	})
}

func reproducibleKey(n int) seal.Key {
	k, err := seal.NewKey(reproducible(byte(n)))
	if err != nil {
		return seal.Key{}
	}
	return k
}

// opens tells whether a holder reads a body by any of the wraps there are.
func opens(holder seal.Key, wraps []seal.Wrap, body []byte) bool {
	for _, w := range wraps {
		key, err := seal.UnwrapKey(holder, w)
		if err != nil {
			continue
		}
		if plain, err := seal.Open(only(w.Generation, key), testPos, testKind, testComp, body); err == nil && bytes.Equal(plain, testVisit) {
			return true
		}
	}
	return false
}
