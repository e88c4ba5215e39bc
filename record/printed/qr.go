package printed

import (
	"fmt"
	"strings"
)

// qrMagic begins the content of a QR code that holds a proof.
const qrMagic = "HPP1:"

// base45Alphabet is that of RFC 9285, and of the alphanumeric mode of QR codes.
const base45Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"

// qrCharsMax is what the largest QR code holds in alphanumeric mode.
const qrCharsMax = 4296

// QR gives a proof file as the text of a QR code.
func QR(proof []byte) string { return qrMagic + encodeBase45(proof) }

// FromQR reads what QR gave. The error wraps ErrMalformed; the proof itself is
// still to be decoded and verified.
func FromQR(text string) ([]byte, error) {
	rest, ok := strings.CutPrefix(strings.Trim(text, "\r\n\t"), qrMagic)
	if !ok || len(rest) > qrCharsMax {
		return nil, fmt.Errorf("reading QR code: %w: it does not begin with %s, or is too long", ErrMalformed, qrMagic)
	}
	b, ok := decodeBase45(rest)
	if !ok {
		return nil, fmt.Errorf("reading QR code: %w: not base45", ErrMalformed)
	}
	return b, nil
}

// encodeBase45 writes two bytes as three digits, lowest first, and a last single
// byte as two.
func encodeBase45(b []byte) string {
	var out strings.Builder
	out.Grow((len(b) + 1) / 2 * 3)
	for ; len(b) > 1; b = b[2:] {
		v := int(b[0])<<8 | int(b[1])
		out.WriteByte(base45Alphabet[v%45])
		out.WriteByte(base45Alphabet[v/45%45])
		out.WriteByte(base45Alphabet[v/45/45])
	}
	if len(b) == 1 {
		out.WriteByte(base45Alphabet[b[0]%45])
		out.WriteByte(base45Alphabet[b[0]/45])
	}
	return out.String()
}

func decodeBase45(s string) ([]byte, bool) {
	if len(s)%3 == 1 {
		return nil, false
	}
	out := make([]byte, 0, len(s)/3*2+1)
	for len(s) > 0 {
		digits := s[:min(3, len(s))]
		s = s[len(digits):]
		v := 0
		for i := len(digits) - 1; i >= 0; i-- {
			d := strings.IndexByte(base45Alphabet, digits[i])
			if d < 0 {
				return nil, false
			}
			v = v*45 + d
		}
		switch {
		case len(digits) == 3 && v <= 0xffff:
			out = append(out, byte(v>>8), byte(v))
		case len(digits) == 2 && v <= 0xff:
			out = append(out, byte(v))
		default:
			return nil, false
		}
	}
	return out, true
}
