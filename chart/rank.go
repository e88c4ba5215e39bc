package chart

import (
	"math/bits"
	"unicode/utf8"
)

// Costs of one word of a query against one word of a row. An edit (a letter wrong, missing, too many, or two swapped) costs editCost.
const (
	prefixCost  = 1 // the word begins so
	editCost    = 4
	soundCost   = 3  // more than two edits, but it sounds the same
	noMatchCost = 12 // no word of the row is near
	elsewhere   = 1  // matched in village, mother, card or phone and not in the name
)

// Query is what was typed to find a person, folded once.
type Query struct {
	words []string
	exact string // all of it as a card or phone number
}

// ParseQuery folds what was typed.
func ParseQuery(text string) Query { return Query{Words(text), exactKey(text)} }

// Rank is ParseQuery(query).Rank(row).
func Rank(query string, row Row) (cost int, ok bool) { return ParseQuery(query).Rank(row) }

// Rank says how well a row answers a query: 0 is the very words, more is worse. ok is false when no word of the query is near any of
// the row's. Rows of equal rank are told apart by their caller (last visit, village).
func (q Query) Rank(row Row) (cost int, ok bool) {
	if len(q.words) == 0 {
		return 0, false
	}
	if isNumber(q.exact) && (q.exact == exactKey(row.Card) || q.exact == exactKey(row.Phone)) {
		return 0, true
	}
	names := Words(row.Given, row.Family)
	var others []string
	used := make([]bool, len(names))
	for i, w := range q.words {
		last := i == len(q.words)-1
		best, at := bestMatch(w, names, used, last)
		if best > elsewhere {
			if others == nil {
				others = Words(row.Village, row.Mother, row.Card, row.Phone)
			}
			if other, _ := bestMatch(w, others, nil, last); other+elsewhere < best {
				best, at = other+elsewhere, -1
			}
		}
		if best < noMatchCost {
			ok = true
			if at >= 0 {
				used[at] = true
			}
		}
		cost += min(best, noMatchCost)
	}
	return cost, ok
}

func bestMatch(w string, names []string, used []bool, last bool) (cost, at int) {
	cost, at = noMatchCost, -1
	for i, name := range names {
		if used != nil && used[i] {
			continue
		}
		if c := wordCost(w, name, last); c < cost {
			cost, at = c, i
		}
	}
	return cost, at
}

// wordCost compares folded words. The last word of a query may be unfinished, and others often are.
func wordCost(w, name string, last bool) int {
	if w == name {
		return 0
	}
	if len(w) >= 2 && len(w) < len(name) && name[:len(w)] == w {
		return prefixCost
	}
	cost := noMatchCost
	n := utf8.RuneCountInString(w)
	allowed := editsAllowed(n)
	if d := EditDistance(w, name, allowed); d <= allowed {
		cost = d * editCost
	}
	if last && n >= 4 && utf8.RuneCountInString(name) > n {
		head := string([]rune(name)[:n])
		if d := EditDistance(w, head, 1); d <= 1 {
			cost = min(cost, d*editCost+2*prefixCost)
		}
	}
	if n >= 3 && cost > soundCost+editCost && Sound(w) == Sound(name) {
		cost = min(cost, soundCost+editCost)
	}
	return cost
}

// editsAllowed is how many letters of a word of n letters may be wrong: one of three, two from four on.
func editsAllowed(n int) int {
	switch {
	case n >= 4:
		return 2
	case n == 3:
		return 1
	}
	return 0
}

// EditDistance counts the letters wrong, missing, too many, or swapped with their neighbour (optimal string alignment) between a and b;
// anything above most comes back as most+1.
func EditDistance(a, b string, most int) int {
	if a == b {
		return 0
	}
	if apart(a, b, most) {
		return most + 1
	}
	var bufA, bufB [wordSizeMax]rune
	ra, rb := appendRunes(bufA[:0], a), appendRunes(bufB[:0], b)
	if len(ra) > len(rb) {
		ra, rb = rb, ra
	}
	if len(rb)-len(ra) > most {
		return most + 1
	}
	var rows [3][wordSizeMax + 1]int
	before, prev, cur := rows[0][:], rows[1][:], rows[2][:]
	for j := range len(rb) + 1 {
		prev[j] = j
	}
	for i := 1; i <= len(ra); i++ {
		cur[0] = i
		low := i
		for j := 1; j <= len(rb); j++ {
			d := prev[j-1]
			if ra[i-1] != rb[j-1] {
				d = 1 + min(d, prev[j], cur[j-1])
			}
			if i > 1 && j > 1 && ra[i-1] == rb[j-2] && ra[i-2] == rb[j-1] {
				d = min(d, before[j-2]+1)
			}
			cur[j] = d
			low = min(low, d)
		}
		if low > most {
			return most + 1
		}
		before, prev, cur = prev, cur, before
	}
	return min(prev[len(rb)], most+1)
}

// appendRunes cuts at wordSizeMax letters, which is where Words cuts too.
func appendRunes(out []rune, s string) []rune {
	for _, c := range s {
		if len(out) == wordSizeMax {
			break
		}
		out = append(out, c)
	}
	return out
}

// apart says that the letters which only one of two ASCII words has are too many for most edits: an edit changes two at the most.
func apart(a, b string, most int) bool {
	setA, okA := letterSet(a)
	setB, okB := letterSet(b)
	return okA && okB && bits.OnesCount64(setA^setB) > 2*most
}

func letterSet(s string) (set uint64, ok bool) {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return 0, false
		}
		set |= 1 << (s[i] & 63)
	}
	return set, true
}
