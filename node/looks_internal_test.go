package node

import (
	"testing"

	"github.com/healthpost/healthpost/record"
)

func FuzzDecodeAccess(f *testing.F) {
	line, err := record.Marshal(accessLine{N: 1, Prev: make([]byte, 32), HLC: 1 << 40, Action: uint8(accessView), Staff: "00112233445566778899aabbccddeeff", Compartment: make([]byte, 16)})
	if err != nil {
		f.Fatal(err)
	}
	batch, err := record.Marshal(accessBatch{V: 1, Lines: [][]byte{line, line}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(batch)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, plain []byte) {
		for _, l := range decodeAccess(plain) {
			if len(l.Staff) > lookStaffMax || len(l.Compartment) != 0 && len(l.Compartment) != 16 {
				t.Errorf("a line with %d bytes of staff, %d of a chart", len(l.Staff), len(l.Compartment))
			}
			if key := lookKey(&l, record.DeviceID{}); len(key) != len("look/")+16+8+lookDeviceKey+8 {
				t.Errorf("a key of %d bytes", len(key))
			}
		}
	})
}
