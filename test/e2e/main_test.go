package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// program is the binary under test, built once.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "healthpost-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "healthpost")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "../../cmd/healthpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// newRand gives the random choices of one test and prints their seed.
func newRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("seed %d (HEALTHPOST_TEST_SEED=%d repeats it)", seed, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// pollEvery is how often a condition is looked at again.
const pollEvery = 100 * time.Millisecond

// poll asks f until it gives "", which means yes. It returns the last answer
// when the time is over.
func poll(limit time.Duration, f func() string) string {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		why := f()
		if why == "" || time.Now().After(end) {
			return why
		}
	}
}

// ports below those that the kernel gives to outgoing connections, each handed
// out once in this process.
var ports struct {
	sync.Mutex
	next int
}

func freePort(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = 10000 + os.Getpid()%12000
	}
	for range 5000 {
		ports.next++
		if ports.next >= 32000 {
			ports.next = 10000
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ports.next))
		if err != nil {
			continue
		}
		l.Close()
		return strconv.Itoa(ports.next)
	}
	t.Fatal("no free port on loopback")
	return ""
}
