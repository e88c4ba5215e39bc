package sim_test

import (
	"os"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

// folder is in memory where there is such a file system: the index is real files,
// and a thousand boxes flush a lot of them.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sim")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestOne(t *testing.T) {
	for seed := uint64(1); seed <= 60; seed++ {
		t.Run("", func(t *testing.T) {
			r, err := sim.Run(seed, sim.Options{Dir: folder(t)})
			t.Log(seed, r)
			if err != nil {
				t.Error(err)
			}
		})
	}
}
