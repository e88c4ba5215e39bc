package photo

import (
	"errors"
	"fmt"
	"image"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// ErrNoCode: there is no QR code in the picture that can be read.
var ErrNoCode = errors.New("no QR code in the picture")

// CodeTextMax bounds what a code may say.
const CodeTextMax = 4 << 10

// codeSides are the sizes at which a code is looked for: in one of about four a reader
// takes a chance pattern for one of the marks.
var codeSides = []int{1000, 800, 1280, 600, 430}

// Code gives what the QR code in a picture says. The error wraps ErrPicture or ErrNoCode.
func Code(raw []byte) (string, error) {
	one.Lock()
	defer one.Unlock()
	img, turn, err := decode(raw)
	if err != nil {
		return "", err
	}
	long, whole := max(img.Bounds().Dx(), img.Bounds().Dy()), false
	for _, side := range codeSides {
		if side >= long { // it is not made larger, and once is enough
			if whole {
				continue
			}
			whole = true
		}
		if text, ok := readCode(shrink(img, side, turn)); ok {
			return text, nil
		}
	}
	return "", fmt.Errorf("reading a picture: %w", ErrNoCode)
}

// readCode tries one size. The reader is another's and the picture anybody's: what it
// stumbles over is no code.
func readCode(img image.Image) (text string, ok bool) {
	defer func() {
		if recover() != nil {
			text, ok = "", false
		}
	}()
	bits, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", false
	}
	// Of some texts, one in two hundred, the reader takes other squares for corners; where the picture is of
	// nothing but the code it need not look for them.
	for _, hint := range []gozxing.DecodeHintType{gozxing.DecodeHintType_TRY_HARDER, gozxing.DecodeHintType_PURE_BARCODE} {
		r, err := qrcode.NewQRCodeReader().Decode(bits, map[gozxing.DecodeHintType]any{hint: true})
		if err == nil && len(r.GetText()) <= CodeTextMax {
			return r.GetText(), true
		}
	}
	return "", false
}
