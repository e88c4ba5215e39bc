package sample_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/fhir/sample"
)

func TestFormsHoldForEveryPatient(t *testing.T) {
	for i, p := range sample.Patients(7, 400) {
		for _, e := range p.Registration.Validate() {
			t.Errorf("patient %d: field %s: %s", i, e.Field, e.Code)
		}
		for _, v := range p.Visits {
			for _, e := range v.Validate() {
				if !e.Soft {
					t.Errorf("patient %d: field %s: %s", i, e.Field, e.Code)
				}
			}
			if v.At.After(sample.Until) {
				t.Errorf("patient %d: visit at %v is after %v", i, v.At, sample.Until)
			}
		}
	}
}

// The hash pins the bytes: a demonstration, a vector or a dictionary made from a seed must not change with the platform or the version.
func TestSeedPinsTheBytes(t *testing.T) {
	h := sha256.New()
	for i := range 20 {
		b, err := sample.Bundle(1, i)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	const want = "e2610643fe29cc2e0a090a3fea8672e5a560d8cd348d6f443fac1dac68b5bc7c"
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("hash of 20 bundles is %s, want %s", got, want)
	}
}

func TestPatientDependsOnSeedAndIndexAlone(t *testing.T) {
	few, many := sample.Patients(3, 5), sample.Patients(3, 9)
	if few[4].Registration != many[4].Registration {
		t.Error("patient 4 of 5 differs from patient 4 of 9")
	}
	if few[0].Registration == sample.One(4, 0).Registration {
		t.Error("two seeds gave one patient")
	}
}

func TestBundleIsPlannedIntoTheSavesOfTheForms(t *testing.T) {
	for i := range 30 {
		raw, err := sample.Bundle(11, i)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fhir.ReadBundle(bytes.NewReader(raw), 1<<20)
		if err != nil || len(b.Refused) > 0 {
			t.Fatalf("bundle %d: %v, refused %v", i, err, b.Refused)
		}
		saves, err := sample.One(11, i).Resources()
		if err != nil {
			t.Fatal(err)
		}
		plan := fhir.Plan(b, func(string) (string, bool) { return "", false })
		if len(plan.Saves) != len(saves) || len(plan.Patients) != 1 || len(plan.Refused) > 0 {
			t.Fatalf("bundle %d: %d saves of %d patients, %d refused; want %d of 1, 0", i, len(plan.Saves), len(plan.Patients),
				len(plan.Refused), len(saves))
		}
		for j, s := range plan.Saves {
			if len(s.Resources) != len(saves[j]) {
				t.Errorf("bundle %d save %d: %d resources, want %d", i, j, len(s.Resources), len(saves[j]))
			}
		}
	}
}
