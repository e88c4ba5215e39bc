package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// hadPrefix begins the rows that name compartments, assigned to a device of this
// box, of which a hub gave everything; from then on they come with spans. The value is
// the size of the ledger that it was everything of.
var hadPrefix = []byte("part/had/")

func keyHad(c record.CompartmentID) []byte {
	return append(hadPrefix[:len(hadPrefix):len(hadPrefix)], c[:]...)
}

// Lacking lists compartments that are assigned to a device and of which entries
// may be in holes here, at most max: nobody gave all of them since.
func (s *Store) Lacking(d record.DeviceID, max int) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) error {
		if l.st.absent == 0 {
			return nil
		}
		return l.snapshot().scan(keyRegistry(record.AssignedPrefix(d)), nil, false, func(key, value []byte) (bool, error) {
			_, c, err := record.AssignedCompartment(key[1:])
			seq, bad := record.AssignedSeq(value)
			if err != nil || bad != nil {
				return false, damagedRow(key, "assigned compartment")
			}
			had, ok, err := l.get(append([]byte{pRow}, keyHad(c)...))
			if err == nil && (!ok || len(had) != 8 || binary.BigEndian.Uint64(had) <= seq) {
				out = append(out, c)
			}
			return len(out) < max, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing what may be missing: %w", err)
	}
	return out, nil
}

// SetHad notes that a hub gave everything that a ledger of this size has of a
// compartment.
func (s *Store) SetHad(ctx context.Context, c record.CompartmentID, size uint64) error {
	return s.PutRows(ctx, []Row{{Key: keyHad(c), Value: binary.BigEndian.AppendUint64(nil, size)}})
}

// Assigned lists the compartments that the ledger assigns to a device.
func (s *Store) Assigned(d record.DeviceID) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) error {
		return l.snapshot().scan(keyRegistry(record.AssignedPrefix(d)), nil, false, func(key, _ []byte) (bool, error) {
			_, c, err := record.AssignedCompartment(key[1:])
			if err != nil {
				return false, damagedRow(key, err.Error())
			}
			out = append(out, c)
			return true, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing what is assigned: %w", err)
	}
	return out, nil
}
