package record_test

import (
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

func compartments(n ...byte) [][]byte {
	var out [][]byte
	for _, x := range n {
		c := make([]byte, 16)
		c[0] = x
		out = append(out, c)
	}
	return out
}

func TestDecodeAssign(t *testing.T) {
	d := make([]byte, 32)
	many := make([][]byte, record.AssignedMax+1)
	for i := range many {
		many[i] = make([]byte, 16)
		many[i][0], many[i][1] = byte(i>>8)+1, byte(i)
	}
	for _, c := range []struct {
		name string
		a    record.Assign
		ok   bool
	}{
		{"mode alone", record.Assign{Device: d, Mode: record.ModePartial}, true},
		{"compartments alone", record.Assign{Device: d, Add: compartments(1, 2), Remove: compartments(3)}, true},
		{"the most", record.Assign{Device: d, Add: many[:record.AssignedMax]}, true},
		{"too many", record.Assign{Device: d, Add: many}, false},
		{"another mode", record.Assign{Device: d, Mode: "half"}, false},
		{"short device", record.Assign{Device: d[1:]}, false},
		{"twice", record.Assign{Device: d, Add: compartments(1, 1)}, false},
		{"not in order", record.Assign{Device: d, Add: compartments(2, 1)}, false},
		{"added and removed", record.Assign{Device: d, Add: compartments(1), Remove: compartments(1)}, false},
		{"no compartment", record.Assign{Device: d, Add: compartments(0)}, false},
		{"short compartment", record.Assign{Device: d, Add: [][]byte{{1}}}, false},
	} {
		b, err := record.Marshal(c.a)
		if err != nil {
			t.Fatal(err)
		}
		_, err = record.DecodeAssign(b)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, record.ErrMalformed) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func FuzzDecodeAssign(f *testing.F) {
	b, err := record.Marshal(record.Assign{Device: make([]byte, 32), Mode: record.ModeFull, Add: compartments(1), Remove: compartments(2)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { record.DecodeAssign(b) })
		a, err := record.DecodeAssign(b)
		if err != nil {
			return
		}
		if again, err := record.Marshal(a); err != nil || string(again) != string(b) {
			t.Fatalf("an assignment is written in another way than it was read: %v", err)
		}
	})
}
