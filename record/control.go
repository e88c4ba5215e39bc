package record

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Role says what a member box is for.
type Role string

const (
	RoleHub        Role = "hub"        // may order, cosigns checkpoints, relays
	RoleClinic     Role = "clinic"     // an edge box with a page
	RoleField      Role = "field"      // a worker's device
	RoleStandalone Role = "standalone" // a region of one: orders its own ledger
)

// Orders reports whether boxes of this role order the ledger and cosign it.
func (r Role) Orders() bool { return r == RoleHub || r == RoleStandalone }

func (r Role) valid() bool {
	switch r {
	case RoleHub, RoleClinic, RoleField, RoleStandalone:
		return true
	}
	return false
}

// EpochOpen is the body of an opening record.
type EpochOpen struct {
	_           struct{} `cbor:",toarray"`
	Device      []byte   // 32: the key that signs every record of the epoch
	Nonce       []byte   // 16 random bytes: two starts never share an epoch id
	Hardware    []byte   // 32: SHA-256 over what identifies the board and the card
	Predecessor []byte   // 16: the device's epoch before this one, or empty
	Heads       []uint64 // n reached in each lane of the predecessor; empty without one
	ClockMillis int64    // what the clock claimed
	Software    string
	Size        uint64 // ledger size and root the device had verified
	Root        []byte // 32
}

// MemberAdd is the body that admits a device, by a member that may.
type MemberAdd struct {
	_          struct{} `cbor:",toarray"`
	Device     []byte   // 32: Ed25519
	Encryption []byte   // 32: X25519, for wraps to this device
	Role       Role
	Name       string
	Addresses  []string // multiaddrs where a hub can be reached; may be empty
}

// MemberRevoke is the body that ends a device's membership.
type MemberRevoke struct {
	_      struct{} `cbor:",toarray"`
	Device []byte   // 32
	Reason string
}

// RegionFound is the body of the record at seq 1: it names the region and its
// first member, whose opening record is seq 0. Its rid is the region's id.
type RegionFound struct {
	_       struct{} `cbor:",toarray"`
	Name    string
	Nonce   []byte // 16
	Founder MemberAdd
}

// SessionOpen is the body that says which staff member works from here on.
type SessionOpen struct {
	_           struct{} `cbor:",toarray"`
	Staff       []byte   // 32: staff Ed25519 key
	IdleSeconds uint64
	Claim       []byte // 64: staff signature over SessionClaim
}

const (
	nameBytesMax      = 120
	addressesMax      = 16
	addressBytesMax   = 256
	domainSession     = "hp:session:1\x00"
	softwareBytesMax  = 64
	reasonBytesMax    = 500
	controlBodyBytes  = 8 << 10
	sessionClaimBytes = 64
)

// SessionClaim is what a staff key signs when a session opens at pos of a
// device: "hp:session:1\0" || epoch || lane || n (8, big-endian) || device.
func SessionClaim(pos Position, d DeviceID) []byte {
	b := append([]byte(domainSession), pos.Epoch[:]...)
	b = append(b, byte(pos.Lane))
	b = binary.BigEndian.AppendUint64(b, pos.N)
	return append(b, d[:]...)
}

func checkText(s, what string, bytesMax int) error {
	if len(s) > bytesMax || !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is longer than %d bytes or not UTF-8", ErrMalformed, what, bytesMax)
	}
	if strings.ContainsFunc(s, disturbs) {
		return fmt.Errorf("%w: %s has control characters", ErrMalformed, what)
	}
	return nil
}

// disturbs tells characters by which a name can change how a page, a terminal or
// the text around it reads: controls, line and paragraph separators, and what turns
// the direction of writing round. Marks that scripts need are not among them.
func disturbs(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

func checkLen(b []byte, want int, what string) error {
	if len(b) != want {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrMalformed, what, len(b), want)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func decodeControl(body []byte, v any, what string) error {
	if len(body) > controlBodyBytes {
		return fmt.Errorf("reading %s: %w: body of %d bytes", what, ErrMalformed, len(body))
	}
	if err := Unmarshal(body, v); err != nil {
		return fmt.Errorf("reading %s: %w", what, err)
	}
	return nil
}

// DecodeEpochOpen reads and checks the body of an opening record.
func DecodeEpochOpen(body []byte) (EpochOpen, error) {
	var e EpochOpen
	if err := decodeControl(body, &e, "opening record"); err != nil {
		return e, err
	}
	err := firstError(checkLen(e.Device, 32, "device"), checkLen(e.Nonce, 16, "nonce"), checkLen(e.Hardware, 32, "hardware"),
		checkLen(e.Root, 32, "root"), checkText(e.Software, "software", softwareBytesMax))
	if err == nil && len(e.Predecessor) != 0 {
		err = firstError(checkLen(e.Predecessor, 16, "predecessor"))
		if err == nil && len(e.Heads) != LaneCount {
			err = fmt.Errorf("%w: %d heads of a predecessor", ErrMalformed, len(e.Heads))
		}
	} else if err == nil && len(e.Heads) != 0 {
		err = fmt.Errorf("%w: heads without a predecessor", ErrMalformed)
	}
	return e, err
}

func (m *MemberAdd) check() error {
	err := firstError(checkLen(m.Device, 32, "device"), checkLen(m.Encryption, 32, "encryption key"), checkText(m.Name, "name", nameBytesMax))
	if err == nil && (!m.Role.valid() || m.Name == "" || len(m.Addresses) > addressesMax) {
		err = fmt.Errorf("%w: role %q, %d addresses", ErrMalformed, m.Role, len(m.Addresses))
	}
	for _, a := range m.Addresses {
		err = firstError(err, checkText(a, "address", addressBytesMax))
	}
	return err
}

// DecodeMemberAdd reads and checks the body that admits a member.
func DecodeMemberAdd(body []byte) (MemberAdd, error) {
	var m MemberAdd
	if err := decodeControl(body, &m, "member record"); err != nil {
		return m, err
	}
	return m, m.check()
}

// DecodeMemberRevoke reads and checks the body that ends a membership.
func DecodeMemberRevoke(body []byte) (MemberRevoke, error) {
	var m MemberRevoke
	if err := decodeControl(body, &m, "revocation"); err != nil {
		return m, err
	}
	return m, firstError(checkLen(m.Device, 32, "device"), checkText(m.Reason, "reason", reasonBytesMax))
}

// DecodeRegionFound reads and checks the founding body.
func DecodeRegionFound(body []byte) (RegionFound, error) {
	var f RegionFound
	if err := decodeControl(body, &f, "founding record"); err != nil {
		return f, err
	}
	return f, firstError(checkText(f.Name, "region name", nameBytesMax), checkLen(f.Nonce, 16, "nonce"), f.Founder.check())
}

// DecodeSessionOpen reads and checks the body of a session record.
func DecodeSessionOpen(body []byte) (SessionOpen, error) {
	var s SessionOpen
	if err := decodeControl(body, &s, "session record"); err != nil {
		return s, err
	}
	return s, firstError(checkLen(s.Staff, 32, "staff key"), checkLen(s.Claim, sessionClaimBytes, "claim"))
}
