package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
)

// The key of one body opens that body and nothing else.
func TestDiscloseOpensOneBody(t *testing.T) {
	dek := newKey(t, 1)
	sealed := func(n byte, pos record.Position, kind record.Kind, comp record.CompartmentID) []byte {
		body, err := seal.Seal(reproducible(n), dek, 3, pos, kind, comp, testVisit)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	body := sealed(2, testPos, testKind, testComp)
	key, err := seal.Disclose(only(3, dek), testPos, testKind, testComp, body)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := seal.OpenDisclosed(key, testPos, testKind, testComp, body); err != nil || !bytes.Equal(got, testVisit) {
		t.Fatalf("opening with the body's own key: got %d bytes, %v; want %d", len(got), err, len(testVisit))
	}
	if key == dek {
		t.Error("the compartment's key was given away")
	}
	next := testPos
	next.N++
	for name, x := range map[string]struct {
		pos  record.Position
		kind record.Kind
		comp record.CompartmentID
		body []byte
	}{
		"the next record":              {next, testKind, testComp, sealed(3, next, testKind, testComp)},
		"the same place, sealed again": {testPos, testKind, testComp, sealed(4, testPos, testKind, testComp)},
		"another place":                {next, testKind, testComp, body},
		"another kind":                 {testPos, record.KindAccess, testComp, body},
		"another compartment":          {testPos, testKind, record.CompartmentID{1}, body},
		"a body cut short":             {testPos, testKind, testComp, body[:len(body)-1]},
		"no body":                      {testPos, testKind, testComp, nil},
	} {
		if _, err := seal.OpenDisclosed(key, x.pos, x.kind, x.comp, x.body); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	if _, err := seal.OpenDisclosed(dek, testPos, testKind, testComp, body); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("opening with the compartment's key: got %v, want ErrDamaged", err)
	}
	if _, err := seal.Disclose(only(2, dek), testPos, testKind, testComp, body); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("disclosing without the key: got %v, want ErrNoKey", err)
	}
	if _, err := seal.Disclose(one(newKey(t, 9)), testPos, testKind, testComp, body); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("disclosing with another key: got %v, want ErrDamaged", err)
	}
}
