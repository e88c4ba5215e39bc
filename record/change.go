package record

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrState: a registry row is not what the ordering rules wrote.
var ErrState = errors.New("the registry is damaged")

// change is what one record does to members and registry. It is gathered while
// the state is read and taken over when nothing can fail any more.
type change struct {
	o       *Orderer
	time    int64 // of the record's entry
	members []Member
	rows    []RegistryRow
}

func (c *change) member(d DeviceID) (Member, bool, error) {
	for i := len(c.members) - 1; i >= 0; i-- {
		if c.members[i].Device == d {
			return c.members[i], true, nil
		}
	}
	return c.o.member(d)
}

func (c *change) registry(key []byte) ([]byte, bool, error) {
	for i := len(c.rows) - 1; i >= 0; i-- {
		if bytes.Equal(c.rows[i].Key, key) {
			return c.rows[i].Value, c.rows[i].Value != nil, nil
		}
	}
	return c.o.Registry(key)
}

func (c *change) put(key, value []byte) {
	c.rows = append(c.rows, RegistryRow{Key: bytes.Clone(key), Value: value})
}

// hubRow lists the devices that order, ascending.
type hubRow struct {
	_    struct{} `cbor:",toarray"`
	Hubs [][]byte
}

// hubs are the active members that order, ascending.
func (c *change) hubs() ([]DeviceID, error) {
	b, ok, err := c.registry([]byte{registryHubs})
	if err != nil || !ok {
		return nil, err
	}
	var row hubRow
	if err := Unmarshal(b, &row); err != nil {
		return nil, fmt.Errorf("reading hubs: %w", errors.Join(ErrState, err))
	}
	out := make([]DeviceID, 0, len(row.Hubs))
	for _, d := range row.Hubs {
		if err := checkLen(d, 32, "hub"); err != nil {
			return nil, fmt.Errorf("reading hubs: %w", errors.Join(ErrState, err))
		}
		out = append(out, DeviceID(d))
	}
	return out, nil
}

// set adds or changes a member, and keeps the list of hubs.
func (c *change) set(m Member) error {
	hubs, err := c.hubs()
	if err != nil {
		return err
	}
	at, listed := slices.BinarySearchFunc(hubs, m.Device, func(a, b DeviceID) int { return bytes.Compare(a[:], b[:]) })
	orders := m.Active() && m.Role.Orders()
	c.members = append(c.members, m)
	switch {
	case orders && !listed:
		hubs = slices.Insert(hubs, at, m.Device)
	case !orders && listed:
		hubs = slices.Delete(hubs, at, at+1)
	default:
		return nil
	}
	var row hubRow
	for i := range hubs {
		row.Hubs = append(row.Hubs, hubs[i][:])
	}
	c.put([]byte{registryHubs}, mustMarshal(row))
	return nil
}

// take makes a change part of what was added.
func (o *Orderer) take(c *change) {
	for _, m := range c.members {
		o.members[m.Device] = m
	}
	for _, r := range c.rows {
		o.registry[string(r.Key)] = r.Value
		if f, err := FrozenFeed(r.Key); err == nil {
			o.frozen[f] = r.Value != nil
		}
	}
	o.Changes.Members = append(o.Changes.Members, c.members...)
	o.Changes.Registry = append(o.Changes.Registry, c.rows...)
}
