package sim_test

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
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

func run(t *testing.T, x sim.Scenario, seed uint64, h sim.Hooks) (sim.Result, error) {
	t.Helper()
	return sim.Run(seed, sim.Options{Dir: folder(t), Scenario: x, Hooks: h})
}

// holdIn runs a seed of a scenario, which must keep every invariant.
func holdIn(t *testing.T, x sim.Scenario, seed uint64) sim.Result {
	t.Helper()
	r, err := run(t, x, seed, sim.Hooks{})
	if err != nil {
		t.Fatalf("HEALTHPOST_TEST_SEED=%d repeats it: %v", seed, err)
	}
	return r
}

// newSeed is HEALTHPOST_TEST_SEED when it is set.
func newSeed(t *testing.T) (seed uint64, given bool) {
	t.Helper()
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
		return n, true
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint64(b[:]) >> 16, false
}

// parseLine reads a line of testdata/seeds.txt: scenario, seed, what is left out.
func parseLine(t *testing.T, line string) (sim.Scenario, uint64, sim.Less) {
	t.Helper()
	x, words := sim.Region, strings.Fields(line)
	if _, err := strconv.ParseUint(words[0], 10, 64); err != nil {
		x, words = sim.Scenario(words[0]), words[1:]
		if x == "region" {
			x = sim.Region
		}
	}
	seed, err := strconv.ParseUint(words[0], 10, 64)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	less, err := sim.ParseLess(strings.Join(words[1:], " "))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return x, seed, less
}

// TestKeptSeeds plays every region that once found a fault, and a few that reach
// far.
func TestKeptSeeds(t *testing.T) {
	f, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		n++
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			x, seed, less := parseLine(t, text)
			r, err := sim.Run(seed, sim.Options{Dir: folder(t), Scenario: x, Less: less})
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r)
		})
	}
	if n == 0 {
		t.Error("no seeds were kept")
	}
}

// TestSameSeedSameTrace is what makes a failed seed worth keeping.
func TestSameSeedSameTrace(t *testing.T) {
	for _, x := range []struct {
		scenario sim.Scenario
		seed     uint64
		less     string
	}{{sim.Region, 8, ""}, {sim.Cards, 2, ""}, {sim.Hubs, 2, ""}, {sim.Twice, 2, ""}, {sim.Members, 2, ""}, {sim.Parcels, 2, ""}, {sim.Bulk, 2, "saves=600"}, {sim.Big, 2, "hubs=3 clinics=4 seconds=200000"}} {
		t.Run(x.scenario.String(), func(t *testing.T) {
			t.Parallel()
			less, err := sim.ParseLess(x.less)
			if err != nil {
				t.Fatal(err)
			}
			var both [2]sim.Result
			for i := range both {
				if both[i], err = sim.Run(x.seed, sim.Options{Dir: folder(t), Scenario: x.scenario, Less: less}); err != nil {
					t.Fatal(err)
				}
			}
			if both[0] != both[1] {
				t.Errorf("seed %d: %s, and then %s", x.seed, both[0], both[1])
			}
		})
	}
}

// TestBreaksAreCaught breaks one thing at a time and wants some seed to see it, by
// an invariant that speaks of it.
func TestBreaksAreCaught(t *testing.T) {
	caught(t, sim.Region, []planted{
		{"a hub applies an item twice", sim.Hooks{ApplyTwice: true}, []string{sim.SameIndexSameRoot}, 1},
		{"a hub applies items in another order", sim.Hooks{SwapItems: true}, []string{sim.SameIndexSameRoot}, 1},
		{"a disk says it synced", sim.Hooks{SyncLies: true}, []string{sim.SavesSurvive, sim.BoxOpens, sim.EpochsUnshared, sim.ConfirmedHasPlace}, 1},
		{"staff are told before the write", sim.Hooks{AckEarly: true}, []string{sim.SavesSurvive}, 1},
		{"a session drops a record that it acknowledged", sim.Hooks{DropRecord: true}, []string{sim.CopiedIsHeld, sim.SyncTerminates, sim.Converges}, 1},
		{"a hub cosigns another root", sim.Hooks{SignAnything: true}, []string{sim.CheckpointsAgree}, 1},
		{"one cosignature makes a checkpoint final", sim.Hooks{OneIsMajority: true}, []string{sim.CheckpointsAgree}, 1},
		{"a head is hidden", sim.Hooks{HideHead: true}, []string{sim.HeadsKept}, 1},
	})
}
