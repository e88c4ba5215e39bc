package record

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of a v1 record, in bytes.
const (
	HeaderBytesMax = 200       // core and signature at rest, for an ordinary record
	WireBytesMax   = 96        // header on the wire, for an ordinary record
	BodyBytesMax   = 192 << 10 // sealed body
	coreBytesMax   = 512       // core with extensions
	Version        = 1
)

const (
	domainRID = "hp:rec:1\x00"
	domainSig = "hp:sig:1\x00"
)

var (
	ErrSignature = errors.New("signature does not match")
	ErrBodyHash  = errors.New("body does not match its hash")
)

// Core is what an author signs. Zero values stand for "none": Epoch and Prev of
// an opening record, Compartment of a control record.
type Core struct {
	Epoch       EpochID
	Lane        Lane
	N           uint64
	Prev        RID    // rid of n-1; of the opening record when n is 1
	HLC         uint64 // hybrid logical clock: Unix milliseconds << 16 | counter; for display only
	Clock       uint8  // trust in the wall clock, 0 none to 4 verified
	Kind        Kind
	Session     uint64 // n of the session's opening record in lane 0 of this epoch; 0 = the machine itself
	Size        uint64 // ledger size the author had verified
	Compartment CompartmentID
	BodyLen     uint32
	BodyHash    [32]byte
	Ext         map[uint64][]byte // odd keys critical, even keys ignorable; kept and passed on
}

// coreArray is the layout of Core without extensions, coreArrayExt with.
type coreArray struct {
	_           struct{} `cbor:",toarray"`
	V           uint8
	Epoch       []byte
	Lane        uint8
	N           uint64
	Prev        []byte
	HLC         uint64
	Clock       uint8
	Kind        uint16
	Session     uint64
	Size        uint64
	Compartment []byte
	BodyLen     uint32
	BodyHash    []byte
}

type coreArrayExt struct {
	_           struct{} `cbor:",toarray"`
	V           uint8
	Epoch       []byte
	Lane        uint8
	N           uint64
	Prev        []byte
	HLC         uint64
	Clock       uint8
	Kind        uint16
	Session     uint64
	Size        uint64
	Compartment []byte
	BodyLen     uint32
	BodyHash    []byte
	Ext         map[uint64][]byte
}

func (c *Core) opening() bool { return c.Kind == KindEpochOpen }

func (c *Core) array() coreArray {
	a := coreArray{V: Version, Epoch: []byte{}, Lane: uint8(c.Lane), N: c.N, Prev: []byte{}, HLC: c.HLC, Clock: c.Clock,
		Kind: uint16(c.Kind), Session: c.Session, Size: c.Size, Compartment: []byte{}, BodyLen: c.BodyLen, BodyHash: c.BodyHash[:]}
	if !c.opening() {
		a.Epoch, a.Prev = c.Epoch[:], c.Prev[:]
	}
	if !c.Compartment.IsZero() {
		a.Compartment = c.Compartment[:]
	}
	return a
}

// Encode gives the signed bytes.
func (c *Core) Encode() []byte {
	a := c.array()
	if len(c.Ext) == 0 {
		return mustMarshal(a)
	}
	return mustMarshal(coreArrayExt{V: a.V, Epoch: a.Epoch, Lane: a.Lane, N: a.N, Prev: a.Prev, HLC: a.HLC, Clock: a.Clock, Kind: a.Kind,
		Session: a.Session, Size: a.Size, Compartment: a.Compartment, BodyLen: a.BodyLen, BodyHash: a.BodyHash, Ext: c.Ext})
}

// DecodeCore reads the signed bytes of a core. The error wraps ErrMalformed.
func DecodeCore(b []byte) (Core, error) {
	if len(b) == 0 || len(b) > coreBytesMax {
		return Core{}, fmt.Errorf("%w: core of %d bytes", ErrMalformed, len(b))
	}
	var a coreArrayExt
	if b[0] == 0x8d { // 13 elements
		var s coreArray
		if err := Unmarshal(b, &s); err != nil {
			return Core{}, fmt.Errorf("reading core: %w", err)
		}
		a = coreArrayExt{V: s.V, Epoch: s.Epoch, Lane: s.Lane, N: s.N, Prev: s.Prev, HLC: s.HLC, Clock: s.Clock, Kind: s.Kind,
			Session: s.Session, Size: s.Size, Compartment: s.Compartment, BodyLen: s.BodyLen, BodyHash: s.BodyHash}
	} else {
		if err := Unmarshal(b, &a); err != nil {
			return Core{}, fmt.Errorf("reading core: %w", err)
		}
		if len(a.Ext) == 0 {
			return Core{}, fmt.Errorf("reading core: %w: empty extensions", ErrMalformed)
		}
	}
	return coreFrom(&a)
}

func coreFrom(a *coreArrayExt) (Core, error) {
	c := Core{Lane: Lane(a.Lane), N: a.N, HLC: a.HLC, Clock: a.Clock, Kind: Kind(a.Kind), Session: a.Session, Size: a.Size, BodyLen: a.BodyLen, Ext: a.Ext}
	if a.V != Version {
		return Core{}, fmt.Errorf("reading core: %w: version %d", ErrMalformed, a.V)
	}
	if c.opening() {
		if len(a.Epoch) != 0 || len(a.Prev) != 0 || a.Lane != 0 || a.N != 0 || len(a.Compartment) != 0 {
			return Core{}, fmt.Errorf("reading core: %w: an opening record has no epoch, prev, lane, n or compartment", ErrMalformed)
		}
	} else {
		if err := errors.Join(copyFixed(c.Epoch[:], a.Epoch, "epoch"), copyFixed(c.Prev[:], a.Prev, "prev")); err != nil {
			return Core{}, fmt.Errorf("reading core: %w", err)
		}
		if a.N == 0 || a.Lane >= LaneCount {
			return Core{}, fmt.Errorf("reading core: %w: lane %d, n %d", ErrMalformed, a.Lane, a.N)
		}
	}
	if len(a.Compartment) != 0 {
		if err := copyFixed(c.Compartment[:], a.Compartment, "compartment"); err != nil {
			return Core{}, fmt.Errorf("reading core: %w", err)
		}
		if c.Compartment.IsZero() {
			return Core{}, fmt.Errorf("reading core: %w: compartment of zeros", ErrMalformed)
		}
	}
	if a.Clock > 4 || a.BodyLen > BodyBytesMax || a.Kind == 0 {
		return Core{}, fmt.Errorf("reading core: %w: clock %d, body of %d bytes, kind %d", ErrMalformed, a.Clock, a.BodyLen, a.Kind)
	}
	return c, copyFixed(c.BodyHash[:], a.BodyHash, "body hash")
}

// Record is a core with its signature and, when this replica holds it, its
// body. Make one with Sign or a decoder; treat it as immutable.
type Record struct {
	Core Core
	Sig  [64]byte
	Body []byte // nil when absent; BodyLen 0 has an empty body

	core []byte // signed bytes
	rid  RID
}

func newRecord(c Core, core []byte, sig [64]byte, body []byte) Record {
	h := sha256.New()
	h.Write([]byte(domainRID))
	h.Write(core)
	r := Record{Core: c, Sig: sig, Body: body, core: core}
	h.Sum(r.rid[:0])
	return r
}

// Sign completes a core with the body's length and hash and signs it.
func Sign(c Core, body []byte, device ed25519.PrivateKey) Record {
	c.BodyLen, c.BodyHash = uint32(len(body)), sha256.Sum256(body)
	r := newRecord(c, c.Encode(), [64]byte{}, body)
	copy(r.Sig[:], ed25519.Sign(device, signedBytes(r.rid)))
	return r
}

func signedBytes(rid RID) []byte { return append([]byte(domainSig), rid[:]...) }

// RID names the record.
func (r *Record) RID() RID { return r.rid }

// CoreBytes are the signed bytes; the caller must not change them.
func (r *Record) CoreBytes() []byte { return r.core }

// Position is the record's place in its feed. An opening record is n 0 of the
// epoch that it opens.
func (r *Record) Position() Position {
	if r.Core.opening() {
		return Position{Epoch: r.OpenedEpoch()}
	}
	return Position{Epoch: r.Core.Epoch, Lane: r.Core.Lane, N: r.Core.N}
}

// OpenedEpoch is the id of the epoch that this opening record opens.
func (r *Record) OpenedEpoch() EpochID { return EpochID(r.rid[:16]) }

// VerifySignature checks the author's signature. ErrSignature when it is not
// this device's.
func (r *Record) VerifySignature(device DeviceID) error {
	if !ed25519.Verify(device[:], signedBytes(r.rid), r.Sig[:]) {
		return fmt.Errorf("verifying record %s: %w", r.rid.Short(), ErrSignature)
	}
	return nil
}

// VerifyBody checks a present body against the header; an absent body passes.
func (r *Record) VerifyBody() error {
	if r.Body == nil {
		return nil
	}
	if uint32(len(r.Body)) != r.Core.BodyLen || sha256.Sum256(r.Body) != r.Core.BodyHash {
		return fmt.Errorf("verifying record %s: %w", r.rid.Short(), ErrBodyHash)
	}
	return nil
}

func hashBody(b []byte) [32]byte { return sha256.Sum256(b) }

// WithBody gives the record with another body slice (nil drops it).
func (r Record) WithBody(body []byte) Record { r.Body = body; return r }

// header is the form at rest: [core, sig].
type header struct {
	_    struct{} `cbor:",toarray"`
	Core cbor.RawMessage
	Sig  []byte
}

// EncodeHeader gives the record without its body, as kept at rest.
func (r *Record) EncodeHeader() []byte { return mustMarshal(header{Core: r.core, Sig: r.Sig[:]}) }

// DecodeHeader reads what EncodeHeader wrote; the body is absent.
func DecodeHeader(b []byte) (Record, error) {
	var h header
	if err := Unmarshal(b, &h); err != nil {
		return Record{}, fmt.Errorf("reading header: %w", err)
	}
	return fromParts(h.Core, h.Sig, nil)
}

func fromParts(core, sig, body []byte) (Record, error) {
	c, err := DecodeCore(core)
	if err != nil {
		return Record{}, err
	}
	var s [64]byte
	if err := copyFixed(s[:], sig, "signature"); err != nil {
		return Record{}, fmt.Errorf("reading record: %w", err)
	}
	return newRecord(c, append([]byte(nil), core...), s, body), nil
}
