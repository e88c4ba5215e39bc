package bench_test

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(hubFolder); dir != "" {
		os.Exit(runHub(dir))
	}
	os.Exit(rig.Main(m))
}

func check(tb testing.TB, what string, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}

// reportLoad gives the load average of the last minute for each core.
func reportLoad(b *testing.B) {
	raw, err := os.ReadFile("/proc/loadavg")
	check(b, "reading the load", err)
	load, err := strconv.ParseFloat(strings.Fields(string(raw))[0], 64)
	check(b, "reading the load", err)
	b.ReportMetric(load/float64(runtime.NumCPU()), "load/core")
}

// quantile of times that need not be sorted.
func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
