package photo_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/skip2/go-qrcode"

	"github.com/healthpost/healthpost/node/photo"
)

const cardText = "1A2B-3C4D-5E6F-7G8H-9J0K-1M2N-3P4Q"

// shot is a QR code on a table, as a camera gives it.
func shot(t testing.TB, text string, side, left, top, code int) image.Image {
	t.Helper()
	q, err := qrcode.New(text, qrcode.Medium)
	if err != nil {
		t.Fatal(err)
	}
	img := image.NewRGBA(image.Rect(0, 0, side, side*3/4))
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			img.Set(x, y, color.RGBA{uint8(150 + x%40), uint8(140 + y%30), 120, 255})
		}
	}
	at := q.Image(code)
	for y := range code {
		for x := range code {
			img.Set(left+x, top+y, at.At(x, y))
		}
	}
	return img
}

func jpegOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 70}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCodesInPictures(t *testing.T) {
	for _, x := range []struct{ side, left, top, code int }{{1200, 300, 200, 500}, {2400, 900, 500, 700}, {800, 60, 40, 480}, {1600, 20, 20, 400}} {
		if got, err := photo.Code(jpegOf(t, shot(t, cardText, x.side, x.left, x.top, x.code))); err != nil || got != cardText {
			t.Errorf("a code of %d in a picture of %d: %v", x.code, x.side, err)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, shot(t, cardText, 900, 100, 50, 500)); err != nil {
		t.Fatal(err)
	}
	if got, err := photo.Code(b.Bytes()); err != nil || got != cardText {
		t.Errorf("a PNG: %v", err)
	}
}

func TestPicturesWithoutACode(t *testing.T) {
	empty := image.NewRGBA(image.Rect(0, 0, 640, 480))
	if _, err := photo.Code(jpegOf(t, empty)); !errors.Is(err, photo.ErrNoCode) {
		t.Errorf("an empty picture: %v", err)
	}
	for name, raw := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "half": jpegOf(t, shot(t, cardText, 800, 60, 40, 480))[:2000]} {
		if _, err := photo.Code(raw); !errors.Is(err, photo.ErrPicture) && !errors.Is(err, photo.ErrNoCode) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCode(f *testing.F) {
	f.Add(jpegOf(f, shot(f, cardText, 320, 20, 10, 200)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if text, err := photo.Code(raw); err == nil && len(text) > photo.CodeTextMax || err != nil && !errors.Is(err, photo.ErrPicture) && !errors.Is(err, photo.ErrNoCode) {
			t.Errorf("a text of %d letters, %v", len(text), err)
		}
	})
}
