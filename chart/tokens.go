package chart

import (
	"cmp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// How many words of a name or query are looked at, and how long they may be.
const (
	wordsMax    = 12
	wordSizeMax = 24 // letters
	prefixMax   = 6
)

// Words folds text for comparing: lower case, no accents, split at everything that is no letter or digit.
func Words(text ...string) []string {
	var out []string
	for _, t := range text {
		if len(t) > 4096 {
			t = t[:4096]
		}
		if ascii(t) {
			out = appendASCII(out, strings.ToLower(t))
			continue
		}
		t = strings.ToValidUTF8(t, " ") // behind a byte that is no text, accents would stay
		for _, w := range strings.FieldsFunc(norm.NFKD.String(t), notInWord) {
			if w = foldWord(w); w != "" && len(out) < wordsMax {
				out = append(out, w)
			}
		}
	}
	return out
}

// appendASCII cuts lower case ASCII into words: what most names are, without copying them.
func appendASCII(out []string, t string) []string {
	for start := 0; start < len(t) && len(out) < wordsMax; {
		if notInWord(rune(t[start])) {
			start++
			continue
		}
		end := start + 1
		for end < len(t) && !notInWord(rune(t[end])) {
			end++
		}
		w := t[start:end]
		if strings.IndexByte(w, '\'') >= 0 {
			w = strings.ReplaceAll(w, "'", "")
		}
		if w != "" {
			out = append(out, w[:min(len(w), wordSizeMax)])
		}
		start = end
	}
	return out
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// notInWord parts words at white space and marks; an apostrophe does not part ("N'Golo" is one word), nor does an accent.
func notInWord(c rune) bool {
	if c < 0x80 {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '\'')
	}
	return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !unicode.Is(unicode.Mn, c) && c != '’' && c != 'ʼ'
}

func foldWord(w string) string {
	var b strings.Builder
	n := 0
	for _, c := range w {
		if (unicode.IsLetter(c) || unicode.IsDigit(c)) && n < wordSizeMax {
			b.WriteRune(unicode.ToLower(c))
			n++
		}
	}
	return b.String()
}

// Tokens are the search tokens under which a person with these names is kept: each word, its beginnings, its sound, and what is left of
// a short word, or of the sound of a long one, when any one letter is left out. A word heard or typed a little differently meets it there.
func Tokens(name ...string) []string {
	var out []string
	for _, w := range Words(name...) {
		letters := []rune(w)
		for n := 2; n <= min(len(letters), prefixMax); n++ {
			out = append(out, "p:"+string(letters[:n]))
		}
		out = append(out, nearTokens(w)...)
	}
	return unique(out)
}

// RowTokens are the tokens of everything by which a row can be found.
func RowTokens(r Row) []string {
	out := Tokens(r.Given, r.Family, r.Village, r.Mother)
	for _, number := range append(Words(r.Card), exactKey(r.Card), exactKey(r.Phone)) {
		if isNumber(number) {
			out = append(out, "x:"+number)
		}
	}
	return unique(out)
}

// Tokens are the tokens to look up for the query, the most telling first: whoever looks at a bounded number of people should take them
// in this order. Whoever has none of the tokens is not meant; whoever has some must be ranked.
func (q Query) Tokens() []string {
	var out []string
	for _, w := range q.words {
		letters := []rune(w)
		if len(letters) == 1 {
			continue
		}
		out = append(out, "p:"+string(letters[:min(len(letters), prefixMax)]))
		out = append(out, nearTokens(w)...)
		if isNumber(w) {
			out = append(out, "x:"+w)
		}
	}
	if isNumber(q.exact) {
		out = append(out, "x:"+q.exact)
	}
	out = unique(out)
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Or(telling(a)-telling(b), len(b)-len(a)) })
	return out
}

// telling orders the kinds of tokens: numbers, whole words, words one slip away, beginnings, sounds.
func telling(token string) int { return strings.IndexByte("xwdps", token[0]) }

// QueryTokens are the tokens of ParseQuery(query).
func QueryTokens(query string) []string { return ParseQuery(query).Tokens() }

const exactMin = 3 // letters of a card or phone number that is looked up

// isNumber tells a word that can be all or the last part of a card or phone number.
func isNumber(w string) bool {
	return len(w) >= exactMin && strings.ContainsFunc(w, unicode.IsDigit)
}

// exactKey is a card or phone number without spaces and marks.
func exactKey(s string) string {
	return strings.Join(Words(s), "")
}

const (
	shortWord = 6 // letters up to which the letters themselves are left out one by one
	longSound = 4 // parts from which those of the sound are
)

// nearTokens are the tokens that a word shares with those one slip away from it, and with those that sound like it.
func nearTokens(w string) []string {
	out := []string{"w:" + w}
	if letters := []rune(w); len(letters) <= shortWord {
		out = append(out, "d:"+w)
		if len(letters) > 2 {
			out = appendLess(out, "d:", letters)
		}
	}
	sound := []rune(Sound(w))
	if len(sound) > 1 {
		out = append(out, "s:"+string(sound))
	}
	if len(sound) >= longSound {
		out = appendLess(out, "s:", sound)
	}
	return out
}

// appendLess adds s less any one of its letters.
func appendLess(out []string, kind string, s []rune) []string {
	for i := range s {
		out = append(out, kind+string(s[:i])+string(s[i+1:]))
	}
	return out
}

// Sound is what is left of a folded word when letters that are mixed up in speech and writing are made one: l and r, b and v, p and f, k,
// c and q, m and n, s, z and x; vowels, h, w and y fall away except in front, where all are "a"; and no letter stands twice.
// Letters of scripts without such a table stand for themselves.
func Sound(w string) string {
	var b strings.Builder
	var last rune
	for i, c := range []rune(w) {
		k := soundOf(c)
		if k == 'a' && i > 0 {
			continue
		}
		if k != last {
			b.WriteRune(k)
		}
		last = k
	}
	return b.String()
}

func soundOf(c rune) rune {
	switch c {
	case 'a', 'e', 'i', 'o', 'u', 'h', 'w', 'y', 'ɛ', 'ɔ', 'ı':
		return 'a'
	case 'b', 'v', 'ɓ':
		return 'b'
	case 'p', 'f':
		return 'p'
	case 'k', 'c', 'q', 'ƙ':
		return 'k'
	case 'd', 'ɗ':
		return 'd'
	case 'l', 'r':
		return 'l'
	case 'm', 'n', 'ŋ', 'ɲ':
		return 'n'
	case 's', 'z', 'x':
		return 's'
	}
	return c
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
