package dict_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/seal/dict"
)

const textBytesMax = 1 << 20

func uuid(n int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", n*2654435761&0xffffffff, n)
}

func TestUUIDsComeBack(t *testing.T) {
	a, b := uuid(1), uuid(2)
	many := &strings.Builder{}
	for i := range 600 {
		many.WriteString(uuid(i%300) + ",")
	}
	for _, tc := range []struct {
		name, plain string
		table       int // UUIDs in the table
		text        int // bytes of text, -1 not looked at
	}{
		{"nothing", "", 0, 0},
		{"no UUID", "temperature 38.5", 0, 16},
		{"one", a, 1, 2},
		{"in JSON", `{"id":"` + a + `","subject":{"reference":"Patient/` + b + `"},"encounter":{"reference":"Encounter/` + a + `"}}`, 2, -1},
		{"side by side", a + a + b + a, 2, 8},
		{"mark alone", "\xff", 0, 2},
		{"marks and zeros", "\xff\x00\xff\xff\x01" + a + "\xff", 1, -1},
		{"upper case stays", strings.ToUpper(a[:35]) + "A", 0, 36},
		{"not quite", a[:35] + "g" + a[:35], 0, 71},
		{"overlapping start", "0" + a, 1, 3},
		{"more than the table holds", many.String(), dict.UUIDsMax, -1},
	} {
		text, table := dict.SetUUIDsAside([]byte(tc.plain))
		if len(table) != tc.table*dict.UUIDBytes || tc.text >= 0 && len(text) != tc.text {
			t.Errorf("%s: %d bytes of table and %d of text, want %d and %d", tc.name, len(table), len(text), tc.table*dict.UUIDBytes, tc.text)
		}
		got, ok := dict.PutUUIDsBack(text, table, textBytesMax)
		if !ok || string(got) != tc.plain {
			t.Errorf("%s: got %q, %v", tc.name, got, ok)
		}
	}
}

func TestUUIDsRefuse(t *testing.T) {
	one := make([]byte, dict.UUIDBytes)
	for name, tc := range map[string]struct{ text, table []byte }{
		"mark at the end":     {[]byte("x\xff"), nil},
		"no table":            {[]byte("\xff\x00"), nil},
		"table not used":      {[]byte("x"), one},
		"half used":           {[]byte("\xff\x00"), make([]byte, 2*dict.UUIDBytes)},
		"before its first":    {[]byte("\xff\x01\xff\x00"), one},
		"beyond the table":    {[]byte("\xff\x00\xff\x02"), one},
		"grows past a record": {append([]byte("\xff\x00"), bytes.Repeat([]byte("\xff\x01"), textBytesMax/36+1)...), one},
		"long text":           {append([]byte("\xff\x00"), make([]byte, textBytesMax)...), one},
	} {
		if got, ok := dict.PutUUIDsBack(tc.text, tc.table, textBytesMax); ok {
			t.Errorf("%s: made %d bytes", name, len(got))
		}
	}
}

func FuzzUUIDs(f *testing.F) {
	f.Add([]byte("x"+uuid(1)+"\xff"+uuid(2)+uuid(1)), []byte{})
	f.Add([]byte("\xff\x00a\xff\x01\xff\xff"), make([]byte, dict.UUIDBytes))
	f.Fuzz(func(t *testing.T, b, table []byte) {
		text, aside := dict.SetUUIDsAside(b)
		if got, ok := dict.PutUUIDsBack(text, aside, textBytesMax); !ok || !bytes.Equal(got, b) {
			t.Fatalf("got %x, %v, want %x", got, ok, b)
		}
		if got, ok := dict.PutUUIDsBack(b, table, textBytesMax); ok && len(got) > textBytesMax {
			t.Fatalf("%d bytes", len(got))
		}
	})
}
