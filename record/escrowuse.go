package record

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

// EscrowUse is the body by which a box says that sheets of an escrow opened the chart of a
// compartment to it. The escrow's key signs it, so nobody says it without the sheets, and everybody
// sees it: the record itself belongs to no compartment. With it goes a permission, a directive.
type EscrowUse struct {
	_           struct{} `cbor:",toarray"`
	V           uint64   // 1
	Verifier    []byte   // 32: of the escrow
	Compartment []byte   // 16
	Directive   []byte   // 16: id of the permission
	Until       uint64   // of the permission, Unix seconds; 0 for no end
	Signature   []byte   // 64: over EscrowUseClaim
}

const (
	domainEscrowUse   = "hp:escrow:use:1\x00"
	escrowUseUntilMax = 253_402_300_799 // the last second of the year 9999
)

// EscrowUseClaim is what an escrow's key signs: "hp:escrow:use:1\0" || region || device ||
// compartment || directive (16) || until (8, big-endian).
func EscrowUseClaim(region RegionID, d DeviceID, c CompartmentID, directive []byte, until uint64) []byte {
	b := append([]byte(domainEscrowUse), region[:]...)
	b = append(append(append(b, d[:]...), c[:]...), directive...)
	return binary.BigEndian.AppendUint64(b, until)
}

// DecodeEscrowUse reads and checks the body of such a record, but for its signature.
func DecodeEscrowUse(body []byte) (EscrowUse, error) {
	var u EscrowUse
	if err := decodeControl(body, &u, "use of an escrow"); err != nil {
		return u, err
	}
	err := firstError(checkLen(u.Verifier, ed25519.PublicKeySize, "verifier"), checkLen(u.Compartment, 16, "compartment"), checkLen(u.Directive, 16, "directive"), checkLen(u.Signature, ed25519.SignatureSize, "signature"))
	if err == nil && (u.V != 1 || u.Until > escrowUseUntilMax) {
		err = fmt.Errorf("%w: version %d, until %d", ErrMalformed, u.V, u.Until)
	}
	if err != nil {
		return u, fmt.Errorf("reading use of an escrow: %w", err)
	}
	return u, nil
}

// Verify checks that one of these escrows signed this for a box. The error wraps ErrSignature.
func (u *EscrowUse) Verify(region RegionID, d DeviceID, known []OrderedEscrow) error {
	for i := range known {
		if bytes.Equal(known[i].Verifier, u.Verifier) && ed25519.Verify(u.Verifier, EscrowUseClaim(region, d, CompartmentID(u.Compartment), u.Directive, u.Until), u.Signature) {
			return nil
		}
	}
	return fmt.Errorf("verifying use of an escrow: %w", ErrSignature)
}

// UsedEscrow is a use that the ledger has.
type UsedEscrow struct {
	Seq         uint64 // of its entry
	Time        int64  // ledger time, Unix seconds
	Compartment CompartmentID
	Device      DeviceID // that the chart was opened on
	Directive   [16]byte
	Until       uint64
	Public      []byte // of the escrow
}

type usedEscrowRow struct {
	_         struct{} `cbor:",toarray"`
	Time      int64
	Device    []byte
	Directive []byte
	Until     uint64
	Public    []byte
}

// UsedEscrowPrefix is how the registry keys of uses begin, UsedEscrowsOf how those of one
// compartment do; ReadUsedEscrow reads one.
func UsedEscrowPrefix() []byte { return []byte{registryUsed} }

// UsedEscrowsOf: see UsedEscrowPrefix.
func UsedEscrowsOf(c CompartmentID) []byte { return append(UsedEscrowPrefix(), c[:]...) }

// ReadUsedEscrow reads a registry row under UsedEscrowPrefix.
func ReadUsedEscrow(key, value []byte) (UsedEscrow, error) {
	var row usedEscrowRow
	if len(key) != 1+16+8 || key[0] != registryUsed {
		return UsedEscrow{}, fmt.Errorf("reading use of an escrow: %w: key of %d bytes", ErrMalformed, len(key))
	}
	if err := Unmarshal(value, &row); err != nil {
		return UsedEscrow{}, fmt.Errorf("reading use of an escrow: %w", err)
	}
	u := UsedEscrow{Seq: binary.BigEndian.Uint64(key[17:]), Time: row.Time, Compartment: CompartmentID(key[1:17]), Until: row.Until, Public: row.Public}
	err := firstError(copyFixed(u.Device[:], row.Device, "device"), copyFixed(u.Directive[:], row.Directive, "directive"), checkLen(row.Public, 32, "key of an escrow"))
	return u, err
}

// useEscrow notes a use. Like erase it never refuses: what no escrow signed has no effect.
func (c *change) useEscrow(r *Record, author DeviceID) error {
	u, err := DecodeEscrowUse(r.Body)
	if err != nil || !r.Core.Compartment.IsZero() {
		return nil
	}
	region, ok, err := c.registry([]byte{registryRegion})
	if err != nil || !ok || len(region) != len(RegionID{}) {
		return err
	}
	known, err := EscrowsOf(registryOf(c.registry))
	if err != nil {
		return err
	}
	if err := u.Verify(RegionID(region), author, known); errors.Is(err, ErrSignature) {
		return nil
	}
	row := usedEscrowRow{Time: c.time, Device: author[:], Directive: u.Directive, Until: u.Until}
	for i := range known {
		if bytes.Equal(known[i].Verifier, u.Verifier) {
			row.Public = known[i].Public
		}
	}
	c.put(binary.BigEndian.AppendUint64(UsedEscrowsOf(CompartmentID(u.Compartment)), c.o.size), mustMarshal(row))
	return nil
}
