package fhir_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/test/fuzz"
)

// FuzzRegistration: a form that passes becomes a resource that reads back as the
// same form, which then changes nothing any more.
func FuzzRegistration(f *testing.F) {
	f.Add("Odile", "Mutesi", "female", "2026-02", true, "Kibuye", "Anne", "+250 700", "LR-1")
	f.Add(" \u00a0x", "\u200b", "other", "1850", false, "a\tb", "\U0001f9d2", "\u0661", "\"")
	f.Fuzz(func(t *testing.T, given, family, sex, birth string, estimated bool, village, mother, phone, card string) {
		form := fhir.Registration{Given: given, Family: family, Sex: sex, BirthDate: birth, BirthEstimated: estimated, Village: village, Mother: mother, Phone: phone, Card: card}
		list, err := form.Resources(rand.NewChaCha8([32]byte{}))
		if err != nil {
			if !hard(form.Validate()) {
				t.Errorf("nothing is wrong with the form, and yet: %v", err)
			}
			return
		}
		again, err := fhir.ParseResource(list[0].JSON)
		if err != nil {
			t.Fatalf("the form made what is no resource: %v", err)
		}
		once := fhir.RegistrationOf(again)
		amended, err := once.Amend(again)
		if err != nil {
			t.Fatalf("amending with what stands there: %v", err)
		}
		if !fhir.JSONEqual(amended.JSON, again.JSON) {
			t.Errorf("amending with what stands there changed %s to %s", again.JSON, amended.JSON)
		}
		if twice := fhir.RegistrationOf(amended); twice != once {
			t.Errorf("read as %+v, then as %+v", once, twice)
		}
	})
}

func hard(errs []fhir.FieldError) bool {
	for _, e := range errs {
		if !e.Soft {
			return true
		}
	}
	return false
}

// FuzzVisit: a form that passes becomes resources, and what it says is in them.
func FuzzVisit(f *testing.F) {
	f.Add("38.5", "44", "11.2", "93", "148", "94", "82", "131", "fever", "drinks well", "2", "Penicillin")
	f.Add("1e9", "-0", "\u0663", "9", "1", "1", "0x1", "", "other", "\x00", "2026-02-30", "\u202e")
	f.Fuzz(func(t *testing.T, temperature, breaths, weight, spo2, systolic, diastolic, pulse, muac, problem, note, back, allergy string) {
		v := fhir.Visit{At: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC), Temperature: temperature, Breaths: breaths, Weight: weight, SpO2: spo2,
			Systolic: systolic, Diastolic: diastolic, Pulse: pulse, MUAC: muac, Problem: problem, ProblemOther: note, Note: note, ReturnIn: back, Allergy: allergy}
		list, err := v.Resources(rand.NewChaCha8([32]byte{}), "p", "Amina")
		if err != nil {
			if !hard(v.Validate()) {
				t.Errorf("nothing is wrong with the form, and yet: %v", err)
			}
			return
		}
		for _, r := range list {
			again, err := fhir.ParseResource(r.JSON)
			if err != nil {
				t.Fatalf("the form made what is no resource: %v: %s", err, r.JSON)
			}
			touch(again)
		}
	})
}

// FuzzReadNDJSON: each resource of a stream is taken or refused by name, and one
// that was taken is lossless.
func FuzzReadNDJSON(f *testing.F) {
	f.Add([]byte("{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Encounter\"}\n3"))
	f.Add([]byte(`{"resourceType":"Observation","valueQuantity":{"value":1.50}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fuzz.Bounded(t, len(raw), func() { fhir.ReadNDJSON(bytes.NewReader(raw), 1<<18) })
		b, err := fhir.ReadNDJSON(bytes.NewReader(raw), 1<<18)
		if err != nil {
			return
		}
		for _, e := range b.Entries {
			again, err := fhir.ParseLarge(e.Resource.JSON)
			if err != nil || !fhir.JSONEqual(again.JSON, e.Resource.JSON) {
				t.Errorf("%s does not read back: %v", e.Resource.JSON, err)
			}
			touch(e.Resource)
		}
		checkPlan(t, b, fhir.Plan(b, nobody))
	})
}

// FuzzParseTime: what reads as a time is one of FHIR's, and parts of a day that
// are not there count as the first.
func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026", "2026-11", "2026-02-29", "2026-11-21T10:00:00.5+03:00", "2016-12-31T23:59:60Z", "0000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fuzz.Bounded(t, len(s), func() { fhir.ParseTime(s) })
		at, ok := fhir.ParseTime(s)
		if ok && (at.Year() < 0 || at.Year() > 9999 || len(s) < 4) {
			t.Errorf("%q is read as %v", s, at)
		}
		if ok && len(s) == 10 && at.Format("2006-01-02") != s {
			t.Errorf("%q is read as %v", s, at)
		}
	})
}
