package node

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// A caseload is the patients that are assigned to a field device. With the assignment
// goes a key-wrap record for each of them, because such a device has no reading key.
// What was assigned here and has no place in the ledger yet is remembered in rows:
//
//	asg/ device comp    1 given, 0 taken back; settled when the ledger says the same

// appendAssign writes an assignment and the keys that go with it.
func (n *Node) appendAssign(ctx context.Context, session uint64, m *record.Member, a record.Assign, body []byte) (record.Record, error) {
	drafts := []store.Draft{{Lane: record.LaneControl, Kind: record.KindAssign, Session: session,
		Seal: func(record.Position) ([]byte, error) { return body, nil }}}
	if m.Role == record.RoleField {
		wraps, err := n.wrapsFor(session, m, a.Add)
		if err != nil {
			return record.Record{}, err
		}
		drafts = append(drafts, wraps...)
	}
	placed, err := n.append(ctx, drafts, func([]record.Record) ([]store.Row, error) { return assignedRows(m.Device, a.Add, a.Remove), nil })
	if err != nil {
		return record.Record{}, err
	}
	return placed[0], nil
}

// wrapsFor hands the keys of patients to a device.
func (n *Node) wrapsFor(session uint64, m *record.Member, list [][]byte) ([]store.Draft, error) {
	pub, err := ecdh.X25519().NewPublicKey(m.Encryption[:])
	if err != nil {
		return nil, fmt.Errorf("reading the key of %q: %w", m.Name, err)
	}
	var drafts []store.Draft
	for _, id := range list {
		c := record.CompartmentID(id)
		w, err := n.vault.wrapTo(pub, c)
		if errors.Is(err, seal.ErrNoKey) {
			return nil, fmt.Errorf("patient %s: this box cannot open the chart itself: %w", c, err)
		}
		if err != nil {
			return nil, err
		}
		body, err := seal.EncodeWraps([]seal.Wrap{w})
		if err != nil {
			return nil, err
		}
		heads, err := n.headsFor(c, session, m)
		if err != nil {
			return nil, err
		}
		drafts = append(append(drafts, wrapDraft(c, session, body)), heads...)
	}
	return drafts, nil
}

func assignedRow(d record.DeviceID, c []byte) []byte {
	return append(append([]byte("asg/"), d[:]...), c...)
}

func assignedRows(d record.DeviceID, add, remove [][]byte) []store.Row {
	var rows []store.Row
	for _, c := range add {
		rows = append(rows, store.Row{Key: assignedRow(d, c), Value: []byte{1}})
	}
	for _, c := range remove {
		rows = append(rows, store.Row{Key: assignedRow(d, c), Value: []byte{0}})
	}
	return rows
}

// fieldDevices lists the active field devices with whether a patient is given to each.
func (n *Node) fieldDevices(c record.CompartmentID) ([]web.FieldDevice, error) {
	if n.box.Role != record.RoleClinic && !n.box.Role.Orders() {
		return nil, nil
	}
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	var out []web.FieldDevice
	for _, m := range members {
		if !m.Active() || m.Role != record.RoleField {
			continue
		}
		x := web.FieldDevice{ID: m.Device.String(), Name: n.deviceName(m.Device)}
		if x.Has, err = record.IsAssigned(n.store.State(), m.Device, c); err != nil {
			return nil, err
		}
		asked, err := n.store.GetRow(assignedRow(m.Device, c[:]))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if given := len(asked) == 1 && asked[0] == 1; len(asked) == 1 && given != x.Has {
			x.Has, x.Waits = given, true
		}
		out = append(out, x)
	}
	return out, nil
}

// GiveTo gives a patient to a field device, or takes it back.
func (n *Node) GiveTo(ctx context.Context, s web.Session, patientID, deviceID string, give bool) error {
	in, err := n.allow(ctx, s, policy.Give, patientID)
	if err != nil {
		return err
	}
	c, _, err := n.patient(patientID)
	if err != nil {
		return err
	}
	d, err := record.ParseDeviceID(deviceID)
	if err != nil {
		return web.ErrNotFound
	}
	m, ok, err := n.store.Member(d)
	if err != nil {
		return explain(err)
	}
	if !ok || m.Role != record.RoleField || n.mayAssign(&m, "") != nil {
		return web.ErrRefused
	}
	unlock := n.forms.lock("give")
	defer unlock()
	devices, err := n.fieldDevices(c)
	if err != nil {
		return explain(err)
	}
	if slices.ContainsFunc(devices, func(x web.FieldDevice) bool { return x.ID == deviceID && x.Has == give }) {
		return nil // a tap too many
	}
	a := record.Assign{Device: m.Device[:], Add: [][]byte{}, Remove: [][]byte{}}
	if give {
		a.Add = append(a.Add, bytes.Clone(c[:]))
	} else {
		a.Remove = append(a.Remove, bytes.Clone(c[:]))
	}
	body, err := record.Marshal(a)
	if err != nil {
		return err
	}
	_, err = n.appendAssign(ctx, in.n, &m, a, body)
	return explain(err)
}
