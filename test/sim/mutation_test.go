package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/sim"
)

// A mutation is a deliberately broken build: one change of the product's source,
// laid over it while the simulator, or one test elsewhere, is built (go build
// -overlay). What it breaks must be seen.
type mutation struct {
	name      string
	invariant int
	breaks    string // in words
	scenario  sim.Scenario
	caught    []string // checks that may see it
	test      string   // folder and test, in place of scenario and caught
	seed      uint64   // the first that is known to see it
	quick     bool     // seen at once: `make test` tries one of these by rotation
	edits     []edit
}

type edit struct{ file, from, to string }

var (
	mutations  = flag.Int("sim.mutations", 1, "how many of the quick broken builds to try, by rotation; negative for all broken builds")
	mutationOf = flag.String("sim.mutation", "", "try this broken build alone")
)

const (
	playVariable  = "HEALTHPOST_SIM_PLAY"
	mutationSeeds = 40
)

// TestMain plays seeds when a test of mutations asks for it.
func TestMain(m *testing.M) {
	if task := os.Getenv(playVariable); task != "" {
		if err := playTask(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sighting is what a broken build came to.
type sighting struct {
	Seed      uint64
	Invariant string
	What      string
}

// playTask runs seeds of a scenario until one breaks an invariant.
func playTask(task string) error {
	var x string
	var first, count uint64
	if _, err := fmt.Sscanf(task, "%q %d %d", &x, &first, &count); err != nil {
		return fmt.Errorf("reading %s: %w", playVariable, err)
	}
	for seed := first; seed < first+count; seed++ {
		err := playOne(sim.Scenario(x), seed)
		var v *sim.Violation
		if errors.As(err, &v) {
			return json.NewEncoder(os.Stdout).Encode(sighting{v.Seed, v.Invariant, v.What})
		}
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	return nil
}

func playOne(x sim.Scenario, seed uint64) error {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "sim")
	if err != nil {
		return err
	}
	_, err = sim.Run(seed, sim.Options{Dir: dir, Scenario: x})
	return errors.Join(err, os.RemoveAll(dir))
}

// readMutations reads testdata/mutations: lines of words and values, and then
// for each file its name after @, lines that go after - and lines that come after +.
func readMutations(t *testing.T) []mutation {
	t.Helper()
	files, err := filepath.Glob("testdata/mutations/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutations: %v", err)
	}
	var all []mutation
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parseMutation(string(b))
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		m.name = strings.TrimSuffix(filepath.Base(f), ".txt")
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b mutation) int { return a.invariant - b.invariant })
	return all
}

func parseMutation(text string) (m mutation, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		last := len(m.edits) - 1
		switch {
		case line == "":
		case line[0] == '@':
			m.edits = append(m.edits, edit{file: strings.TrimSpace(line[1:])})
		case last >= 0 && line[0] == '-':
			m.edits[last].from += line[1:] + "\n"
		case last >= 0 && line[0] == '+':
			m.edits[last].to += line[1:] + "\n"
		case last >= 0:
			return m, fmt.Errorf("line %q begins neither with @ nor with - nor with +", line)
		default:
			if err := m.set(line); err != nil {
				return m, err
			}
		}
	}
	if m.invariant == 0 || m.breaks == "" || len(m.edits) == 0 || (m.test == "") == (len(m.caught) == 0) {
		return m, errors.New("invariant, breaks, edits, and either a test or checks are needed")
	}
	return m, nil
}

func (m *mutation) set(line string) (err error) {
	word, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch word {
	case "invariant":
		m.invariant, err = strconv.Atoi(value)
	case "breaks":
		m.breaks = value
	case "scenario":
		if value != "region" {
			m.scenario = sim.Scenario(value)
		}
	case "caught":
		m.caught = append(m.caught, value)
	case "seed":
		m.seed, err = strconv.ParseUint(value, 10, 64)
	case "test":
		m.test = value
	case "quick":
		m.quick, err = strconv.ParseBool(value)
	default:
		err = fmt.Errorf("unknown word %q", word)
	}
	return err
}

// overlay writes the changed files and the list that go build -overlay reads.
func (m *mutation) overlay(dir string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for i, e := range m.edits {
		path := filepath.Join(root, e.file)
		from := path
		if before, ok := replace[path]; ok {
			from = before
		}
		b, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := bytes.Count(b, []byte(e.from)); n != 1 {
			return "", fmt.Errorf("%s has the text that %s changes %d times, want once:\n%s", e.file, m.name, n, e.from)
		}
		to := filepath.Join(dir, strconv.Itoa(i)+filepath.Base(e.file))
		if err := os.WriteFile(to, bytes.Replace(b, []byte(e.from), []byte(e.to), 1), 0o600); err != nil {
			return "", err
		}
		replace[path] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, "overlay.json")
	return list, os.WriteFile(list, b, 0o600)
}

// TestMutationsFit: every broken build still changes the source of today.
func TestMutationsFit(t *testing.T) {
	for _, m := range readMutations(t) {
		if _, err := m.overlay(t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// TestMutationsAreCaught builds some of the broken ones, or all, and wants each to
// be seen by what names its invariant.
func TestMutationsAreCaught(t *testing.T) {
	all := readMutations(t)
	if *mutationOf != "" {
		all = slices.DeleteFunc(all, func(m mutation) bool { return m.name != *mutationOf })
	} else if *mutations >= 0 {
		all = slices.DeleteFunc(all, func(m mutation) bool { return !m.quick })
		seed, _ := newSeed(t)
		t.Logf("HEALTHPOST_TEST_SEED=%d draws the same", seed)
		r := rand.New(rand.NewPCG(seed, 0xb0))
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:min(*mutations, len(all))]
	}
	if len(all) == 0 {
		t.Fatal("no such mutation")
	}
	for _, m := range all {
		t.Run(m.name, func(t *testing.T) {
			began := time.Now()
			how, err := m.try(t.TempDir())
			if err != nil {
				t.Fatalf("%s: %v", m.breaks, err)
			}
			t.Logf("%s: %s, after %s", m.breaks, how, time.Since(began).Round(time.Second))
		})
	}
}

// try builds and runs a mutation, and says how it was seen.
func (m *mutation) try(dir string) (string, error) {
	list, err := m.overlay(dir)
	if err != nil {
		return "", err
	}
	if m.test != "" {
		return m.tryTest(list)
	}
	binary := filepath.Join(dir, "sim.test")
	if out, err := exec.Command("go", "test", "-c", "-buildvcs=false", "-overlay", list, "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building it: %w\n%s", err, out)
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	defer stop()
	first := max(m.seed, 1)
	run := exec.CommandContext(ctx, binary)
	run.Env = append(os.Environ(), fmt.Sprintf("%s=%q %d %d", playVariable, string(m.scenario), first, mutationSeeds))
	var says bytes.Buffer
	run.Stderr = &says
	out, err := run.Output()
	if err != nil {
		return "", fmt.Errorf("running it: %w\n%s", err, tail(says.Bytes()))
	}
	if len(out) == 0 {
		return "", fmt.Errorf("seeds %d to %d did not see it", first, first+mutationSeeds-1)
	}
	var s sighting
	if err := json.Unmarshal(out, &s); err != nil {
		return "", err
	}
	if !slices.Contains(m.caught, s.Invariant) {
		return "", fmt.Errorf("seed %d: seen by %q, want one of %q: %s", s.Seed, s.Invariant, m.caught, s.What)
	}
	return fmt.Sprintf("seed %d: %s: %s", s.Seed, s.Invariant, s.What), nil
}

// tryTest wants a test elsewhere to fail.
func (m *mutation) tryTest(list string) (string, error) {
	folder, test, ok := strings.Cut(m.test, " ")
	if !ok {
		return "", fmt.Errorf("test %q is no folder and test", m.test)
	}
	out, err := exec.Command("go", "test", "-count=1", "-timeout=5m", "-buildvcs=false", "-overlay", list, "-run", "^"+test+"$", "../../"+folder).CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%s does not see it", m.test)
	}
	if !bytes.Contains(out, []byte("--- FAIL: "+test)) {
		return "", fmt.Errorf("%s did not run to its end:\n%s", m.test, tail(out))
	}
	return m.test + " fails", nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }
