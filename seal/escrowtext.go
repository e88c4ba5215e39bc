package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// A share as people read and type it, and as its QR code says it: a line of what it is, then a line
// for each part, in the letters of a card's code.
//
//	HPE1 <number>/<need>/<of> <id of the key, 16 hexadecimal digits>
//	<26 letters of the part and two of SHA-256("hp:escrow:sum:1\0" || id || number || place || part)>
//
// The sum of a line is that of its place on its sheet, so a slip, a line left out and one of
// another sheet are told by their place.
const (
	// EscrowShareMagic begins the first line.
	EscrowShareMagic = "HPE1"

	shareMarks = " -\t\r\u00a0\u2010\u2011\u2012\u2013\u2014"

	// EscrowTextMax is the longest text of a share, with what people put between letters.
	EscrowTextMax = 8 << 10
)

// Text is the share to print.
func (s *EscrowShare) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d/%d/%d %s\n", EscrowShareMagic, s.Number, s.Need, s.Of, s.Key)
	for i := range s.parts {
		line := cardBase.EncodeToString(s.parts[i][:]) + s.sum(i)
		for at := 0; at < len(line); at += cardGroup {
			if at > 0 {
				b.WriteByte('-')
			}
			b.WriteString(line[at : at+cardGroup])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (s *EscrowShare) sum(place int) string {
	b := append([]byte("hp:escrow:sum:1\x00"), s.Key[:]...)
	b = append(b, byte(s.Number), byte(place))
	sum := sha256.Sum256(append(b, s.parts[place][:]...))
	return cardBase.EncodeToString(sum[:])[:cardSum]
}

// ParseEscrowShare reads what Text gave, as people type it: in letters of either case, with blanks or
// strokes anywhere, the place before a line or not. The errors wrap ErrEscrow and say which line.
func ParseEscrowShare(text string) (EscrowShare, error) {
	var s EscrowShare
	if len(text) > EscrowTextMax {
		return s, fmt.Errorf("%w: more than %d bytes for a sheet", ErrEscrow, EscrowTextMax)
	}
	var lines []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(strings.TrimPrefix(l, "\ufeff")); l != "" {
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		return s, fmt.Errorf("%w: an empty sheet", ErrEscrow)
	}
	if err := s.parseHead(lines[0]); err != nil {
		return s, err
	}
	if want := escrowParts(s.Need, s.Of); len(lines)-1 != want {
		return s, fmt.Errorf("%w: sheet %d has %d lines of letters, not %d", ErrEscrow, s.Number, want, len(lines)-1)
	}
	for i, l := range lines[1:] {
		if err := s.parseLine(i, l); err != nil {
			s.Clear()
			return s, err
		}
	}
	return s, nil
}

// parseHead reads the first line.
func (s *EscrowShare) parseHead(line string) error {
	bad := fmt.Errorf("%w: the first line of a sheet is %s, its numbers and the id of its key", ErrEscrow, EscrowShareMagic)
	words := strings.Fields(line)
	if len(words) != 3 || !strings.EqualFold(words[0], EscrowShareMagic) {
		return bad
	}
	numbers := strings.Split(words[1], "/")
	id, err := hex.DecodeString(words[2])
	if len(numbers) != 3 || err != nil || len(id) != len(s.Key) {
		return bad
	}
	for i, to := range []*int{&s.Number, &s.Need, &s.Of} {
		n, err := strconv.ParseUint(numbers[i], 10, 8)
		if err != nil {
			return bad
		}
		*to = int(n)
	}
	s.Key = KeyID(id)
	if CheckEscrowNumbers(s.Need, s.Of) != nil || s.Number < 1 || s.Number > s.Of {
		return bad
	}
	return nil
}

// parseLine reads the line at a place.
func (s *EscrowShare) parseLine(place int, line string) error {
	bad := fmt.Errorf("%w: line %d of sheet %d is mistyped, or another sheet's", ErrEscrow, place+1, s.Number)
	if first, rest, ok := strings.Cut(line, " "); ok && strings.TrimRight(first, ".:)") == strconv.Itoa(place+1) {
		line = rest
	}
	plain := strings.ToUpper(strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(shareMarks, r):
			return -1
		case r == 'O' || r == 'o':
			return '0'
		case r == 'I' || r == 'i' || r == 'L' || r == 'l':
			return '1'
		}
		return r
	}, line))
	if len(plain) != cardLetters+cardSum {
		return bad
	}
	b, err := cardBase.DecodeString(plain[:cardLetters])
	if err != nil || len(b) != escrowPartBytes || cardBase.EncodeToString(b) != plain[:cardLetters] {
		return bad
	}
	s.parts = append(s.parts, [escrowPartBytes]byte(b))
	clear(b)
	if s.sum(place) != plain[cardLetters:] {
		return bad
	}
	return nil
}
