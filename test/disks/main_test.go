package disks_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/healthpost/healthpost/test/fusedisk"
	"github.com/healthpost/healthpost/test/rig"
)

func TestMain(m *testing.M) {
	fusedisk.Main()
	os.Exit(rig.Main(m))
}

// rounds gives how often a test does what it does: few, or as the environment says.
func rounds(t *testing.T, name string, few int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return few
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q", name, text)
	}
	return n
}
