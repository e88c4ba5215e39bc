package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/rs/zerolog"
)

// TestIndexOptions pins what durability rests on. Each of these at its default,
// or at another value, has lost or changed data in experiments.
func TestIndexOptions(t *testing.T) {
	o := badgerOptions("x", memTableBytes, zerolog.Nop())
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"checksums on block read", o.ChecksumVerificationMode, options.OnBlockRead},
		{"value checksums", o.VerifyValueChecksum, true},
		{"own syncs (the journal is the commit point)", o.SyncWrites, false},
		{"conflict detection (one writer)", o.DetectConflicts, false},
		{"memtable", o.MemTableSize, int64(8 << 20)},
		{"tables", o.BaseTableSize, int64(8 << 20)},
		{"compression", o.Compression, options.None},
		{"values kept out of the value log", o.ValueThreshold >= rowValueBytesMax+tagBytes, true},
		{"compactors", o.NumCompactors, 2},
		{"block cache", o.BlockCacheSize, int64(8 << 20)},
		{"index cache", o.IndexCacheSize, int64(8 << 20)},
		{"metrics", o.MetricsEnabled, false},
		{"goroutines", o.NumGoroutines, 2},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestMemTableSizeNeverShrinks(t *testing.T) {
	dir := t.TempDir()
	if n, _, err := pinFormat(dir); err != nil || n != memTableBytes {
		t.Fatalf("new directory has memtable %d, %v; want %d", n, err, memTableBytes)
	}
	for _, c := range []struct {
		text string
		want int64
		ok   bool
	}{
		{"healthpost store 1\nmemtable 33554432\n", 32 << 20, true},
		{"healthpost store 1\nmemtable 4194304\n", memTableBytes, true},
		{"healthpost store 2\nmemtable 8388608\n", 0, false},
		{"healthpost store 1\nmemtable 0\n", 0, false},
		{"", 0, false},
	} {
		if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, _, err := pinFormat(dir)
		if (err == nil) != c.ok || c.ok && n != c.want {
			t.Errorf("%q: memtable %d, %v; want %d, ok %v", c.text, n, err, c.want, c.ok)
		}
	}
}
