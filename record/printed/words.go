package printed

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed english.txt
var english string

// wordList is sorted, and no two words share their first four letters.
var wordList = strings.Fields(english)

const (
	wordCount    = 24
	bitsAWord    = 11
	lettersAWord = 4 // enough to tell a word
)

// Words gives 32 bytes as 24 words of BIP-39.
func Words(b [32]byte) []string {
	sum := sha256.Sum256(b[:])
	bytes := append(b[:], sum[0])
	out := make([]string, 0, wordCount)
	for at := 0; at < wordCount*bitsAWord; at += bitsAWord {
		index := 0
		for i := at; i < at+bitsAWord; i++ {
			index = index<<1 | int(bytes[i/8]>>(7-i%8)&1)
		}
		out = append(out, wordList[index])
	}
	return out
}

// FromWords reads what Words gave, in letters of either case; the first four of a
// word will do. The error wraps ErrMalformed and says which word is none.
func FromWords(words []string) ([32]byte, error) {
	var out [32]byte
	if len(words) != wordCount {
		return out, fmt.Errorf("%w: %d words, want %d", ErrMalformed, len(words), wordCount)
	}
	var bytes [33]byte
	for i, w := range words {
		index, ok := wordIndex(strings.ToLower(w))
		if !ok {
			return out, fmt.Errorf("%w: word %d is none of the list", ErrMalformed, i+1)
		}
		for j := range bitsAWord {
			at := i*bitsAWord + j
			bytes[at/8] |= byte(index>>(bitsAWord-1-j)&1) << (7 - at%8)
		}
	}
	copy(out[:], bytes[:])
	if sum := sha256.Sum256(out[:]); sum[0] != bytes[32] {
		return [32]byte{}, fmt.Errorf("%w: a word is another one, or they stand in another order", ErrMalformed)
	}
	return out, nil
}

func wordIndex(w string) (int, bool) {
	i, ok := slices.BinarySearch(wordList, w)
	if ok {
		return i, true
	}
	return i, len(w) == lettersAWord && i < len(wordList) && strings.HasPrefix(wordList[i], w)
}
