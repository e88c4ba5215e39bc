package fhir

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// object and list build JSON whose members stay in the order they were written in. A digits is a number kept as text, a raw is JSON
// that is copied as it stands.
type (
	object []pair
	pair   struct {
		name  string
		value any // string, bool, digits, raw, object or list
	}
	list   []any
	digits string
	raw    []byte
)

func (o object) with(name string, v any) object { return append(o, pair{name, v}) }

func appendJSON(out []byte, v any) []byte {
	switch v := v.(type) {
	case object:
		out = append(out, '{')
		for i, p := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendText(out, p.name), ':')
			out = appendJSON(out, p.value)
		}
		return append(out, '}')
	case list:
		out = append(out, '[')
		for i, item := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendJSON(out, item)
		}
		return append(out, ']')
	case digits:
		return append(out, v...)
	case raw:
		return append(out, v...)
	case bool:
		return fmt.Append(out, v)
	case string:
		return appendText(out, v)
	}
	panic(fmt.Sprintf("building JSON from a %T", v))
}

func appendText(out []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string always marshals
	return append(out, quoted...)
}

// build makes the resource and checks it by the rules for received ones.
func build(o object) (Resource, error) {
	r, err := ParseResource(appendJSON(nil, o))
	if err != nil {
		return Resource{}, fmt.Errorf("building resource: %w", err)
	}
	r.FullURL = "urn:uuid:" + r.ID
	if !isUUID(r.ID) {
		r.FullURL = ""
	}
	return r, nil
}

// idRun gives the ids of one save: a random UUID (RFC 9562, version 4) and those that count on in its last byte. They are as unique as
// that UUID, and since they differ in one digit or two a save compresses to a third less.
type idRun [16]byte

func newIDRun(rand io.Reader) (idRun, error) {
	var b idRun
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return idRun{}, fmt.Errorf("drawing resource id: %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return b, nil
}

// next gives the next id; there are 256.
func (b *idRun) next() string {
	h := hex.EncodeToString(b[:])
	b[15]++
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}
