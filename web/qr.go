package web

import (
	"fmt"
	"strconv"

	"github.com/skip2/go-qrcode"
)

// ProofPayloadMax is the longest text a sheet's QR code holds: a proof of 1,600 bytes in base45 with its
// prefix. As alphanumeric text, with 15 % of the code for mending, it makes a square of at most 153 modules.
const ProofPayloadMax = 5 + 2400

// qrQuiet is the white margin around a code, in modules (ISO/IEC 18004 asks for four).
const qrQuiet = 4

// qrCode is a QR code as the page draws it: one path of horizontal strokes, one unit high, in a
// square of Side units. Vectors stay sharp on any printer, and need no second request.
type qrCode struct {
	Side int    // with the margin
	Path string // for the attribute d of an SVG path
}

// newQR draws a text. Text of digits, capitals and " $%*+-./:" takes 5.5 bits a letter, any other 8.
func newQR(text string) (qrCode, error) {
	if len(text) > ProofPayloadMax {
		return qrCode{}, fmt.Errorf("drawing a QR code: %d letters, at most %d", len(text), ProofPayloadMax)
	}
	q, err := qrcode.New(text, qrcode.Medium)
	if err != nil {
		return qrCode{}, fmt.Errorf("drawing a QR code: %w", err)
	}
	q.DisableBorder = true
	modules := q.Bitmap()
	return qrCode{Side: len(modules) + 2*qrQuiet, Path: strokes(modules)}, nil
}

// strokes writes each run of dark modules as a line, moves being relative to where the pen is.
func strokes(modules [][]bool) string {
	path := fmt.Appendf(nil, "M%d %d.5", qrQuiet, qrQuiet)
	penX, penY := 0, 0
	for y, row := range modules {
		for x := 0; x < len(row); x++ {
			if !row[x] {
				continue
			}
			end := x
			for end < len(row) && row[end] {
				end++
			}
			if dx, dy := x-penX, y-penY; dx != 0 || dy != 0 {
				path = append(path, 'm')
				path = strconv.AppendInt(path, int64(dx), 10)
				path = append(path, ' ')
				path = strconv.AppendInt(path, int64(dy), 10)
			}
			path = append(path, 'h')
			path = strconv.AppendInt(path, int64(end-x), 10)
			penX, penY, x = end, y, end
		}
	}
	return string(path)
}
