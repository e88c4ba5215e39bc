package seal_test

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// seed replays every test of this package.
const seed = 20260101

// reproducible gives the same bytes on every run, different for each n.
func reproducible(n byte) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{0: n, 31: seed % 251})
}

func newKey(t testing.TB, n byte) seal.Key {
	t.Helper()
	k, err := seal.NewKey(reproducible(n))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// one answers with key for every generation.
func one(key seal.Key) func(uint64) (seal.Key, bool) {
	return func(uint64) (seal.Key, bool) { return key, true }
}

// only answers with key for generation gen alone.
func only(gen uint64, key seal.Key) func(uint64) (seal.Key, bool) {
	return func(g uint64) (seal.Key, bool) { return key, g == gen }
}

var (
	testPos  = record.Position{Epoch: record.EpochID{1, 2, 3, 15: 0xff}, Lane: record.LaneClinical, N: 300}
	testComp = record.CompartmentID{9, 8, 7, 15: 0xee}
)

const testKind = record.KindClinical

var testVisit = bytes.Repeat([]byte(`{"resourceType":"Observation","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8310-5","display":"Body temperature"}]},"valueQuantity":{"value":38.50,"unit":"Cel","system":"http://unitsofmeasure.org","code":"Cel"}}`), 3)

// noise is what does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	reproducible(200).Read(b)
	return b
}

// dry is a source of randomness that has run out.
type dry struct{}

func (dry) Read([]byte) (int, error) { return 0, errDry }

func sum(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}
