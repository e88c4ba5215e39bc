package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestLogIsReadToItsLastByte compares readLog with the plain way, for logs with holes
// anywhere.
func TestLogIsReadToItsLastByte(t *testing.T) {
	for name, write := range map[string]map[int64]string{
		"nothing":             {},
		"a start":             {0: "abc"},
		"zeros at the end":    {0: "abc\x00\x00"},
		"a hole within":       {0: "abc", 3 << 20: "def"},
		"the last byte":       {16<<20 - 1: "z"},
		"the end of a block":  {4095: "x"},
		"written zeros after": {10: "abc", 1 << 20: string(make([]byte, 9000))},
	} {
		path := filepath.Join(t.TempDir(), "00001.mem")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(16 << 20); err != nil {
			t.Fatal(err)
		}
		for at, text := range write {
			if _, err := f.WriteAt([]byte(text), at); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		all, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readLog(path); err != nil || !bytes.Equal(got, bytes.TrimRight(all, "\x00")) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(bytes.TrimRight(all, "\x00")))
		}
	}
}
