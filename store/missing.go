package store

import (
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Missing lists compartments of which entries are known not to be held, at most
// max: see MissingOf.
func (s *Store) Missing(max int) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) error {
		if l.st.absent == 0 || max <= 0 {
			return nil
		}
		start := []byte{pMissing}
		for len(out) < max {
			found := false
			err := l.snapshot().scan([]byte{pMissing}, start, false, func(key, _ []byte) (bool, error) {
				if len(key) != 25 {
					return false, damagedRow(key, "missing entry")
				}
				c := record.CompartmentID(key[1:17])
				out, found = append(out, c), true
				start = append(keyMissing(c, 1<<63), 0) // behind all of this one
				return false, nil
			})
			if err != nil || !found {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing missing entries: %w", err)
	}
	return out, nil
}

// Assigned lists the compartments that the ledger assigns to a device.
func (s *Store) Assigned(d record.DeviceID) ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	err := s.read(func(l lookup) error {
		prefix := keyRegistry(record.AssignedPrefix(d))
		return l.snapshot().scan(prefix, nil, false, func(key, _ []byte) (bool, error) {
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
