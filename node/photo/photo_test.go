package photo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"testing"

	"github.com/healthpost/healthpost/node/photo"
	"github.com/healthpost/healthpost/test/fuzz"
)

// scene is a picture with a red corner at the top left and noise elsewhere.
func scene(w, h int) *image.RGBA {
	r := rand.New(rand.NewPCG(1, 2))
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(x), uint8(y), uint8(120 + r.IntN(40)), 255}
			if x < w/4 && y < h/4 {
				c = color.RGBA{255, 0, 0, 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

func encoded(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// held adds an Exif segment that says how the camera was held.
func held(b []byte, orientation uint16) []byte {
	tiff := append([]byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"), byte(orientation>>8), byte(orientation), 0, 0, 0, 0, 0, 0)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	head := binary.BigEndian.AppendUint16([]byte{0xff, 0xd8, 0xff, 0xe1}, uint16(len(segment)+2))
	return append(append(append(head, segment...), []byte("\xff\xfe\x00\x0bsecret GPS")[:13]...), b[2:]...)
}

func isRed(img image.Image, x, y int) bool {
	r, g, _, _ := img.At(x, y).RGBA()
	return r > 0xc000 && g < 0x5000
}

// A large photo becomes small, upright, free of what the phone wrote beside it, and
// gets a preview that fits a record.
func TestPrepare(t *testing.T) {
	raw := encoded(t, scene(2400, 1800))
	for orientation, corner := range map[uint16]image.Point{1: {10, 10}, 3: {1590, 1190}, 6: {1190, 10}, 8: {10, 1590}} {
		picture, thumb, err := photo.Prepare(held(raw, orientation))
		if err != nil {
			t.Fatal(err)
		}
		img, err := jpeg.Decode(bytes.NewReader(picture))
		if err != nil {
			t.Fatal(err)
		}
		w, h := 1600, 1200
		if orientation >= 5 {
			w, h = h, w
		}
		if got := img.Bounds().Size(); got != image.Pt(w, h) {
			t.Errorf("turned %d: %v, want %d by %d", orientation, got, w, h)
		}
		if !isRed(img, corner.X, corner.Y) {
			t.Errorf("turned %d: the corner is not at %v", orientation, corner)
		}
		if bytes.Contains(picture, []byte("Exif")) || bytes.Contains(picture, []byte("secret")) {
			t.Errorf("turned %d: what the phone wrote is still there", orientation)
		}
		if len(picture) >= len(raw) || len(thumb) == 0 || len(thumb) > photo.ThumbSizeMax {
			t.Errorf("turned %d: %d bytes of %d, preview %d", orientation, len(picture), len(raw), len(thumb))
		}
		if _, err := jpeg.Decode(bytes.NewReader(thumb)); err != nil {
			t.Error(err)
		}
	}
}

// A picture with holes stands on white.
func TestPreparePNG(t *testing.T) {
	img := image.NewNRGBA(image.Rect(0, 0, 40, 30))
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	picture, _, err := photo.Prepare(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	out, err := jpeg.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	if r, _, _, _ := out.At(5, 5).RGBA(); r < 0xf000 {
		t.Errorf("a hole is of red %x, want white", r)
	}
}

func TestPrepareRefuses(t *testing.T) {
	raw := encoded(t, scene(64, 64))
	huge := bytes.Clone(raw)
	at := bytes.Index(huge, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(huge[at+5:], 60000)
	binary.BigEndian.PutUint16(huge[at+7:], 60000)
	for name, b := range map[string][]byte{"nothing": nil, "a document": []byte("%PDF-1.4"), "cut": raw[:len(raw)/2], "a bomb": huge, "a page": []byte("<html>")} {
		if _, _, err := photo.Prepare(b); !errors.Is(err, photo.ErrPicture) {
			t.Errorf("%s: got %v, want %v", name, err, photo.ErrPicture)
		}
	}
	if photo.Thumb([]byte("%PDF-1.4")) != nil {
		t.Error("a document has a preview")
	}
}

func FuzzPrepare(f *testing.F) {
	raw := encoded(f, scene(24, 16))
	f.Add(raw)
	f.Add(held(raw, 6))
	f.Fuzz(func(t *testing.T, b []byte) {
		// A picture of the most pixels that is taken, whatever a few bytes claim.
		fuzz.BoundedBy(t, 192<<20, func() { photo.Prepare(b) })
		picture, thumb, err := photo.Prepare(b)
		if err == nil && (photo.Sniff(picture) != photo.JPEG || len(thumb) > photo.ThumbSizeMax) {
			t.Errorf("%d bytes, preview of %d", len(picture), len(thumb))
		}
	})
}
