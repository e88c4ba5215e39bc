package fhir

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// What an Attachment or a Binary holds in its element "data" can be larger than all
// else of a patient. Where it is, the box keeps it apart: in the resource's JSON the
// SHA-256 of the content stands in its place, in base64 as the content did, and
// [Attach] puts the content back, byte for byte.

// Sizes of content, in bytes.
const (
	ContentSizeMin = 16 << 10 // smaller content stays where it is
	ContentSizeMax = 10 << 20
	contentsMax    = 64 // of one resource
)

// Content is the content of one "data" element that was taken out.
type Content struct {
	Data []byte
	Type string // the element "contentType" beside it
}

// ContentHash is what stands for content in JSON.
type ContentHash [sha256.Size]byte

// HashContent is what stands for data.
func HashContent(data []byte) ContentHash { return sha256.Sum256(data) }

func (h ContentHash) text() string { return base64.StdEncoding.EncodeToString(h[:]) }

var hashTextLen = base64.StdEncoding.EncodedLen(sha256.Size)

// dataAbsent stands where content is known of and not here (data-absent-reason of R4).
const dataAbsent = `"_data":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"temp-unknown"}]}`

// ParseLarge is ParseResource for a resource whose content is too large for one:
// it takes content of ContentSizeMin bytes and more out. What remains keeps within
// the limits of ParseResource.
func ParseLarge(raw []byte) (Resource, error) {
	if len(raw) > ResourceSizeMax+contentsMax*base64.StdEncoding.EncodedLen(ContentSizeMax) {
		return Resource{}, &ResourceError{Reason: "is too large"}
	}
	if len(raw) < ContentSizeMin {
		return ParseResource(raw)
	}
	v, err := parseJSON(raw)
	if err != nil {
		return Resource{}, asResourceError(err)
	}
	var set []Content
	var tooLarge error
	rest := replaceData(raw, v, func(el dataElement) ([]byte, bool) {
		data, ok := el.content()
		if !ok || len(data) < ContentSizeMin {
			return nil, false
		}
		if len(data) > ContentSizeMax || len(set) == contentsMax {
			tooLarge = &ResourceError{Element: "data", Reason: fmt.Sprintf("has more than %d bytes, or is one of more than %d", ContentSizeMax, contentsMax)}
			return nil, false
		}
		set = append(set, Content{data, el.owner.get("contentType").text})
		return []byte(`"data":"` + HashContent(data).text() + `"`), true
	})
	if tooLarge != nil {
		return Resource{}, tooLarge
	}
	r, err := ParseResource(rest)
	r.Content = set
	return r, err
}

// Attach puts content back where its hash stands. content gives it, known false for
// a hash that stands for nothing, and nil for content that is not here: its place
// then says so.
func Attach(raw []byte, content func(ContentHash) (data []byte, known bool, err error)) ([]byte, error) {
	v, err := parseJSON(raw)
	if err != nil {
		return nil, asResourceError(err)
	}
	var failed error
	out := replaceData(raw, v, func(el dataElement) ([]byte, bool) {
		h, ok := el.hash()
		if !ok || failed != nil {
			return nil, false
		}
		data, known, err := content(h)
		switch {
		case err != nil:
			failed = err
			return nil, false
		case !known:
			return nil, false
		case data == nil:
			return []byte(dataAbsent), true
		}
		b := append(make([]byte, 0, 16+base64.StdEncoding.EncodedLen(len(data))), `"data":"`...)
		return append(base64.StdEncoding.AppendEncode(b, data), '"'), true
	})
	return out, failed
}

// Attachment is what a resource says of content that is kept apart from it.
type Attachment struct {
	Hash  ContentHash
	Type  string // MIME type, as claimed
	Title string
}

// Attachments are the places of a resource where the hash of content may stand.
// Whether it does, only who keeps the content knows.
func (r Resource) Attachments() []Attachment {
	if !bytes.Contains(r.JSON, []byte(`"data"`)) {
		return nil
	}
	var out []Attachment
	replaceData(r.JSON, r.tree(), func(el dataElement) ([]byte, bool) {
		if h, ok := el.hash(); ok && len(out) < contentsMax {
			out = append(out, Attachment{h, el.owner.get("contentType").text, el.owner.get("title").text})
		}
		return nil, false
	})
	return out
}

// dataElement is an element "data" with a string, and the object that has it.
type dataElement struct {
	owner, value value
}

// content decodes base64 that encodes back to the same text.
func (e dataElement) content() ([]byte, bool) {
	if len(e.value.raw) != len(e.value.text)+2 { // escapes: it would not come back the same
		return nil, false
	}
	data, err := base64.StdEncoding.Strict().DecodeString(e.value.text)
	return data, err == nil && !strings.ContainsAny(e.value.text, "\r\n")
}

func (e dataElement) hash() (ContentHash, bool) {
	if len(e.value.text) != hashTextLen {
		return ContentHash{}, false
	}
	b, ok := e.content()
	if !ok || len(b) != sha256.Size {
		return ContentHash{}, false
	}
	return ContentHash(b), true
}

// replaceData gives raw with each `"data":"..."` for which f answers true replaced,
// name and all. v is what parseJSON made of raw.
func replaceData(raw []byte, v value, f func(dataElement) ([]byte, bool)) []byte {
	var out []byte
	done := 0
	var walk func(v value)
	walk = func(v value) {
		for i := range v.members {
			m := &v.members[i]
			if m.name != "data" || m.value.kind != kindText {
				walk(m.value)
				continue
			}
			end := offset(raw, m.value.raw) + len(m.value.raw)
			name := bytes.LastIndex(raw[:end-len(m.value.raw)], []byte(`"data"`))
			if name < done || strings.Trim(string(raw[name+len(`"data"`):end-len(m.value.raw)]), " \t\r\n") != ":" {
				continue
			}
			if now, ok := f(dataElement{v, m.value}); ok {
				out = append(append(out, raw[done:name]...), now...)
				done = end
			}
		}
		for i := range v.items {
			walk(v.items[i])
		}
	}
	walk(v)
	return append(out, raw[done:]...)
}

// offset is where part, a slice of whole that runs to the same capacity, begins.
func offset(whole, part []byte) int { return cap(whole) - cap(part) }
