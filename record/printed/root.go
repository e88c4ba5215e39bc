package printed

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/healthpost/healthpost/record"
)

// ErrMalformed is wrapped by every reader here: this is not what was printed, or
// something in it was changed on the way.
var ErrMalformed = errors.New("not as it was printed")

// LineCharsMax is what one SMS holds.
const LineCharsMax = 160

const (
	lineMagic    = "HPR1"
	regionDigits = 16
	textCharsMax = 1024 // of what is read; a line may come with blanks and line ends
	sizeMax      = 1 << 62
	dayMax       = 2932896 // 31 December 9999
	daySeconds   = 24 * 60 * 60
	dayLayout    = "20060102"
)

// Root is the ledger as somebody verified it on a day.
type Root struct {
	Ledger record.LedgerID // after Parse only the first 8 bytes of the region are known, see Of
	Head   record.TreeHead
	Day    int64 // days since 1 January 1970, UTC
}

// Line gives the root in one SMS.
func (r Root) Line() string {
	day := time.Unix(min(max(r.Day, 0), dayMax)*daySeconds, 0).UTC()
	text := strings.Join([]string{lineMagic, r.Ledger.Region.String()[:regionDigits], "g" + strconv.FormatUint(r.Ledger.Generation, 10),
		strconv.FormatUint(r.Head.Size, 10), base64.RawURLEncoding.EncodeToString(r.Head.Root[:]), day.Format(dayLayout)}, " ")
	return text + " " + checksum(text)
}

func checksum(text string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) }

// Of tells whether the root is of this ledger, as far as a line can name one: eight
// bytes of the region, and the generation.
func (r Root) Of(l record.LedgerID) bool {
	return r.Ledger.Generation == l.Generation && [8]byte(r.Ledger.Region[:8]) == [8]byte(l.Region[:8])
}

// Words gives the root, without size and day, as 24 words for the ear and the eye.
func (r Root) Words() []string { return Words(r.Head.Root) }

// Parse reads a line. Hexadecimal digits may be of either case, and blanks and
// line ends may stand between the fields and inside the root. The error wraps
// ErrMalformed.
func Parse(text string) (Root, error) {
	bad := func(what string) (Root, error) {
		return Root{}, fmt.Errorf("reading printed root: %w: %s", ErrMalformed, what)
	}
	if len(text) > textCharsMax {
		return bad("too long")
	}
	f := strings.Fields(text)
	if len(f) < 7 || f[0] != lineMagic {
		return bad("it does not begin with " + lineMagic + ", or ends early")
	}
	last := len(f) - 1
	region, err := hex.DecodeString(f[1])
	if err != nil || len(region) != regionDigits/2 {
		return bad("region")
	}
	var r Root
	copy(r.Ledger.Region[:], region)
	var ok bool
	if r.Ledger.Generation, ok = number(strings.TrimPrefix(f[2], "g"), 1<<64-1); !ok || f[2][0] != 'g' {
		return bad("generation")
	}
	if r.Head.Size, ok = number(f[3], sizeMax); !ok {
		return bad("size")
	}
	root, err := base64.RawURLEncoding.Strict().DecodeString(strings.Join(f[4:last-1], ""))
	if err != nil || len(root) != 32 {
		return bad("root")
	}
	r.Head.Root = record.Hash(root)
	day, err := time.Parse(dayLayout, f[last-1])
	if err != nil || day.Unix() < 0 {
		return bad("day")
	}
	r.Day = day.Unix() / daySeconds
	if line := r.Line(); strings.ToLower(f[last]) != line[len(line)-8:] {
		return bad("the check digits at its end")
	}
	return r, nil
}

// number reads a decimal number in its one form.
func number(s string, most uint64) (uint64, bool) {
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil && v <= most && strconv.FormatUint(v, 10) == s
}

// ParseWords reads the words of a root, which was printed with its size.
func ParseWords(size uint64, words []string) (record.TreeHead, error) {
	if size > sizeMax {
		return record.TreeHead{}, fmt.Errorf("reading printed root: %w: size", ErrMalformed)
	}
	root, err := FromWords(words)
	if err != nil {
		return record.TreeHead{}, fmt.Errorf("reading printed root: %w", err)
	}
	return record.TreeHead{Size: size, Root: root}, nil
}
