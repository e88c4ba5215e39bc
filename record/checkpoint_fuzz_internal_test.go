package record

import (
	"errors"
	"testing"
)

// FuzzCheckpointText reads what a signature covers, as if hubs had signed it.
func FuzzCheckpointText(f *testing.F) {
	l := RegionID{7}.Ledger(2)
	f.Add(CheckpointText(l, TreeHead{Size: 12, Root: EmptyRoot}))
	f.Add(l.Origin() + "\n012\n" + "AAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseCheckpointText(l, text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error without a family: %v", err)
			}
			return
		}
		if again := CheckpointText(l, h); again != text {
			t.Errorf("%q reads as what is written %q", text, again)
		}
	})
}

// FuzzIDs: what reads as an id is that id written, but for the case of letters.
func FuzzIDs(f *testing.F) {
	f.Add(RID{1}.String())
	f.Add(CompartmentID{0xab}.String())
	f.Fuzz(func(t *testing.T, s string) {
		for what, read := range map[string]func() (string, error){
			"rid":         func() (string, error) { x, err := ParseRID(s); return x.String(), err },
			"compartment": func() (string, error) { x, err := ParseCompartmentID(s); return x.String(), err },
			"device":      func() (string, error) { x, err := ParseDeviceID(s); return x.String(), err },
			"region":      func() (string, error) { x, err := ParseRegionID(s); return x.String(), err },
		} {
			if got, err := read(); err == nil && got != lower(s) {
				t.Errorf("%s: %q is read as %q", what, s, got)
			}
		}
	})
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'F' {
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}

// FuzzProposal reads the votes of hubs.
func FuzzProposal(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x84, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := DecodeProposal(b); err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("error without a family: %v", err)
		}
	})
}
