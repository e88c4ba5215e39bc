package node

import (
	"fmt"
	"strings"

	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/seal"
)

// A sheet of an escrow is paper with one holder's share: letters that people can type, and the same as
// a QR code. It is made where the command runs, printed, and kept by no box.

const (
	shareBegin = "SHARE"
	// EscrowShareBytesMax is the longest file that EscrowShareText reads: a picture of a sheet.
	EscrowShareBytesMax = 8 << 20
)

// ShareLines are the lines of a share as a sheet shows them, each part with its place.
func ShareLines(s *seal.EscrowShare) []string {
	lines := strings.Split(strings.TrimSpace(s.Text()), "\n")
	for i := range lines[1:] {
		lines[i+1] = fmt.Sprintf("%2d %s", i+1, lines[i+1])
	}
	return lines
}

// EscrowSheetText is the sheet to print.
func EscrowSheetText(p EscrowPublic, s *seal.EscrowShare) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ESCROW SHEET %d of %d, region %q (%.16s)\n\n", s.Number, s.Of, p.Name, p.Region)
	fmt.Fprintf(&b, "Key %s. Any %d of the %d sheets together open charts whose clinic is lost for good,\non another box of the region. Fewer can do nothing. Each use is on record everywhere.\n\n", s.Key, s.Need, s.Of)
	b.WriteString("Keep this paper where only you can take it, away from any box and from the other\nsheets. Do not photograph it but for the command below.\n\n")
	fmt.Fprintf(&b, "%s\n%s\n%s\n\n", shareBegin, strings.Join(ShareLines(s), "\n"), sheetEnd)
	b.WriteString("When it is needed: at the clinic that is to go on with the patient, type the lines\nbetween the two words into a file for each sheet, or take a picture of its QR code, and run\n\n  healthpost region escrow open CHART --by NAME --share FILE --share FILE ...\n\nThen destroy the files.\n")
	return b.String()
}

// EscrowShareText is the share in what somebody has of a sheet: its file, the lines that they typed, or a
// picture of its QR code. The error wraps seal.ErrEscrow. Whether it is one, is for the box to say.
func EscrowShareText(b []byte) (string, error) {
	if len(b) > EscrowShareBytesMax {
		return "", fmt.Errorf("%w: more than %d bytes for a sheet", seal.ErrEscrow, EscrowShareBytesMax)
	}
	if kind := photo.Sniff(b); kind == photo.JPEG || kind == photo.PNG {
		text, err := photo.Code(b)
		if err != nil {
			return "", fmt.Errorf("%w: a picture without a QR code that can be read: %w", seal.ErrEscrow, err)
		}
		return text, nil
	}
	return betweenMarks(string(b), shareBegin), nil
}

// SplitShares takes shares apart that were typed one after the other.
func SplitShares(text string) (shares []string) {
	for l := range strings.Lines(text) {
		word := strings.TrimSpace(strings.ToUpper(l))
		switch {
		case word == "" || word == shareBegin || word == sheetEnd:
		case strings.HasPrefix(word, seal.EscrowShareMagic):
			shares = append(shares, l)
		case len(shares) == 0: // before the first
		default:
			shares[len(shares)-1] += l
		}
	}
	return shares
}
