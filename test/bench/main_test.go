package bench_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// program is the binary that is measured, built once.
var program string

func TestMain(m *testing.M) {
	if dir := os.Getenv(hubFolder); dir != "" {
		os.Exit(runHub(dir))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "healthpost-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "healthpost")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../../cmd/healthpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
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

// freePort is a port of loopback that nobody listens on now.
func freePort(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, "finding a port", err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(tb, "finding a port", err)
	return port
}

// eventually looks again until ok gives "", which means yes.
func eventually(tb testing.TB, limit time.Duration, what string, ok func() string) {
	tb.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		why := ok()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			tb.Fatalf("waited %s for %s: %s", limit, what, why)
		}
	}
}
