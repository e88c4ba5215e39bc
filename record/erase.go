package record

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

// EraseReason is why bodies are erased: a code, never a word about a patient.
type EraseReason uint64

const (
	EraseAsked   EraseReason = 1 // the patient, or who speaks for them, asked
	EraseMistake EraseReason = 2 // written of the wrong person, or by mistake
	EraseOrdered EraseReason = 3 // a court or an office ordered it
	EraseExpired EraseReason = 4 // it was kept as long as it may be
)

// EraseDays is within how many days of ledger time every box has to attest.
const EraseDays = 30

// eraseDayMax bounds what one box can have erased within a day of ledger time: a
// box in wrong hands is to be noticed and revoked before it has erased a region.
const eraseDayMax = 20

// Erase is the body that has bodies erased: those of a compartment, all that are in
// it and all that come later, or that of one record. Two staff members sign it. It
// is ordered whatever it says; what breaks the rules erases nothing.
type Erase struct {
	_           struct{} `cbor:",toarray"`
	V           uint64   // 1
	Compartment []byte   // 16, or empty
	Record      []byte   // 32, rid, or empty: one of the two is given
	Reason      EraseReason
	Staff       [][]byte // two staff keys, 32 each, ascending
	Signatures  [][]byte // of them over EraseClaim, 64 each
}

const domainErase = "hp:erase:1\x00"

// EraseClaim is what two staff members sign: "hp:erase:1\0" || device || reason (1)
// || compartment or rid.
func EraseClaim(d DeviceID, reason EraseReason, target []byte) []byte {
	b := append([]byte(domainErase), d[:]...)
	return append(append(b, byte(reason)), target...)
}

// Target is what is erased: 16 bytes of a compartment or 32 of a rid.
func (e *Erase) Target() []byte {
	if len(e.Compartment) > 0 {
		return e.Compartment
	}
	return e.Record
}

// DecodeErase reads and checks the body of an erasure, but for its signatures.
func DecodeErase(body []byte) (Erase, error) {
	var e Erase
	if err := decodeControl(body, &e, "erasure"); err != nil {
		return e, err
	}
	err := checkTarget(e.Compartment, e.Record)
	if err == nil && (e.V != 1 || e.Reason < EraseAsked || e.Reason > EraseExpired || len(e.Staff) != 2 || len(e.Signatures) != 2) {
		err = fmt.Errorf("%w: version %d, reason %d, %d staff, %d signatures", ErrMalformed, e.V, e.Reason, len(e.Staff), len(e.Signatures))
	}
	for i := range e.Staff {
		err = firstError(err, checkLen(e.Staff[i], ed25519.PublicKeySize, "staff key"))
	}
	for i := range e.Signatures {
		err = firstError(err, checkLen(e.Signatures[i], ed25519.SignatureSize, "signature"))
	}
	if err == nil && bytes.Compare(e.Staff[0], e.Staff[1]) >= 0 {
		err = fmt.Errorf("%w: staff keys are not in order", ErrMalformed)
	}
	if err != nil {
		return e, fmt.Errorf("reading erasure: %w", err)
	}
	return e, nil
}

func checkTarget(compartment, rid []byte) error {
	if len(rid) == 0 {
		err := checkLen(compartment, 16, "compartment")
		if err == nil && CompartmentID(compartment).IsZero() {
			err = fmt.Errorf("%w: no compartment", ErrMalformed)
		}
		return err
	}
	if len(compartment) != 0 {
		return fmt.Errorf("%w: a compartment and a record", ErrMalformed)
	}
	return checkLen(rid, 32, "record id")
}

// Verify checks the signatures of the two staff members.
func (e *Erase) Verify(author DeviceID) error {
	claim := EraseClaim(author, e.Reason, e.Target())
	for i := range e.Staff {
		if !ed25519.Verify(e.Staff[i], claim, e.Signatures[i]) {
			return fmt.Errorf("verifying erasure: %w", ErrSignature)
		}
	}
	return nil
}

// ErasedMax is how many erasures one Erased may name.
const ErasedMax = 200

// Erased is the body by which a box attests that it holds no body any more that
// these entries erased.
type Erased struct {
	_    struct{} `cbor:",toarray"`
	Seqs []uint64 // of the entries, ascending
}

// DecodeErased reads and checks the body of such an attestation.
func DecodeErased(body []byte) (Erased, error) {
	var e Erased
	if err := decodeControl(body, &e, "attestation of an erasure"); err != nil {
		return e, err
	}
	bad := len(e.Seqs) == 0 || len(e.Seqs) > ErasedMax
	for i := range e.Seqs {
		bad = bad || e.Seqs[i] > treeSizeMax || i > 0 && e.Seqs[i-1] >= e.Seqs[i]
	}
	if bad {
		return e, fmt.Errorf("reading attestation of an erasure: %w: %d entries, or not in order", ErrMalformed, len(e.Seqs))
	}
	return e, nil
}

// Erasable says whether the body of such a record goes with its compartment or by
// itself: what is sealed, and the wraps of a compartment's keys. The ordering rules
// read neither. Who looked at what, and who the staff are, stays.
func (c *Core) Erasable() bool {
	switch c.Kind {
	case KindDirectory, KindAccess, KindStaff:
		return false
	case KindKeyWrap:
		return !c.Compartment.IsZero()
	}
	return c.Kind.Sealed()
}

// Erasure is what the ledger settled about one erasure that has effect.
type Erasure struct {
	Seq         uint64        // of its entry
	Time        int64         // ledger time, Unix seconds
	Compartment CompartmentID // or zero
	Record      RID           // or zero
	Reason      EraseReason
	Device      DeviceID // that wrote it
}

type erasureRow struct {
	_      struct{} `cbor:",toarray"`
	Time   int64
	Target []byte
	Reason EraseReason
	Device []byte
}

func erasureKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{registryErasure}, seq)
}

// ErasedKey is the registry key of what is erased: a compartment or a rid. Its
// value is the seq of the entry, which ErasedBy reads.
func ErasedKey(target []byte) []byte { return append([]byte{registryErased}, target...) }

// ErasedPrefix is how such keys begin.
func ErasedPrefix() []byte { return []byte{registryErased} }

// ErasedTarget reads a key of ErasedKey: 16 bytes of a compartment or 32 of a rid.
func ErasedTarget(key []byte) (target []byte, ok bool) {
	if len(key) != 1+16 && len(key) != 1+32 || key[0] != registryErased {
		return nil, false
	}
	return key[1:], true
}

// ErasedBy reads the value under such a key.
func ErasedBy(value []byte) (seq uint64, err error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("reading what is erased: %w: %d bytes", ErrMalformed, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

// ErasurePrefix is how the registry keys of erasures begin; ReadErasure reads one.
func ErasurePrefix() []byte { return []byte{registryErasure} }

// ReadErasure reads a registry row under ErasurePrefix.
func ReadErasure(key, value []byte) (Erasure, error) {
	var row erasureRow
	if len(key) != 9 || key[0] != registryErasure {
		return Erasure{}, fmt.Errorf("reading erasure: %w: key of %d bytes", ErrMalformed, len(key))
	}
	if err := Unmarshal(value, &row); err != nil {
		return Erasure{}, fmt.Errorf("reading erasure: %w", err)
	}
	e := Erasure{Seq: binary.BigEndian.Uint64(key[1:]), Time: row.Time, Reason: row.Reason}
	switch len(row.Target) {
	case len(e.Compartment):
		e.Compartment = CompartmentID(row.Target)
	case len(e.Record):
		e.Record = RID(row.Target)
	default:
		return e, fmt.Errorf("reading erasure: %w: target of %d bytes", ErrMalformed, len(row.Target))
	}
	err := copyFixed(e.Device[:], row.Device, "device")
	return e, err
}

func attestedKey(seq uint64, d DeviceID) []byte { return append(AttestedPrefix(seq), d[:]...) }

// AttestedPrefix is how the registry keys of those begin who attested an erasure;
// AttestedDevice reads one.
func AttestedPrefix(seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{registryAttested}, seq)
}

// AttestedDevice reads a registry key under AttestedPrefix.
func AttestedDevice(key []byte) (DeviceID, error) {
	if len(key) != 1+8+32 || key[0] != registryAttested {
		return DeviceID{}, fmt.Errorf("reading who attested an erasure: %w: key of %d bytes", ErrMalformed, len(key))
	}
	return DeviceID(key[9:]), nil
}

// HasAttested says whether a device attested an erasure.
func HasAttested(s interface {
	Registry(key []byte) ([]byte, bool, error)
}, seq uint64, d DeviceID) (bool, error) {
	_, ok, err := s.Registry(attestedKey(seq, d))
	return ok, err
}

type erasedDayRow struct {
	_     struct{} `cbor:",toarray"`
	Since int64
	Count uint64
}

// erase has bodies erased. It never refuses: a release that does not know the kind
// orders every record of it.
func (c *change) erase(r *Record, author DeviceID) error {
	body, err := DecodeErase(r.Body)
	if err != nil || body.Verify(author) != nil {
		return nil
	}
	by, ok, err := c.member(author)
	if err != nil || !ok || by.Role == RoleField {
		return err
	}
	region, ok, err := c.registry([]byte{registryRegion})
	if err != nil || !ok || len(region) != len(RegionID{}) {
		return err
	}
	if d := DirectoryCompartment(RegionID(region)); bytes.Equal(body.Compartment, d[:]) {
		return nil
	}
	key := ErasedKey(body.Target())
	if _, done, err := c.registry(key); err != nil || done {
		return err
	}
	if ok, err := c.mayErase(author); err != nil || !ok {
		return err
	}
	c.put(key, binary.BigEndian.AppendUint64(nil, c.o.size))
	c.put(erasureKey(c.o.size), mustMarshal(erasureRow{Time: c.time, Target: body.Target(), Reason: body.Reason, Device: author[:]}))
	return nil
}

// mayErase counts the erasures of a box within a day of ledger time.
func (c *change) mayErase(author DeviceID) (bool, error) {
	key := append([]byte{registryErasing}, author[:]...)
	var day erasedDayRow
	b, ok, err := c.registry(key)
	if err != nil {
		return false, err
	}
	if ok {
		if err := Unmarshal(b, &day); err != nil {
			return false, fmt.Errorf("reading erasures of a day: %w", errors.Join(ErrState, err))
		}
	}
	if !ok || c.time-day.Since >= 24*60*60 {
		day = erasedDayRow{Since: c.time}
	}
	if day.Count >= eraseDayMax {
		return false, nil
	}
	day.Count++
	c.put(key, mustMarshal(day))
	return true, nil
}

// erased notes that the author attested erasures. Like erase it never refuses.
func (c *change) erased(r *Record, author DeviceID) error {
	body, err := DecodeErased(r.Body)
	if err != nil {
		return nil
	}
	for _, seq := range body.Seqs {
		_, ok, err := c.registry(erasureKey(seq))
		if err != nil {
			return err
		}
		if ok {
			c.put(attestedKey(seq, author), binary.BigEndian.AppendUint64(nil, uint64(c.time)))
		}
	}
	return nil
}

// Bare lets entries be judged whose erasable body is absent: it is for entries that
// a ledger has already, of which bodies may have been erased since. What is ordered
// comes with its body.
func (o *Orderer) Bare() { o.bare = true }

// absent says whether a record may be judged without its body.
func (o *Orderer) absent(r *Record) bool {
	return o.bare && r.Body == nil && r.Core.BodyLen > 0 && r.Core.Erasable()
}
