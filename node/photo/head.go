package photo

import "encoding/binary"

// orientation is how a camera held a picture (Exif 2.3, tag 0x0112).
type orientation int

const upright orientation = 1

func (o orientation) swaps() bool { return o >= 5 }

// place is where the pixel at x, y of a picture of w by h goes.
func (o orientation) place(x, y, w, h int) (int, int) {
	switch o {
	case 2:
		return w - 1 - x, y
	case 3:
		return w - 1 - x, h - 1 - y
	case 4:
		return x, h - 1 - y
	case 5:
		return y, x
	case 6:
		return h - 1 - y, x
	case 7:
		return h - 1 - y, w - 1 - x
	case 8:
		return y, w - 1 - x
	}
	return x, y
}

// readHead reads the segments of a JPEG up to the picture: how it is turned, and
// whether it is progressive.
func readHead(b []byte) (turn orientation, progressive bool) {
	turn = upright
	for at := 2; at+4 <= len(b) && b[at] == 0xff; {
		marker, length := b[at+1], int(binary.BigEndian.Uint16(b[at+2:]))
		if marker == 0xff { // fill
			at++
			continue
		}
		if length < 2 || at+2+length > len(b) {
			return turn, progressive
		}
		segment := b[at+4 : at+2+length]
		switch {
		case marker == 0xe1 && len(segment) > 6 && string(segment[:6]) == "Exif\x00\x00":
			turn = readExif(segment[6:])
		case marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc:
			return turn, marker != 0xc0 && marker != 0xc1
		case marker == 0xda:
			return turn, progressive
		}
		at += 2 + length
	}
	return turn, progressive
}

// readExif finds the orientation in the first directory (TIFF 6.0).
func readExif(b []byte) orientation {
	var order binary.ByteOrder
	switch {
	case len(b) < 8:
		return upright
	case string(b[:4]) == "II*\x00":
		order = binary.LittleEndian
	case string(b[:4]) == "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	at := uint64(order.Uint32(b[4:]))
	if at+2 > uint64(len(b)) {
		return upright
	}
	entries := int(order.Uint16(b[at:]))
	dir := b[at+2:]
	for range entries {
		if len(dir) < 12 {
			break
		}
		if order.Uint16(dir) == 0x0112 && order.Uint16(dir[2:]) == 3 {
			if o := orientation(order.Uint16(dir[8:])); o >= 1 && o <= 8 {
				return o
			}
			break
		}
		dir = dir[12:]
	}
	return upright
}
