package store

import (
	"fmt"

	"github.com/healthpost/healthpost/record"
)

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
