package link_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

func check(tb testing.TB, what string, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// load is the load average of the last minute for each core.
func load(tb testing.TB) float64 {
	tb.Helper()
	raw, err := os.ReadFile("/proc/loadavg")
	check(tb, "reading the load", err)
	all, err := strconv.ParseFloat(strings.Fields(string(raw))[0], 64)
	check(tb, "reading the load", err)
	return all / float64(runtime.NumCPU())
}
