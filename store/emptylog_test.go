package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/healthpost/healthpost/record"
)

// TestEmptyLog leaves logs of the index behind as a process does that dies while it
// makes one, or while it removes one that the last checkpoint names. The store opens
// and holds everything.
func TestEmptyLog(t *testing.T) {
	r := rng(t)
	b := newBox(t, 1, record.RoleStandalone)
	b.found()
	acked, err := saves(b, r, 20)
	if err != nil {
		t.Fatal(err)
	}
	b.close()
	b.open() // its checkpoint names the log that is open
	dir := filepath.Join(t.TempDir(), "killed")
	copyStore(t, dir, b.dir)
	b.close()
	logs, err := filepath.Glob(filepath.Join(dir, "index", "*.mem"))
	if err != nil || len(logs) == 0 {
		t.Fatal("no log", err)
	}
	for _, name := range append(logs, filepath.Join(dir, "index", "00099.mem"), filepath.Join(dir, "index", "000001.vlog"), filepath.Join(dir, "index", "000002.vlog")) {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.dir = dir
	b.open()
	checkAcked(t, b.s, acked, "with empty logs")
	check(t, b.s)
	b.beginEpoch()
	b.append(visit(1, 100, r))
	b.close()
}
