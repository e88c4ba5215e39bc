package rig

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// pollEvery is how often a condition is looked at again.
const pollEvery = 50 * time.Millisecond

// Poll asks f until it gives "", which means yes. It returns the last answer
// when the time is over.
func Poll(limit time.Duration, f func() string) string {
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

// FreePort is a port of loopback that nobody listens on now.
func FreePort(t testing.TB) string {
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

// Eventually waits for f to say "" and fails the test with its last words.
func Eventually(t testing.TB, limit time.Duration, what string, f func() string) {
	t.Helper()
	if why := Poll(limit, f); why != "" {
		t.Fatalf("waited %s for %s: %s", limit, what, why)
	}
}
