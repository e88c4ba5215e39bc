package fhir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// EntriesMax is the most entries one Bundle or NDJSON stream may have.
const EntriesMax = 100_000

// Errors about a file as a whole: the sender must send something else.
var (
	ErrTooLarge   = errors.New("file is larger than allowed")
	ErrNotBundle  = errors.New("file is not a FHIR Bundle")
	ErrBundleType = errors.New("a Bundle of this type holds no resources to import")
)

// Bundle is a FHIR Bundle whose entries could be read one by one: one that could not is in Refused and the others stand.
type Bundle struct {
	Type    string // transaction, batch, collection, searchset or document
	ID      string
	Entries []Entry
	Refused []Refusal

	contentSize int // of Entries, taken out of their resources
}

// ContentsSizeMax is how much content one file may bring that is kept apart from its
// resources, in bytes: it is in memory while the file is taken in.
const ContentsSizeMax = 48 << 20

// admit counts an entry's content.
func (b *Bundle) admit(r Resource) error {
	size := 0
	for _, c := range r.Content {
		size += len(c.Data)
	}
	if b.contentSize+size > ContentsSizeMax {
		return &ResourceError{Element: "data", Reason: fmt.Sprintf("would be more than %d MiB of attachments in one file: part the file", ContentsSizeMax>>20)}
	}
	b.contentSize += size
	return nil
}

// Entry is one entry of a Bundle. Resource.FullURL repeats FullURL.
type Entry struct {
	FullURL     string
	Resource    Resource
	Method      string // request.method; "" without a request
	URL         string // request.url
	IfNoneExist string // request.ifNoneExist, as "identifier=system|value"
	Index       int    // its place in the file, from 0
}

// Refusal says which resource was not taken and why. It holds references and element names, no values.
type Refusal struct{ Resource, Reason string }

// ReadBundle reads a Bundle of at most sizeMax bytes, one entry at a time. The error is about the file as a whole: ErrTooLarge,
// ErrNotBundle, ErrBundleType, or one that says where the JSON breaks.
func ReadBundle(r io.Reader, sizeMax int64) (Bundle, error) {
	limited := &io.LimitedReader{R: r, N: sizeMax + 1}
	b, err := readBundle(json.NewDecoder(limited))
	if limited.N <= 0 {
		return Bundle{}, ErrTooLarge
	}
	return b, err
}

func readBundle(dec *json.Decoder) (Bundle, error) {
	var b Bundle
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return b, errors.Join(ErrNotBundle, err)
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return b, fmt.Errorf("reading bundle: %w", err)
		}
		name, _ := t.(string)
		if seen[name] || !isElementName(name) || len(seen) > 64 {
			return b, fmt.Errorf("reading bundle: %w: an element is given twice or is none of R4", ErrNotBundle)
		}
		seen[name] = true
		if name == "entry" {
			err = b.readEntries(dec)
		} else {
			err = b.readElement(dec, name)
		}
		if err != nil {
			return b, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return b, fmt.Errorf("reading bundle: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return b, fmt.Errorf("reading bundle: %w: more after its end", ErrNotBundle)
	}
	return b, b.checkHeader(seen)
}

func (b *Bundle) checkHeader(seen map[string]bool) error {
	if !seen["resourceType"] || !seen["type"] {
		return fmt.Errorf("%w: resourceType or type is missing", ErrNotBundle)
	}
	switch b.Type {
	case "transaction", "batch", "collection", "searchset", "document":
		return nil
	}
	return ErrBundleType
}

func (b *Bundle) readElement(dec *json.Decoder, name string) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return fmt.Errorf("reading bundle: %w", err)
	}
	v, err := parseJSON(raw)
	if err != nil {
		return fmt.Errorf("reading bundle %s: %w", name, asResourceError(err))
	}
	switch name {
	case "resourceType":
		if v.text != "Bundle" {
			return ErrNotBundle
		}
	case "type":
		b.Type = v.text
	case "id":
		if !isID(v.text) {
			return &ResourceError{Element: "Bundle.id", Reason: "is not 1 to 64 letters, digits, '-' or '.'"}
		}
		b.ID = v.text
	}
	return nil
}

func (b *Bundle) readEntries(dec *json.Decoder) error {
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errors.Join(fmt.Errorf("reading bundle: %w: entry is not a list", ErrNotBundle), err)
	}
	for i := 0; dec.More(); i++ {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("reading bundle entry %d: %w", i, err)
		}
		if i >= EntriesMax {
			return fmt.Errorf("reading bundle: %w: more than %d entries", ErrTooLarge, EntriesMax)
		}
		b.readEntry(raw, i)
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("reading bundle: %w", err)
	}
	return nil
}

func (b *Bundle) readEntry(raw []byte, i int) {
	e, err := parseEntry(raw, i)
	if err == nil {
		err = b.admit(e.Resource)
	}
	if err != nil {
		name := e.FullURL
		if name == "" {
			name = fmt.Sprintf("entry[%d]", i)
		}
		b.Refused = append(b.Refused, Refusal{name, err.Error()})
		return
	}
	b.Entries = append(b.Entries, e)
}

// fullURLSizeMax bounds the names that are kept beside a resource.
const fullURLSizeMax = 1024

func parseEntry(raw []byte, i int) (Entry, error) {
	e := Entry{Index: i}
	v, err := parseJSON(raw)
	if err != nil {
		return e, asResourceError(err)
	}
	if v.kind != kindObject {
		return e, &ResourceError{Element: "entry", Reason: "is not an object"}
	}
	full := v.get("fullUrl")
	request := v.get("request")
	e.Method, e.URL, e.IfNoneExist = request.get("method").text, request.get("url").text, request.get("ifNoneExist").text
	if v.has("fullUrl") && (full.kind != kindText || full.text == "") || len(full.text)+len(e.URL)+len(e.IfNoneExist) > 3*fullURLSizeMax {
		return e, &ResourceError{Element: "entry.fullUrl", Reason: "is empty or too long"}
	}
	e.FullURL = full.text
	switch e.Method {
	case "", "POST", "PUT":
	default:
		return e, &ResourceError{Element: "entry.request.method", Reason: "asks for something other than creating or updating"}
	}
	if !v.has("resource") {
		return e, &ResourceError{Element: "entry.resource", Reason: "is missing"}
	}
	e.Resource, err = ParseLarge(v.get("resource").raw)
	e.Resource.FullURL = e.FullURL
	return e, err
}

// ReadNDJSON reads resources that follow one another (one a line, as in a bulk export, or a single one over many lines) of at most
// sizeMax bytes together, as the entries of a collection. A resource that breaks a rule is in Refused; the error is about the stream.
func ReadNDJSON(r io.Reader, sizeMax int64) (Bundle, error) {
	limited := &io.LimitedReader{R: r, N: sizeMax + 1}
	dec := json.NewDecoder(limited)
	b := Bundle{Type: "collection"}
	for i := 0; ; i++ {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if limited.N <= 0 || i > EntriesMax {
			return Bundle{}, ErrTooLarge
		}
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, fmt.Errorf("reading resource %d: %w", i, err)
		}
		res, err := ParseLarge(raw)
		if err == nil {
			err = b.admit(res)
		}
		if err != nil {
			b.Refused = append(b.Refused, Refusal{fmt.Sprintf("resource[%d]", i), err.Error()})
			continue
		}
		b.Entries = append(b.Entries, Entry{Resource: res, Index: i})
	}
}
