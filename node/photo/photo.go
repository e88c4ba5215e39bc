package photo

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"sync"
)

// Sizes of pictures.
const (
	SideMax      = 1600 // pixels of the longer side
	ThumbSizeMax = 2 << 10

	quality      = 80
	pixelsMax    = 24 << 20 // of a JPEG: 36 MiB while it is made smaller
	progressMax  = 6 << 20  // of a progressive one, which takes five times that
	pngPixelsMax = 8 << 20
)

// ErrPicture is wrapped by every refusal: the bytes are no picture that can be used.
var ErrPicture = errors.New("not a picture that can be used")

// one picture at a time: a small box has no memory for two.
var one sync.Mutex

// Types that Sniff knows.
const (
	JPEG = "image/jpeg"
	PNG  = "image/png"
	PDF  = "application/pdf"
)

// Sniff tells the type of content by its first bytes; "" for one that is none of
// these.
func Sniff(b []byte) string {
	switch {
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return JPEG
	case bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")):
		return PNG
	case bytes.HasPrefix(b, []byte("%PDF-")):
		return PDF
	}
	return ""
}

// Prepare gives a picture as a JPEG and its preview. The error wraps ErrPicture.
func Prepare(raw []byte) (picture, thumb []byte, err error) {
	one.Lock()
	defer one.Unlock()
	img, turn, err := decode(raw)
	if err != nil {
		return nil, nil, err
	}
	small := shrink(img, SideMax, turn)
	if picture, err = encode(small, quality); err != nil {
		return nil, nil, err
	}
	thumb, err = preview(small)
	return picture, thumb, err
}

// Thumb gives the preview of a picture that is kept as it is; nil for what is none.
func Thumb(raw []byte) []byte {
	one.Lock()
	defer one.Unlock()
	img, turn, err := decode(raw)
	if err != nil {
		return nil
	}
	thumb, err := preview(shrink(img, 256, turn))
	if err != nil {
		return nil
	}
	return thumb
}

func decode(raw []byte) (image.Image, orientation, error) {
	turn, limit := upright, pngPixelsMax
	decoder := png.Decode
	config := png.DecodeConfig
	switch Sniff(raw) {
	case JPEG:
		decoder, config = jpeg.Decode, jpeg.DecodeConfig
		var progressive bool
		turn, progressive = readHead(raw)
		if limit = pixelsMax; progressive {
			limit = progressMax
		}
	case PNG:
	default:
		return nil, turn, fmt.Errorf("reading a picture: %w", ErrPicture)
	}
	c, err := config(bytes.NewReader(raw))
	if err != nil || c.Width <= 0 || c.Height <= 0 || c.Width > limit/c.Height {
		return nil, turn, fmt.Errorf("reading a picture: %w: %w", ErrPicture, errors.Join(err, errors.New("its size")))
	}
	img, err := decoder(bytes.NewReader(raw))
	if err != nil {
		return nil, turn, fmt.Errorf("reading a picture: %w: %w", ErrPicture, err)
	}
	return img, turn, nil
}

// shrink averages a picture down to a longer side of at most side and turns it
// upright, on white.
func shrink(img image.Image, side int, turn orientation) *image.RGBA {
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	sw, sh := w, h
	if long := max(w, h); long > side {
		sw, sh = max(w*side/long, 1), max(h*side/long, 1)
	}
	dw, dh := sw, sh
	if turn.swaps() {
		dw, dh = sh, sw
	}
	out := image.NewRGBA(image.Rect(0, 0, dw, dh))
	at := pixels(img)
	for y := range sh {
		y0, y1 := y*h/sh, max((y+1)*h/sh, y*h/sh+1)
		for x := range sw {
			x0, x1 := x*w/sw, max((x+1)*w/sw, x*w/sw+1)
			var r, g, bl, n uint32
			for sy := y0; sy < y1; sy++ {
				for sx := x0; sx < x1; sx++ {
					pr, pg, pb := at(b.Min.X+sx, b.Min.Y+sy)
					r, g, bl, n = r+uint32(pr), g+uint32(pg), bl+uint32(pb), n+1
				}
			}
			dx, dy := turn.place(x, y, sw, sh)
			out.SetRGBA(dx, dy, color.RGBA{uint8(r / n), uint8(g / n), uint8(bl / n), 255})
		}
	}
	return out
}

// pixels reads a picture's colours on white.
func pixels(img image.Image) func(x, y int) (r, g, b uint8) {
	switch m := img.(type) {
	case *image.YCbCr:
		return func(x, y int) (uint8, uint8, uint8) {
			yi, ci := m.YOffset(x, y), m.COffset(x, y)
			return color.YCbCrToRGB(m.Y[yi], m.Cb[ci], m.Cr[ci])
		}
	case *image.Gray:
		return func(x, y int) (uint8, uint8, uint8) {
			v := m.Pix[m.PixOffset(x, y)]
			return v, v, v
		}
	}
	return func(x, y int) (uint8, uint8, uint8) {
		r, g, b, a := img.At(x, y).RGBA()
		white := 0xffff - a
		return uint8((r + white) >> 8), uint8((g + white) >> 8), uint8((b + white) >> 8)
	}
}

func encode(img image.Image, quality int) ([]byte, error) {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("encoding a picture: %w", err)
	}
	return b.Bytes(), nil
}

// preview tries until a preview is small enough.
func preview(img image.Image) ([]byte, error) {
	for _, side := range []int{128, 112, 96, 80, 64, 48} {
		small := shrink(img, side, upright)
		for _, q := range []int{50, 35} {
			b, err := encode(small, q)
			if err != nil || len(b) <= ThumbSizeMax {
				return b, err
			}
		}
	}
	return nil, nil
}
