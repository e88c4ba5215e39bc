package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// hadPrefix begins the rows that name compartments, assigned to a device of this
// box, of which a hub gave everything once; from then on they come with spans.
var hadPrefix = []byte("part/had/")

const hadMax = 1 << 16

func keyHad(c record.CompartmentID) []byte {
	return append(hadPrefix[:len(hadPrefix):len(hadPrefix)], c[:]...)
}

// Assigned lists the compartments that the ledger assigns to a device.
func (s *Store) Assigned(d record.DeviceID) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) (err error) { out, err = l.assigned(d); return err })
	if err != nil {
		return nil, fmt.Errorf("listing what is assigned: %w", err)
	}
	return out, nil
}

func (l lookup) assigned(d record.DeviceID) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	prefix := keyRegistry(record.AssignedPrefix(d))
	err := l.snapshot().scan(prefix, nil, false, func(key, _ []byte) (bool, error) {
		_, c, err := record.AssignedCompartment(key[1:])
		if err != nil {
			return false, damagedRow(key, err.Error())
		}
		out = append(out, c)
		return true, nil
	})
	return out, err
}

// Lacking lists compartments that are assigned to a device and of which entries
// may be in holes here, at most max: nobody gave all of them since.
func (s *Store) Lacking(d record.DeviceID, max int) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) error {
		if l.st.absent == 0 {
			return nil
		}
		list, err := l.assigned(d)
		for _, c := range list {
			_, had, err := l.get(append([]byte{pRow}, keyHad(c)...))
			if err != nil {
				return err
			}
			if !had && len(out) < max {
				out = append(out, c)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing what may be missing: %w", err)
	}
	return out, nil
}

// SetHad notes that a hub gave everything of a compartment, and forgets such notes
// of what is no longer assigned to the device.
func (s *Store) SetHad(ctx context.Context, d record.DeviceID, c record.CompartmentID) error {
	list, err := s.Assigned(d)
	if err != nil {
		return err
	}
	var rows []Row
	if slices.Contains(list, c) {
		rows = append(rows, Row{Key: keyHad(c), Value: []byte{1}})
	}
	err = s.ScanRows(hadPrefix, hadMax, func(key, _ []byte) bool {
		if x := record.CompartmentID(key[len(hadPrefix):]); !slices.Contains(list, x) {
			rows = append(rows, Row{Key: keyHad(x)})
		}
		return true
	})
	if err == nil {
		err = s.PutRows(ctx, rows)
	}
	if err != nil {
		return fmt.Errorf("noting a compartment: %w", err)
	}
	return nil
}
