package sim_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/sim"
)

var (
	seeds     = flag.Int("sim.seeds", 0, "how many new seeds of each scenario to run; 0 is as many as fit -sim.time")
	span      = flag.Duration("sim.time", 5*time.Second, "how long to start new seeds")
	shrink    = flag.Int("sim.shrink", 80, "how many runs to look for a smaller one that fails as well")
	scenarios = flag.String("sim.scenarios", "all", "which scenarios, with commas between them")
)

// A run opens a store every few milliseconds and leaves its memtable behind.
func init() { debug.SetGCPercent(400) }

// sums are what runs came to together.
type sums struct {
	mu      sync.Mutex // guards what follows
	runs    int
	all     sim.Result
	failed  []*sim.Violation
	trouble []error
}

func (s *sums) add(r sim.Result, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	s.all.Add(r)
	var v *sim.Violation
	if errors.As(err, &v) {
		s.failed = append(s.failed, v)
	} else if err != nil {
		s.trouble = append(s.trouble, err)
	}
}

func (s *sums) String() string {
	a := s.all
	return fmt.Sprintf("%d runs, %d boxes, %d records saved, %d placed in replicas, %d sessions, %d parcels, %d crashes, %d old cards (%d of hubs), %d copied cards, %d lies, %d virtual hours, %d violations",
		s.runs, a.Boxes, a.Saves, a.Applied, a.Sessions, a.Parcels, a.Crashes, a.Restores, a.HubRestores, a.Clones, a.Lies, a.Seconds/3600, len(s.failed))
}

// chosen are the scenarios that the flag names.
func chosen(t *testing.T) []sim.Scenario {
	t.Helper()
	if *scenarios == "all" {
		return sim.Scenarios
	}
	var out []sim.Scenario
	for _, name := range strings.Split(*scenarios, ",") {
		x := sim.Scenario(name)
		if name == "region" {
			x = sim.Region
		}
		out = append(out, x)
	}
	return out
}

// TestNewSeeds plays regions that nobody has seen before, of every scenario, on
// all cores. With HEALTHPOST_TEST_SEED set it plays that seed of each.
func TestNewSeeds(t *testing.T) {
	first, given := newSeed(t)
	list, end := chosen(t), time.Now().Add(*span)
	more := func(n int) bool {
		switch {
		case given:
			return n < len(list)
		case *seeds > 0:
			return n < *seeds*len(list)
		}
		return n < len(list) || time.Now().Before(end)
	}
	var all sums
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := range next {
				x, seed := list[n%len(list)], first+uint64(n/len(list))
				r, err := playNew(x, seed)
				all.add(r, err)
				if err == nil && n < len(list) {
					t.Logf("%s %d: %s", x, seed, r)
				}
			}
		})
	}
	n := 0
	for ; more(n) && !all.broken(); n++ {
		next <- n
	}
	close(next)
	wg.Wait()
	for _, v := range all.failed {
		t.Errorf("HEALTHPOST_TEST_SEED=%d -sim.scenarios=%s repeats it: %v", v.Seed, v.Scenario, v)
	}
	for _, err := range all.trouble {
		t.Error(err)
	}
	if len(all.failed) > 0 {
		v := all.failed[0]
		small, err := sim.Shrink(v, sim.Options{Dir: folder(t), Scenario: v.Scenario}, *shrink)
		if err != nil {
			t.Error(err)
		} else {
			t.Logf("the first one shrinks to\n%s", small)
		}
	}
	t.Logf("seeds %d to %d: %s", first, first+uint64((n-1)/len(list)), &all)
}

// broken runs in large numbers end at the tenth violation.
func (s *sums) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.failed)+len(s.trouble) >= 10
}

// playNew runs a seed in a folder of its own.
func playNew(x sim.Scenario, seed uint64) (sim.Result, error) {
	dir, err := os.MkdirTemp("/dev/shm", "sim")
	if err != nil {
		if dir, err = os.MkdirTemp("", "sim"); err != nil {
			return sim.Result{}, err
		}
	}
	r, err := sim.Run(seed, sim.Options{Dir: dir, Scenario: x})
	if err != nil {
		err = fmt.Errorf("%s seed %s: %w", x, strconv.FormatUint(seed, 10), err)
	}
	return r, errors.Join(err, os.RemoveAll(dir))
}
