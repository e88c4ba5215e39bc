package node

import (
	"crypto/rand"
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

// EscrowSheet is one of them.
type EscrowSheet struct {
	Number int
	Code   string // what its QR code says
	Lines  string // what people type
	Text   string // all of it, to print
}

// CheckEscrowNumbers tells whether an escrow may have so many sheets.
func CheckEscrowNumbers(need, of int) error { return seal.CheckEscrowNumbers(need, of) }

// MakeEscrow draws an escrow for a region. The key that its sheets give together is in them alone.
func MakeEscrow(region RegionKeys, need, of int) (EscrowPublic, []EscrowSheet, error) {
	public, shares, err := NewEscrow(rand.Reader, region, need, of)
	if err != nil {
		return public, nil, err
	}
	var sheets []EscrowSheet
	for i := range shares {
		sheets = append(sheets, newEscrowSheet(public, &shares[i]))
		shares[i].Clear()
	}
	return public, sheets, nil
}

func newEscrowSheet(p EscrowPublic, s *seal.EscrowShare) EscrowSheet {
	x := EscrowSheet{Number: s.Number, Code: s.Text()}
	lines := strings.Split(strings.TrimSpace(x.Code), "\n")
	for i := range lines[1:] {
		lines[i+1] = fmt.Sprintf("%2d %s", i+1, lines[i+1])
	}
	x.Lines = strings.Join(lines, "\n")
	var b strings.Builder
	fmt.Fprintf(&b, "ESCROW SHEET %d of %d, region %q (%.16s)\n\n", s.Number, s.Of, p.Name, p.Region)
	fmt.Fprintf(&b, "Key %s. Any %d of the %d sheets together open charts whose clinic is lost for good,\non another box of the region. Fewer can do nothing. Each use is on record everywhere.\n\n", s.Key, s.Need, s.Of)
	b.WriteString("Keep this paper where only you can take it, away from any box and from the other\nsheets. Do not photograph it but for the command below.\n\n")
	fmt.Fprintf(&b, "%s\n%s\n%s\n\n", shareBegin, x.Lines, sheetEnd)
	b.WriteString("When it is needed: at the clinic that is to go on with the patient, type the lines\nbetween the two words into a file for each sheet, or take a picture of its QR code, and run\n\n  healthpost region escrow open CHART --by NAME --share FILE --share FILE ...\n\nThen destroy the files.\n")
	x.Text = b.String()
	return x
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

// SplitShares takes shares apart that were typed one after the other, or sheets that were printed so.
func SplitShares(text string) (shares []string) {
	inside := false
	for l := range strings.Lines(text) {
		switch word := strings.TrimSpace(strings.ToUpper(l)); {
		case strings.HasPrefix(word, seal.EscrowShareMagic+" "):
			shares, inside = append(shares, l), true
		case word == sheetEnd:
			inside = false
		case inside && word != shareBegin:
			shares[len(shares)-1] += l
		}
	}
	return shares
}
