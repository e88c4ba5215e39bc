package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Mode says how much of the ledger a device's replica holds.
type Mode string

const (
	ModeFull    Mode = "full"    // every entry
	ModePartial Mode = "partial" // what the device wrote, its compartments, and what everybody holds
)

// AssignedMax is how many compartments one Assign may add, and how many remove.
const AssignedMax = 200

// Assign is the body that says what a device's replica holds. An empty mode leaves
// the mode as it was.
type Assign struct {
	_      struct{} `cbor:",toarray"`
	Device []byte   // 32
	Mode   Mode
	Add    [][]byte // compartments, 16 each, ascending
	Remove [][]byte // compartments, 16 each, ascending, none of Add
}

// DecodeAssign reads and checks the body of an assignment.
func DecodeAssign(body []byte) (Assign, error) {
	var a Assign
	if err := decodeControl(body, &a, "assignment"); err != nil {
		return a, err
	}
	err := checkLen(a.Device, 32, "device")
	if a.Mode != "" && a.Mode != ModeFull && a.Mode != ModePartial {
		err = firstError(err, fmt.Errorf("%w: mode %q", ErrMalformed, a.Mode))
	}
	seen := map[CompartmentID]bool{}
	for _, list := range [][][]byte{a.Add, a.Remove} {
		if len(list) > AssignedMax {
			err = firstError(err, fmt.Errorf("%w: %d compartments", ErrMalformed, len(list)))
			break
		}
		for i, c := range list {
			if err = firstError(err, checkLen(c, 16, "compartment")); err != nil {
				return a, fmt.Errorf("reading assignment: %w", err)
			}
			id := CompartmentID(c)
			if i > 0 && bytes.Compare(list[i-1], c) >= 0 || seen[id] || id.IsZero() {
				return a, fmt.Errorf("reading assignment: %w: compartments are not in order", ErrMalformed)
			}
			seen[id] = true
		}
	}
	if err != nil {
		return a, fmt.Errorf("reading assignment: %w", err)
	}
	return a, nil
}

func profileKey(d DeviceID) []byte { return append([]byte{registryProfile}, d[:]...) }

func assignedKey(d DeviceID, c CompartmentID) []byte {
	return append(AssignedPrefix(d), c[:]...)
}

// AssignedPrefix is how the registry keys of what is assigned to a device begin;
// AssignedCompartment reads one.
func AssignedPrefix(d DeviceID) []byte { return append([]byte{registryAssigned}, d[:]...) }

// AssignedCompartment reads a registry key under AssignedPrefix.
func AssignedCompartment(key []byte) (DeviceID, CompartmentID, error) {
	if len(key) != 1+32+16 || key[0] != registryAssigned {
		return DeviceID{}, CompartmentID{}, fmt.Errorf("reading assigned compartment: %w: key of %d bytes", ErrMalformed, len(key))
	}
	return DeviceID(key[1:33]), CompartmentID(key[33:]), nil
}

// AssignedSeq reads the value under such a key: the entry that assigns it.
func AssignedSeq(value []byte) (uint64, error) {
	if len(value) != 8 {
		return 0, fmt.Errorf("reading assigned compartment: %w: value of %d bytes", ErrMalformed, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

// IsAssigned says whether a compartment is assigned to a device.
func IsAssigned(s interface {
	Registry(key []byte) ([]byte, bool, error)
}, d DeviceID, c CompartmentID) (bool, error) {
	_, ok, err := s.Registry(assignedKey(d, c))
	return ok, err
}

// ModeOf is how much a device's replica holds: ModeFull until an Assign says
// otherwise.
func ModeOf(s interface {
	Registry(key []byte) ([]byte, bool, error)
}, d DeviceID) (Mode, error) {
	b, ok, err := s.Registry(profileKey(d))
	if err != nil || !ok {
		return ModeFull, err
	}
	return Mode(b), nil
}

// assign says what a device's replica holds from here on. A box that orders says
// so for every member, and keeps everything itself; a clinic for field devices.
func (c *change) assign(r *Record, author DeviceID) error {
	body, err := DecodeAssign(r.Body)
	if err != nil {
		return err
	}
	by, ok, err := c.member(author)
	if err != nil {
		return err
	}
	m, known, err := c.member(DeviceID(body.Device))
	if err != nil {
		return err
	}
	switch {
	case !ok || !known:
		return errNotAllowed
	case !by.Role.Orders() && (by.Role != RoleClinic || m.Role != RoleField):
		return errNotAllowed
	case m.Role.Orders() && body.Mode == ModePartial:
		return errNotAllowed
	case !m.Active(): // revoked meanwhile: refusing would stop the author's lane
		return nil
	}
	if body.Mode != "" {
		c.put(profileKey(m.Device), []byte(body.Mode))
	}
	for _, id := range body.Add {
		c.put(assignedKey(m.Device, CompartmentID(id)), binary.BigEndian.AppendUint64(nil, c.o.size))
	}
	for _, id := range body.Remove {
		c.put(assignedKey(m.Device, CompartmentID(id)), nil)
	}
	return nil
}
