package chart_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/test/fuzz"
)

// FuzzWords: folding what is folded changes nothing, so a name is found by itself
// on every box, however it was typed.
func FuzzWords(f *testing.F) {
	f.Add("Uwimana Marie-Chantal", "NDAYISABA  éric")
	f.Add("\u0130stanbul \u1e9e \ufb03", "\u0661\u0662 \U0001d4d0")
	f.Fuzz(func(t *testing.T, given, typed string) {
		fuzz.Bounded(t, len(given)+len(typed), func() { chart.Words(given, typed) })
		once := chart.Words(given)
		for _, w := range once {
			if !utf8.ValidString(w) {
				t.Errorf("%q folds to %q, which is no text", given, w)
			}
		}
		if twice := chart.Words(strings.Join(once, " ")); !slices.Equal(twice, once) {
			t.Errorf("%q folds to %q, then to %q", given, once, twice)
		}
		row := chart.Row{Given: given}
		if _, ok := chart.Rank(given, row); !ok && len(once) > 0 {
			t.Errorf("%q is not found by itself", given)
		}
		if cost, ok := chart.Rank(typed, row); ok && cost < 0 {
			t.Errorf("%q found %q at %d", typed, given, cost)
		}
	})
}

// FuzzParseRef reads names of entries.
func FuzzParseRef(f *testing.F) {
	f.Add("0011223344556677.0")
	f.Add("AABBCCDDEEFF0011.65536")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := chart.ParseRef(s)
		if err == nil && r.String() != s {
			t.Errorf("%q is read as %q", s, r)
		}
	})
}
