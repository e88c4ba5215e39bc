package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// AssignRequest says what a box's replica is to hold.
type AssignRequest struct {
	Box    string      `json:"box"`            // name, 12 digits or device
	Mode   record.Mode `json:"mode,omitempty"` // empty: as it is
	Add    []string    `json:"add,omitempty"`  // compartments
	Remove []string    `json:"remove,omitempty"`
}

// ProfileInfo is what a box's replica holds by the ledger of this box.
type ProfileInfo struct {
	Device   string      `json:"device"`
	Name     string      `json:"name"`
	Mode     record.Mode `json:"mode"`
	Assigned int         `json:"assigned"`          // compartments
	Waiting  bool        `json:"waiting,omitempty"` // the change has no place in the ledger yet
}

// Assign writes what another box's replica holds. A hub says so for every member
// that does not order, a clinic for field devices. On a box that orders it returns
// when the change is in the ledger; elsewhere it counts when a hub has ordered it. A
// record that the rules refuse would stop the lane that it stands in, so they are
// asked first.
func (n *Node) Assign(ctx context.Context, q AssignRequest) (ProfileInfo, error) {
	if !n.isRunning() {
		return ProfileInfo{}, ErrNotRunning
	}
	m, err := n.findMember(q.Box)
	if err != nil {
		return ProfileInfo{}, fmt.Errorf("assigning: %w", err)
	}
	if err := n.mayAssign(&m, q.Mode); err != nil {
		return ProfileInfo{}, fmt.Errorf("assigning to %q: %w", m.Name, err)
	}
	a := record.Assign{Device: m.Device[:], Mode: q.Mode}
	if a.Add, err = compartmentList(q.Add); err == nil {
		a.Remove, err = compartmentList(q.Remove)
	}
	if err != nil {
		return ProfileInfo{}, fmt.Errorf("assigning to %q: %w", m.Name, err)
	}
	body, err := record.Marshal(a)
	if err != nil {
		return ProfileInfo{}, err
	}
	if _, err := record.DecodeAssign(body); err != nil {
		return ProfileInfo{}, fmt.Errorf("assigning to %q: a change names up to %d compartments to add and as many to remove, each once: %w", m.Name, record.AssignedMax, err)
	}
	r, err := n.appendAssign(ctx, 0, &m, a, body)
	if err != nil {
		return ProfileInfo{}, err
	}
	waiting := !n.box.Role.Orders()
	if !waiting {
		if err := n.waitOrdered(ctx, r.RID()); err != nil {
			return ProfileInfo{}, err
		}
	}
	p, err := n.profile(&m)
	p.Waiting = waiting
	return p, err
}

func (n *Node) mayAssign(m *record.Member, mode record.Mode) error {
	self, ok, err := n.store.Member(n.author.Device)
	switch {
	case err != nil:
		return err
	case !ok || !self.Active():
		return fmt.Errorf("this box is no member of the region")
	case !m.Active():
		return fmt.Errorf("not an active member")
	case !self.Role.Orders() && self.Role != record.RoleClinic:
		return fmt.Errorf("only a hub or a clinic can")
	case self.Role == record.RoleClinic && m.Role != record.RoleField:
		return fmt.Errorf("a clinic says what field devices hold; for other boxes run this on a hub")
	case m.Role.Orders() && mode == record.ModePartial:
		return fmt.Errorf("a box that orders holds everything")
	}
	return nil
}

func compartmentList(texts []string) ([][]byte, error) {
	out := [][]byte{}
	for _, text := range texts {
		c, err := record.ParseCompartmentID(text)
		if err != nil {
			return nil, err
		}
		out = append(out, c[:])
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal), nil
}

func (n *Node) profile(m *record.Member) (ProfileInfo, error) {
	mode, err := record.ModeOf(n.store.State(), m.Device)
	if err != nil {
		return ProfileInfo{}, err
	}
	list, err := n.store.Assigned(m.Device)
	return ProfileInfo{Device: m.Device.String(), Name: m.Name, Mode: mode, Assigned: len(list)}, err
}

// ReleasedInfo is what releasing did.
type ReleasedInfo struct {
	Entries uint64 `json:"entries"` // whose bytes are gone
	Bytes   uint64 `json:"bytes"`
	Kept    uint64 `json:"kept"`   // not in the profile, but not confirmed, or this box's own
	People  int    `json:"people"` // compartments of which nothing is left here
}

// Release lets go of what this box's profile does not hold any more: records,
// keys and rows of lists. What is not confirmed, and what this box wrote, stays,
// whatever the profile says.
func (n *Node) Release(ctx context.Context) (ReleasedInfo, error) {
	var info ReleasedInfo
	if !n.selfPartial() {
		return info, fmt.Errorf("releasing: the replica of this box is a full one: a hub can make it partial with 'healthpost region assign'")
	}
	n.projectMu.Lock()
	defer n.projectMu.Unlock()
	self := n.author.Device
	list, err := n.store.Compartments()
	if err != nil {
		return info, err
	}
	going := map[record.CompartmentID][]store.Row{}
	for _, c := range list {
		in, err := n.store.InProfile(self, c)
		if err == nil && !in {
			going[c], err = n.rowsAbout(c)
		}
		if err != nil {
			return info, err
		}
	}
	rep, err := n.store.Release(ctx, self, func(c record.CompartmentID) bool { _, gone := going[c]; return !gone })
	info.Entries, info.Bytes, info.Kept = rep.Entries, rep.Bytes, rep.Kept
	for c, rows := range going {
		if err != nil {
			break
		}
		var left []store.Placed
		if left, err = n.store.Compartment(c); err == nil && len(left) == 0 {
			n.vault.forget(c)
			err = n.store.PutRows(ctx, rows)
			info.People++
		}
	}
	if err != nil {
		return info, fmt.Errorf("releasing: %w", err)
	}
	n.dirty.tell()
	return info, nil
}

// rowsAbout are the deletions of all that is kept about a compartment besides its
// records.
func (n *Node) rowsAbout(c record.CompartmentID) ([]store.Row, error) {
	opened, err := n.openCompartment(c)
	if err != nil {
		return nil, err
	}
	rows := []store.Row{{Key: personKey(c)}}
	old, _, err := n.personRow(c)
	if err != nil {
		return nil, err
	}
	for _, t := range old.Tokens {
		rows = append(rows, store.Row{Key: n.tokenKey(t, c)})
	}
	for _, o := range opened {
		for _, item := range o.Body.Items {
			rows = append(rows, store.Row{Key: n.resourceKey(keyName(c, item))})
			if item.Type != "Patient" {
				continue
			}
			for _, name := range fhir.ReferenceNames(item.Resource()) {
				rows = append(rows, store.Row{Key: n.resourceKey(patientName(name))})
			}
		}
	}
	err = n.store.ScanRows(append([]byte("wrap/"), c[:]...), wrapsMax, func(key, _ []byte) bool {
		rows = append(rows, store.Row{Key: bytes.Clone(key)})
		return true
	})
	return rows, err
}

// wrapsMax bounds the generations of one compartment's key that are looked at.
const wrapsMax = 1 << 20

// forget drops the unwrapped keys of a compartment.
func (v *vault) forget(c record.CompartmentID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.known {
		if id.comp == c {
			delete(v.known, id)
		}
	}
}

func (n *Node) profileRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("POST /assign", func(r *http.Request) (any, error) {
		var q AssignRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
		return n.Assign(r.Context(), q)
	})
	reply("POST /release", func(r *http.Request) (any, error) { return n.Release(r.Context()) })
}

// Assign and Release do on the box what the methods of the same name on Node say.
func (c *Client) Assign(ctx context.Context, q AssignRequest) (p ProfileInfo, err error) {
	return p, c.call(ctx, http.MethodPost, "/assign", q, &p)
}

func (c *Client) Release(ctx context.Context) (r ReleasedInfo, err error) {
	return r, c.call(ctx, http.MethodPost, "/release", nil, &r)
}
