package dict_test

import (
	"testing"

	"github.com/healthpost/healthpost/seal"
)

// What a visit may cost on a slow link. The clinic that is measured uses other
// names and phrases than the one the dictionary was trained on.
func TestHeldOutBodiesFitTheirBudget(t *testing.T) {
	registrations, visits := newClinic(2, heldOut).day(t, 200)
	sampleRegistrations, sampleVisits := sampleBodies(t, 2, 100)
	for _, tc := range []struct {
		name   string
		bodies [][]byte
		budget int // mean bytes of a sealed body
	}{
		{"registration", registrations, 160},
		{"visit", visits, 432},
		{"sample registration", sampleRegistrations, 176},
		{"sample visit", sampleVisits, 368},
	} {
		plain, sealed := 0, 0
		for _, b := range tc.bodies {
			p, err := seal.Pack(b)
			if err != nil {
				t.Fatal(err)
			}
			plain, sealed = plain+len(b), sealed+p.SealedLen(1)
		}
		plain, sealed = plain/len(tc.bodies), sealed/len(tc.bodies)
		t.Logf("%s: %d bytes plain, %d sealed", tc.name, plain, sealed)
		if sealed > tc.budget {
			t.Errorf("%s: %d bytes sealed on average, at most %d", tc.name, sealed, tc.budget)
		}
	}
}
