package chart

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// Limits of one body.
const (
	BodySizeMax    = 384 << 10 // bytes, before compression
	ItemsMax       = 512
	BasesMax       = 1024 // versions that one item replaces
	ReasonSizeMax  = 1000
	fullURLSizeMax = 1024
)

// A body with attachments has a version of its own, so that every other one reads
// as it always did.
const (
	bodyVersion      = 1
	bodyVersionBlobs = 2
)

// ErrBody is wrapped by every refusal of DecodeBody and EncodeBody: the bytes are no body and never will be.
var ErrBody = errors.New("not a body")

// Op says what an item does.
type Op uint8

const (
	OpPut     Op = 1 // this is how the resource reads now
	OpRetract Op = 2 // the versions in Base were entered in error
)

// Ref names one item of one record by the first 8 bytes of its rid and its place in the body.
type Ref struct {
	RID   [8]byte
	Index uint16
}

// RefOf names item index of the record rid.
func RefOf(rid record.RID, index int) Ref {
	return Ref{[8]byte(rid[:8]), uint16(index)}
}

// String is 16 hexadecimal digits, a point and the index; ParseRef reads it.
func (r Ref) String() string { return hex.EncodeToString(r.RID[:]) + "." + strconv.Itoa(int(r.Index)) }

// ParseRef reads what String wrote.
func ParseRef(s string) (Ref, error) {
	var r Ref
	prefix, index, ok := strings.Cut(s, ".")
	n, err := strconv.ParseUint(index, 10, 16)
	if !ok || err != nil || len(prefix) != 16 {
		return Ref{}, errors.New("reading item reference: want 16 hexadecimal digits, a point and a number")
	}
	if _, err := hex.Decode(r.RID[:], []byte(prefix)); err != nil {
		return Ref{}, fmt.Errorf("reading item reference: %w", err)
	}
	r.Index = uint16(n)
	if r.String() != s {
		return Ref{}, errors.New("reading item reference: not in its only form")
	}
	return r, nil
}

// Item is one resource inside a record's body. Base names the versions it replaces; empty Base means new.
type Item struct {
	Op       Op
	FullURL  string
	Type, ID string // of the resource; kept by themselves only for a retraction
	Base     []Ref
	JSON     []byte // nil for a retraction
}

// PutItem makes an item of a resource.
func PutItem(r fhir.Resource, base ...Ref) Item {
	return Item{Op: OpPut, FullURL: r.FullURL, Type: r.Type, ID: r.ID, Base: base, JSON: r.JSON}
}

// PutItems makes new items of resources.
func PutItems(resources []fhir.Resource) []Item {
	items := make([]Item, len(resources))
	for i, r := range resources {
		items[i] = PutItem(r)
	}
	return items
}

// Resource is the item's resource; without JSON for a retraction.
func (i Item) Resource() fhir.Resource {
	return fhir.Resource{Type: i.Type, ID: i.ID, FullURL: i.FullURL, JSON: i.JSON}
}

// Key names the thing that the item is a version of: by its id when that is a UUID (unique anywhere), else by its full URL, else by its
// type and id. "" when the item has none of these: then it is a thing of its own.
func (i Item) Key() string {
	if isUUID(i.ID) {
		return i.Type + "/" + strings.ToLower(i.ID)
	}
	if uuid, ok := strings.CutPrefix(i.FullURL, "urn:uuid:"); ok && isUUID(uuid) {
		return i.Type + "/" + strings.ToLower(uuid)
	}
	if i.FullURL != "" {
		return i.Type + " " + i.FullURL
	}
	if i.ID != "" {
		return i.Type + "/" + i.ID
	}
	return ""
}

func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	_, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return err == nil
}

// Body is what one record says.
type Body struct {
	Reason string // of a retraction or amendment, in the words of staff
	Items  []Item
	Blobs  []Blob // content of the items that is kept apart from them
}

type bodyArray struct {
	_      struct{} `cbor:",toarray"`
	Reason string
	Items  []itemArray
}

type bodyBlobsArray struct {
	_      struct{} `cbor:",toarray"`
	Reason string
	Items  []itemArray
	Blobs  []blobArray
}

type itemArray struct {
	_       struct{} `cbor:",toarray"`
	Op      uint8
	FullURL string
	Base    []byte
	Type    string
	ID      string
	JSON    []byte
}

const refSize = 10

// EncodeBody gives the bytes of a body. It refuses what DecodeBody would refuse.
func EncodeBody(b Body) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	out := bodyArray{Reason: b.Reason, Items: make([]itemArray, len(b.Items))}
	for i, it := range b.Items {
		a := itemArray{Op: uint8(it.Op), FullURL: it.FullURL, Base: make([]byte, 0, refSize*len(it.Base)), JSON: it.JSON}
		for _, ref := range it.Base {
			a.Base = binary.BigEndian.AppendUint16(append(a.Base, ref.RID[:]...), ref.Index)
		}
		if it.Op == OpRetract {
			a.Type, a.ID, a.JSON = it.Type, it.ID, []byte{}
		}
		out.Items[i] = a
	}
	version, all := byte(bodyVersion), any(out)
	if len(b.Blobs) > 0 {
		with := bodyBlobsArray{Reason: out.Reason, Items: out.Items}
		for i := range b.Blobs {
			with.Blobs = append(with.Blobs, b.Blobs[i].array())
		}
		version, all = bodyVersionBlobs, with
	}
	enc, err := record.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encoding body: %w", err)
	}
	if len(enc) >= BodySizeMax {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrBody, BodySizeMax)
	}
	return append([]byte{version}, enc...), nil
}

// DecodeBody reads the bytes of a body. The items share its memory. The error wraps ErrBody and holds nothing of the content.
func DecodeBody(b []byte) (Body, error) {
	if len(b) < 2 || len(b) > BodySizeMax || b[0] != bodyVersion && b[0] != bodyVersionBlobs {
		return Body{}, fmt.Errorf("%w: size or version", ErrBody)
	}
	var in bodyBlobsArray
	var err error
	if b[0] == bodyVersionBlobs {
		err = record.Unmarshal(b[1:], &in)
	} else {
		var plain bodyArray
		err = record.Unmarshal(b[1:], &plain)
		in.Reason, in.Items = plain.Reason, plain.Items
	}
	if err != nil || b[0] == bodyVersionBlobs && len(in.Blobs) == 0 {
		return Body{}, fmt.Errorf("%w: %w", ErrBody, errors.Join(err, record.ErrMalformed))
	}
	out := Body{Reason: in.Reason}
	for i := range in.Blobs {
		blob, err := in.Blobs[i].blob()
		if err != nil {
			return Body{}, err
		}
		out.Blobs = append(out.Blobs, blob)
	}
	for _, a := range in.Items {
		it, err := a.item()
		if err != nil {
			return Body{}, err
		}
		out.Items = append(out.Items, it)
	}
	return out, out.check()
}

func (a itemArray) item() (Item, error) {
	if a.Base == nil || a.JSON == nil || len(a.Base)%refSize != 0 || len(a.Base) > refSize*BasesMax {
		return Item{}, fmt.Errorf("%w: base or content of an item", ErrBody)
	}
	it := Item{Op: Op(a.Op), FullURL: a.FullURL, Type: a.Type, ID: a.ID}
	for b := a.Base; len(b) > 0; b = b[refSize:] {
		it.Base = append(it.Base, Ref{[8]byte(b[:8]), binary.BigEndian.Uint16(b[8:])})
	}
	if it.Op != OpPut {
		if len(a.JSON) != 0 {
			return Item{}, fmt.Errorf("%w: a retraction with content", ErrBody)
		}
		return it, nil
	}
	if a.Type != "" || a.ID != "" {
		return Item{}, fmt.Errorf("%w: type beside a resource", ErrBody)
	}
	r, err := fhir.ParseResource(a.JSON)
	if err != nil || len(r.JSON) != len(a.JSON) {
		return Item{}, fmt.Errorf("%w: an item that is no resource", ErrBody)
	}
	it.Type, it.ID, it.JSON = r.Type, r.ID, a.JSON
	return it, nil
}

func (b Body) check() error {
	if len(b.Items) == 0 || len(b.Items) > ItemsMax || len(b.Reason) > ReasonSizeMax || !utf8.ValidString(b.Reason) {
		return fmt.Errorf("%w: number of items or size of reason", ErrBody)
	}
	for i, it := range b.Items {
		if err := it.check(); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	return checkBlobs(b.Blobs)
}

func (i Item) check() error {
	if len(i.FullURL) > fullURLSizeMax || !utf8.ValidString(i.FullURL+i.ID) || len(i.Base) > BasesMax {
		return fmt.Errorf("%w: full URL or base too long", ErrBody)
	}
	for n, ref := range i.Base {
		if slices.Contains(i.Base[:n], ref) {
			return fmt.Errorf("%w: the same base twice", ErrBody)
		}
	}
	switch i.Op {
	case OpPut:
		if len(i.JSON) == 0 || len(i.JSON) > fhir.ResourceSizeMax {
			return fmt.Errorf("%w: no content", ErrBody)
		}
	case OpRetract:
		if len(i.JSON) != 0 || len(i.Base) == 0 || !fhir.KnownType(i.Type) || len(i.ID) > 64 {
			return fmt.Errorf("%w: a retraction of nothing", ErrBody)
		}
	default:
		return fmt.Errorf("%w: unknown operation", ErrBody)
	}
	return nil
}
