package sim_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/test/sim"
)

var update = flag.Bool("sim.update", false, "write the table of invariants into docs/RELIABILITY.md")

const (
	reliability = "../../docs/RELIABILITY.md"
	section     = "## Invariants and the broken builds that they catch\n"
	columns     = "| | what must hold | held by | broken build, and what sees it |\n|---|---|---|---|\n"
)

// row is one invariant's line of the table.
func row(x sim.Invariant, all []mutation) string {
	var held, broken []string
	for _, c := range x.Checks {
		held = append(held, "“"+c+"”")
	}
	for _, test := range x.Tests {
		held = append(held, "`"+test+"`")
	}
	for _, m := range all {
		switch {
		case m.invariant != x.N:
		case m.test != "":
			broken = append(broken, fmt.Sprintf("`%s`: %s (that test)", m.name, m.breaks))
		default:
			broken = append(broken, fmt.Sprintf("`%s`: %s (%s %d)", m.name, m.breaks, m.scenario, max(m.seed, 1)))
		}
	}
	if why, ok := sim.Missing[x.N]; ok {
		held = []string{"nothing: " + why}
	}
	return fmt.Sprintf("| %d | %s | %s | %s |\n", x.N, x.Says, strings.Join(held, ", "), strings.Join(broken, "; "))
}

// TestTableOfInvariants: docs/RELIABILITY.md says what is true of all 35: each is
// held by something that exists, and that something sees a broken build.
func TestTableOfInvariants(t *testing.T) {
	all := readMutations(t)
	want := columns
	for i, x := range sim.Invariants {
		if x.N != i+1 {
			t.Fatalf("invariant %d stands at place %d", x.N, i+1)
		}
		want += row(x, all)
		checkRow(t, x, all)
	}
	if len(sim.Invariants) != 35 {
		t.Errorf("%d invariants, want 35", len(sim.Invariants))
	}
	b, err := os.ReadFile(reliability)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), section)
	body, after, more := strings.Cut(rest, "\n## ")
	at := strings.Index(body, columns)
	if !ok || !more || at < 0 {
		t.Fatalf("%s has no section with the table", reliability)
	}
	have := body[at:]
	if end := strings.Index(have, "|\n\n"); end >= 0 {
		have = have[:end+2]
	}
	have = strings.TrimRight(have, "\n") + "\n"
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("the table is another one: go test ./test/sim -run TestTableOfInvariants -args -sim.update")
	}
	text := before + section + strings.Replace(body, strings.TrimRight(have, "\n"), strings.TrimRight(want, "\n"), 1) + "\n## " + after
	if err := os.WriteFile(reliability, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkRow: the tests exist, and some broken build is seen by what the row names.
func checkRow(t *testing.T, x sim.Invariant, all []mutation) {
	t.Helper()
	for _, test := range x.Tests {
		folder, name, _ := strings.Cut(test, " ")
		if !declared(t, folder, name) {
			t.Errorf("invariant %d: there is no test %s in %s", x.N, name, folder)
		}
	}
	if _, ok := sim.Missing[x.N]; ok {
		return
	}
	seen := 0
	for _, m := range all {
		if m.invariant != x.N {
			continue
		}
		seen++
		if m.test != "" && !slices.Contains(x.Tests, m.test) || m.test == "" && !slices.ContainsFunc(m.caught, func(c string) bool { return slices.Contains(x.Checks, c) }) {
			t.Errorf("invariant %d: what sees %s does not stand in its row", x.N, m.name)
		}
	}
	if seen == 0 {
		t.Errorf("invariant %d has no broken build", x.N)
	}
}

func declared(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(f string) bool {
		b, err := os.ReadFile(f)
		return err == nil && strings.Contains(string(b), "func "+name+"(t *testing.T)")
	})
}
