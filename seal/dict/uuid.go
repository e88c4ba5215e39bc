package dict

import (
	"bytes"
	"encoding/hex"
)

// UUIDs are most of what is left of a visit after compression: 32 random
// hexadecimal digits cost a compressor some 21 bytes and break up the text
// around them, which is otherwise the same in every visit. So they are taken
// out first. In the text that remains
//
//	0xff 0x00   is the next UUID of the table
//	0xff i      is the i-th UUID of the table again, i from 1 to 254
//	0xff 0xff   is the byte 0xff
//
// and the table holds 16 bytes for each, in the order of their first places.
const (
	UUIDBytes = 16
	UUIDsMax  = 254

	uuidText    = 36
	uuidMark    = 0xff
	uuidNext    = 0x00
	uuidLiteral = 0xff
)

// SetUUIDsAside takes the lower-case UUIDs out of plain. After UUIDsMax
// different ones the rest stay where they are.
func SetUUIDsAside(plain []byte) (text, table []byte) {
	places := map[[UUIDBytes]byte]byte{}
	text = make([]byte, 0, len(plain))
	for i := 0; i < len(plain); {
		if plain[i] == uuidMark {
			text, i = append(text, uuidMark, uuidLiteral), i+1
			continue
		}
		id, ok := uuidAt(plain[i:])
		place, known := places[id]
		switch {
		case ok && known:
			text, i = append(text, uuidMark, place), i+uuidText
		case ok && len(places) < UUIDsMax:
			places[id] = byte(len(places) + 1)
			table = append(table, id[:]...)
			text, i = append(text, uuidMark, uuidNext), i+uuidText
		default:
			text, i = append(text, plain[i]), i+1
		}
	}
	return text, table
}

// PutUUIDsBack undoes SetUUIDsAside. It answers false for a text and a table
// that SetUUIDsAside cannot have made, and for a result of more than bytesMax bytes.
func PutUUIDsBack(text, table []byte, bytesMax int) (plain []byte, ok bool) {
	plain = make([]byte, 0, min(len(text)+len(table)*2, bytesMax))
	used := 0
	for len(text) > 0 {
		n := bytes.IndexByte(text, uuidMark)
		if n < 0 {
			n = len(text)
		}
		plain, text = append(plain, text[:n]...), text[n:]
		if len(text) == 0 {
			break
		}
		if len(text) < 2 {
			return nil, false
		}
		place := int(text[1])
		text = text[2:]
		if place == uuidLiteral {
			plain = append(plain, uuidMark)
			continue
		}
		if place == uuidNext {
			used++
			place = used
		}
		if place > used || used*UUIDBytes > len(table) || len(plain) > bytesMax-uuidText {
			return nil, false
		}
		plain = appendUUID(plain, table[(place-1)*UUIDBytes:place*UUIDBytes])
	}
	if used*UUIDBytes != len(table) || len(plain) > bytesMax {
		return nil, false
	}
	return plain, true
}

// uuidAt reads a UUID in lower case at the start of b.
func uuidAt(b []byte) (id [UUIDBytes]byte, ok bool) {
	if len(b) < uuidText || b[8] != '-' || b[13] != '-' || b[18] != '-' || b[23] != '-' {
		return id, false
	}
	digits := make([]byte, 0, 2*UUIDBytes)
	for i, c := range b[:uuidText] {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
		case c >= '0' && c <= '9' || c >= 'a' && c <= 'f':
			digits = append(digits, c)
		default:
			return id, false
		}
	}
	_, err := hex.Decode(id[:], digits)
	return id, err == nil
}

func appendUUID(b, id []byte) []byte {
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}
