package node

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// someLines are a chain as a box writes it.
func someLines(t *testing.T, n int) []accessLine {
	t.Helper()
	prev := make([]byte, sha256.Size)
	var lines []accessLine
	for i := range n {
		plain, err := record.Marshal(accessLine{N: uint64(i + 1), Prev: prev, HLC: uint64(i+1) << 20, Action: uint8(accessView)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := decodeLine(plain)
		if err != nil {
			t.Fatal(err)
		}
		lines, prev = append(lines, l), l.sum[:]
	}
	return lines
}

// TestChainsHangTogetherInAnyOrder: records may come in any order, and more than once.
func TestChainsHangTogetherInAnyOrder(t *testing.T) {
	lines := someLines(t, 100)
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		var c chainRow
		var parts [][]accessLine
		for at := 0; at < len(lines); {
			end := min(len(lines), at+1+rng.IntN(9))
			parts = append(parts, lines[at:end], lines[at:end])
			at = end
		}
		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		for _, p := range parts {
			c.add(runsOf(p))
		}
		if g := c.gaps(); len(g) != 0 || len(c.Runs) != 1 || c.end().To != 100 {
			t.Fatalf("%d runs, gaps %+v", len(c.Runs), g)
		}
	}
}

func TestChainGaps(t *testing.T) {
	lines := someLines(t, 20)
	changed := slices.Clone(lines)
	changed[9].sum[0]++
	other := someLines(t, 30)[20:]
	for name, x := range map[string]struct {
		lines []accessLine
		want  string
	}{
		"whole":              {lines, "[]"},
		"the first":          {lines[1:], "[1 after 0]"},
		"in the middle":      {slices.Concat(lines[:4], lines[9:]), "[5 after 4]"},
		"twice":              {slices.Concat(lines[:4], lines[9:12], lines[14:]), "[5 after 4 2 after 12]"},
		"one changed":        {changed, "[0 after 10]"},
		"none before":        {other, "[20 after 0]"},
		"what nobody wrote":  {[]accessLine{{N: 1, Prev: lines[3].Prev}}, "[0 after 0]"},
		"numbers far beyond": {[]accessLine{{N: 1 << 63, Prev: lines[0].Prev}}, fmt.Sprintf("[%d after 0]", uint64(1)<<63-1)},
	} {
		var c chainRow
		c.add(runsOf(x.lines))
		var got []string
		for _, g := range c.gaps() {
			got = append(got, fmt.Sprintf("%d after %d", g.missing, g.after))
		}
		if fmt.Sprint(got) != x.want {
			t.Errorf("%s: %v, want %s", name, got, x.want)
		}
	}
	var c chainRow
	for i := range 1000 { // of a box that lies
		c.add([]chainRun{{From: uint64(2 * i), To: uint64(2 * i)}})
	}
	if len(c.Runs) > runsMax {
		t.Errorf("%d runs are kept, at most %d", len(c.Runs), runsMax)
	}
}

// TestAccessLogThatWasTouched: lines of a box that were taken away or changed on its disk are told by
// verify and on the page, before and after the others went into the ledger.
func TestAccessLogThatWasTouched(t *testing.T) {
	for name, touch := range map[string]func(t *testing.T, n *Node, keys [][]byte) []store.Row{
		"nothing":        func(*testing.T, *Node, [][]byte) []store.Row { return nil },
		"one taken away": func(_ *testing.T, _ *Node, keys [][]byte) []store.Row { return []store.Row{{Key: keys[2]}} },
		"the newest":     func(_ *testing.T, _ *Node, keys [][]byte) []store.Row { return []store.Row{{Key: keys[len(keys)-1]}} },
		"all of them":    func(_ *testing.T, _ *Node, keys [][]byte) []store.Row { return gone(keys) },
		"one changed":    func(t *testing.T, n *Node, keys [][]byte) []store.Row { return []store.Row{changedLine(t, n, keys[2])} },
		"the newest changed": func(t *testing.T, n *Node, keys [][]byte) []store.Row {
			return []store.Row{changedLine(t, n, keys[len(keys)-1])}
		},
	} {
		n, s, patient := looked(t)
		keys, _, err := n.openLines(accessBatchLines)
		if err != nil || len(keys) < 5 {
			t.Fatalf("%d lines, %v", len(keys), err)
		}
		if rows := touch(t, n, keys); len(rows) > 0 {
			if err := n.store.PutRows(t.Context(), rows); err != nil {
				t.Fatal(err)
			}
		}
		rep, err := n.Verify(t.Context(), VerifyRequest{}, func(Progress) {})
		if err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(rep.Damage, func(d Damage) bool { return d.Where == "access log" && d.Box == "Test box" })
		if told != (name != "nothing") || len(rep.Damage) > 1 {
			t.Errorf("%s: verify tells %+v", name, rep.Damage)
		}
		page, err := n.Looks(t.Context(), s, patient)
		if err != nil || len(page.Gaps) > 0 != (name != "nothing") {
			t.Errorf("%s: the page tells %+v, %v", name, page.Gaps, err)
		}
		if err := n.flushAccess(t.Context()); err != nil {
			t.Fatal(err)
		}
		gaps, err := n.ownGaps()
		if err != nil || len(gaps) > 0 != (name != "nothing") {
			t.Errorf("%s, in the ledger: %+v, %v", name, gaps, err)
		}
	}
}

// looked is a box with some lines, in no record yet, and who may read them.
func looked(t *testing.T) (*Node, web.Session, string) {
	t.Helper()
	n := openStandalone(t)
	n.o.PIN.MemoryKiB, n.o.PIN.Passes, n.o.PIN.Threads = 64, 1, 1
	founded(t, n)
	tiles, err := n.Staff(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	token, err := n.SignIn(t.Context(), tiles[0].ID, "314159")
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.Session(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	patient := ""
	for i := range 5 {
		if patient, err = n.Register(t.Context(), s, fmt.Sprint("form-", i), fhir.Registration{Given: fmt.Sprint("Nakato ", i), Family: "Testova", Sex: "female"}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Open(t.Context(), s, patient); err != nil {
			t.Fatal(err)
		}
	}
	return n, s, patient
}

func gone(keys [][]byte) (rows []store.Row) {
	for _, k := range keys {
		rows = append(rows, store.Row{Key: k})
	}
	return rows
}

// changedLine is a line that names somebody else, sealed as the box would.
func changedLine(t *testing.T, n *Node, key []byte) store.Row {
	t.Helper()
	plain, _, err := n.rowPlain(key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := decodeLine(plain)
	if err != nil {
		t.Fatal(err)
	}
	l.Staff = strings.Repeat("0", 32)
	if plain, err = record.Marshal(l); err != nil {
		t.Fatal(err)
	}
	row, err := n.sealedRow(key, plain)
	if err != nil {
		t.Fatal(err)
	}
	return row
}
