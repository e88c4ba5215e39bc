package link_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "healthpost-link-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "healthpost")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "../../cmd/healthpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
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

// newSeed gives the seed of one test and prints it.
func newSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		check(tb, "HEALTHPOST_TEST_SEED", err)
		seed = n
	}
	tb.Logf("seed %d (HEALTHPOST_TEST_SEED=%d repeats it)", seed, seed)
	return seed
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

const pollEvery = 20 * time.Millisecond

// eventually looks again until ok gives "", which means yes.
func eventually(tb testing.TB, limit time.Duration, what string, ok func() string) {
	tb.Helper()
	tick := time.NewTicker(pollEvery)
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
