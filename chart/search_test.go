package chart_test

import (
	"cmp"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir/sample"
)

func TestWordsFold(t *testing.T) {
	for in, want := range map[string][]string{
		"Amína  O'Kello": {"amina", "okello"},
		"Jean-Bosco":     {"jean", "bosco"},
		"N’Golo KANTÉ":   {"ngolo", "kante"},
		"أحمد":           {"احمد"},
		"  ":             nil,
		"HP-00017":       {"hp", "00017"},
		"ትግስት":           {"ትግስት"},
	} {
		if got := chart.Words(in); !reflect.DeepEqual(got, want) {
			t.Errorf("Words(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNumbersAreFound(t *testing.T) {
	row := chart.Row{Given: "Ana", Card: "HP-00017", Phone: "0701 234 567"}
	kept := chart.RowTokens(row)
	for _, query := range []string{"HP-00017", "hp 00017", "00017", "0701234567", "0701 234567", "Ana HP-00017"} {
		tokens := chart.QueryTokens(query)
		if !slices.ContainsFunc(tokens, func(tok string) bool { return tok[0] == 'x' && slices.Contains(kept, tok) }) {
			t.Errorf("%q has tokens %q", query, tokens)
		}
		if cost, ok := chart.Rank(query, row); !ok || cost > 2 {
			t.Errorf("%q ranks %d, %v", query, cost, ok)
		}
	}
}

func TestQueryTokensComeMostTellingFirst(t *testing.T) {
	got := chart.QueryTokens("Ana HP-017")
	want := []string{"x:anahp017", "x:017", "w:017", "w:ana", "w:hp", "d:017", "d:ana", "d:01", "d:07", "d:17", "d:aa", "d:an", "d:hp", "d:na",
		"p:017", "p:ana", "p:hp", "s:017", "s:an", "s:ap"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSound(t *testing.T) {
	for _, pair := range [][2]string{{"okello", "okelo"}, {"wanjiru", "wanjilu"}, {"kato", "cato"}, {"habiba", "habiva"}, {"nyambura", "niambula"}, {"aisha", "eisa"}} {
		if a, b := chart.Sound(pair[0]), chart.Sound(pair[1]); a != b {
			t.Errorf("%s sounds %q, %s sounds %q", pair[0], a, pair[1], b)
		}
	}
	if chart.Sound("bello") == chart.Sound("barry") && chart.Sound("mensah") == chart.Sound("kamara") {
		t.Error("everything sounds the same")
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		most int
		want int
	}{{"amina", "amina", 2, 0}, {"amina", "amena", 2, 1}, {"amina", "maina", 2, 1}, {"amina", "amin", 2, 1}, {"amina", "ameena", 2, 2},
		{"amina", "zzzzz", 2, 3}, {"", "ab", 2, 2}, {"abc", "abcdef", 2, 3}, {"ከበደ", "ከበበ", 2, 1}} {
		if got := chart.EditDistance(c.a, c.b, c.most); got != c.want {
			t.Errorf("EditDistance(%s, %s, %d) = %d, want %d", c.a, c.b, c.most, got, c.want)
		}
		if got := chart.EditDistance(c.b, c.a, c.most); got != c.want {
			t.Errorf("EditDistance(%s, %s, %d) = %d, want %d", c.b, c.a, c.most, got, c.want)
		}
	}
}

// distance is the textbook form: the whole table, no shortcuts.
func distance(a, b []rune) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
		for j := range d[i] {
			switch {
			case i == 0:
				d[i][j] = j
			case j > 0:
				d[i][j] = min(d[i-1][j], d[i][j-1]) + 1
				same := 1
				if a[i-1] == b[j-1] {
					same = 0
				}
				d[i][j] = min(d[i][j], d[i-1][j-1]+same)
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					d[i][j] = min(d[i][j], d[i-2][j-2]+1)
				}
			}
		}
	}
	return d[len(a)][len(b)]
}

func TestEditDistanceIsExactUpToItsLimit(t *testing.T) {
	word := rapid.StringOfN(rapid.RuneFrom([]rune("abcdeéከ")), 0, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b, most := word.Draw(t, "a"), word.Draw(t, "b"), rapid.IntRange(0, 3).Draw(t, "most")
		if got, want := chart.EditDistance(a, b, most), min(distance([]rune(a), []rune(b)), most+1); got != want {
			t.Fatalf("EditDistance(%s, %s, %d) = %d, want %d", a, b, most, got, want)
		}
	})
}

func TestRankOrders(t *testing.T) {
	row := chart.Row{Given: "Amina Grace", Family: "Okello", Village: "Kisanyu", Card: "HP-00017", Phone: "0701 234567"}
	for _, c := range []struct {
		query string
		cost  int
		ok    bool
	}{{"amina okello", 0, true}, {"Okello Amina", 0, true}, {"hp00017", 0, true}, {"0701234567", 0, true}, {"ami", 1, true}, {"amena okello", 4, true},
		{"amina kisanyu", 1, true}, {"zzzz", 12, false}, {"", 0, false}, {"amina zzzzz", 12, true}} {
		if cost, ok := chart.Rank(c.query, row); cost != c.cost || ok != c.ok {
			t.Errorf("Rank(%q) = %d, %v; want %d, %v", c.query, cost, ok, c.cost, c.ok)
		}
	}
}

// index is the smallest store that search needs: rows by token.
type index struct {
	rows   []chart.Row
	tokens map[string][]int
}

func newIndex(n int) *index {
	x := &index{tokens: map[string][]int{}}
	for i, p := range sample.Patients(2026, n) {
		r := p.Registration
		row := chart.Row{Given: r.Given, Family: r.Family, Village: r.Village, Card: r.Card, Phone: r.Phone, Mother: r.Mother}
		x.rows = append(x.rows, row)
		for _, tok := range chart.RowTokens(row) {
			x.tokens[tok] = append(x.tokens[tok], i)
		}
	}
	return x
}

// find gives the best rows for a query, and how many had to be ranked.
func (x *index) find(query string, most int) (best []int, ranked int) {
	cost := map[int]int{}
	q := chart.ParseQuery(query)
	for _, tok := range q.Tokens() {
		for _, i := range x.tokens[tok] {
			if _, done := cost[i]; done {
				continue
			}
			c, ok := q.Rank(x.rows[i])
			if !ok {
				c = 1 << 20
			}
			cost[i] = c
		}
	}
	for i := range cost {
		best = append(best, i)
	}
	slices.SortFunc(best, func(a, b int) int { return cmp.Or(cmp.Compare(cost[a], cost[b]), cmp.Compare(a, b)) })
	return best[:min(most, len(best))], len(cost)
}

// misspell changes n letters: one replaced, dropped, doubled, or swapped with its neighbour.
func misspell(rng *rand.Rand, s string, n int) string {
	letters := []rune(s)
	for done := 0; done < n; {
		i := rng.IntN(len(letters))
		if letters[i] == ' ' || letters[i] == '-' {
			continue
		}
		switch rng.IntN(4) {
		case 0:
			letters[i] = rune('a' + rng.IntN(26))
		case 1:
			letters = slices.Delete(letters, i, i+1)
		case 2:
			letters = slices.Insert(letters, i, letters[i])
		case 3:
			if i+1 == len(letters) || letters[i+1] == ' ' {
				continue
			}
			letters[i], letters[i+1] = letters[i+1], letters[i]
		}
		done++
	}
	return string(letters)
}

// A person whose name is typed with one or two wrong letters is among the first five. Of people with the very same name one counts as
// well as the other: no name can tell them apart.
func TestFindsMisspelledNames(t *testing.T) {
	const people, step, seed = 2000, 7, 41
	x := newIndex(people)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, wrong := range []int{0, 1, 2} {
		found, ranked, asked := 0, 0, 0
		for i := 0; i < people; i += step {
			row := x.rows[i]
			asked++
			best, n := x.find(misspell(rng, row.Given+" "+row.Family, wrong), 5)
			ranked += n
			if slices.ContainsFunc(best, func(j int) bool {
				return j == i || x.rows[j].Given == row.Given && x.rows[j].Family == row.Family
			}) {
				found++
			}
		}
		t.Logf("seed %d, %d wrong letters: %d of %d among the first five, %d rows ranked a query", seed, wrong, found, asked, ranked/asked)
		if found*100 < asked*95 {
			t.Errorf("%d wrong letters: found %d of %d", wrong, found, asked)
		}
	}
}

func BenchmarkRank(b *testing.B) {
	row := chart.Row{Given: "Amina Grace", Family: "Okello", Village: "Kisanyu", Mother: "Rehema Okello", Card: "HP-00017", Phone: "0701234567"}
	q := chart.ParseQuery("amena okelo")
	for b.Loop() {
		q.Rank(row)
	}
}

func BenchmarkFind(b *testing.B) {
	x := newIndex(5000)
	b.ResetTimer()
	for b.Loop() {
		x.find("Amena Okelo", 20)
	}
}
