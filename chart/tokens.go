package chart

import (
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
		for _, w := range strings.FieldsFunc(norm.NFKD.String(t), notInWord) {
			if w = foldWord(w); w != "" && len(out) < wordsMax {
				out = append(out, w)
			}
		}
	}
	return out
}

// notInWord parts words at white space and marks; an apostrophe does not part ("N'Golo" is one word), nor does an accent.
func notInWord(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !unicode.Is(unicode.Mn, c) && c != '\'' && c != '’' && c != 'ʼ'
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

// Tokens are the search tokens under which a person with these names is kept: each word, the beginnings of each word, and the sound of
// each word whole and with any one consonant left out, so that a word heard or typed a little differently still meets it.
func Tokens(name ...string) []string {
	var out []string
	for _, w := range Words(name...) {
		letters := []rune(w)
		for n := 2; n <= min(len(letters), prefixMax); n++ {
			out = append(out, "p:"+string(letters[:n]))
		}
		out = append(out, "w:"+w)
		out = append(out, soundTokens(w)...)
	}
	return unique(out)
}

// RowTokens are the tokens of everything by which a row can be found.
func RowTokens(r Row) []string {
	out := Tokens(r.Given, r.Family, r.Village, r.Mother)
	for _, exact := range []string{r.Card, r.Phone} {
		if k := exactKey(exact); k != "" {
			out = append(out, "x:"+k)
		}
	}
	return unique(out)
}

// QueryTokens are the tokens to look up for what was typed. Whoever has none of them is not meant; whoever has some must be ranked.
func QueryTokens(query string) []string {
	var out []string
	words := Words(query)
	for _, w := range words {
		letters := []rune(w)
		if len(letters) == 1 {
			continue
		}
		out = append(out, "p:"+string(letters[:min(len(letters), prefixMax)]), "w:"+w)
		out = append(out, soundTokens(w)...)
	}
	if k := exactKey(query); len(k) >= 3 {
		out = append(out, "x:"+k)
	}
	for _, w := range words {
		if k := exactKey(w); len(k) >= 3 && strings.ContainsFunc(w, unicode.IsDigit) {
			out = append(out, "x:"+k)
		}
	}
	return unique(out)
}

// exactKey is a card or phone number without spaces and marks.
func exactKey(s string) string {
	return strings.Join(Words(s), "")
}

// soundTokens are the sound of a word, and the sound less any one of its parts.
func soundTokens(w string) []string {
	s := []rune(Sound(w))
	if len(s) == 0 {
		return nil
	}
	out := []string{"s:" + string(s)}
	if len(s) < 3 {
		return out
	}
	for i := range s {
		out = append(out, "s:"+string(s[:i])+string(s[i+1:]))
	}
	return out
}

// Sound is what is left of a folded word when letters that are mixed up in speech and writing are made one: l and r, b, v, p and f, k, c,
// g and q, d and t, m and n, s, z, j and x; vowels, h, w and y fall away except in front, where all are "a"; and no letter stands twice.
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
	case 'b', 'v', 'p', 'f', 'ɓ':
		return 'b'
	case 'k', 'c', 'g', 'q', 'ƙ':
		return 'k'
	case 'd', 't', 'ɗ':
		return 't'
	case 'l', 'r':
		return 'l'
	case 'm', 'n', 'ŋ', 'ɲ':
		return 'n'
	case 's', 'z', 'j', 'x':
		return 's'
	}
	return c
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
