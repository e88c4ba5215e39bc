package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// InviteSeconds is how long an invitation in the ledger works, in ledger time.
const InviteSeconds = 24 * 60 * 60

// invitesOpenMax is how many invitations of one box are open at a time.
const invitesOpenMax = 16

// Inviter is the body of a hub's vote that a clinic may invite field devices, or may no more.
type Inviter struct {
	_      struct{} `cbor:",toarray"`
	V      uint64   // 1
	Device []byte   // 32: of the clinic
	May    bool
}

// DecodeInviter reads and checks the body of such a vote.
func DecodeInviter(body []byte) (Inviter, error) {
	var i Inviter
	if err := decodeControl(body, &i, "authority to invite"); err != nil {
		return i, err
	}
	err := checkLen(i.Device, 32, "device")
	if err == nil && i.V != 1 {
		err = fmt.Errorf("%w: version %d", ErrMalformed, i.V)
	}
	if err != nil {
		return i, fmt.Errorf("reading authority to invite: %w", err)
	}
	return i, nil
}

// Invite is the body by which a clinic with authority invites one box, to be taken in by one
// hub. The secret that opens it is on paper.
type Invite struct {
	_    struct{} `cbor:",toarray"`
	V    uint64   // 1
	Hash []byte   // 16: of the secret
	Hub  []byte   // 32
	Role Role     // field
}

// DecodeInvite reads and checks the body of an invitation.
func DecodeInvite(body []byte) (Invite, error) {
	var i Invite
	if err := decodeControl(body, &i, "invitation"); err != nil {
		return i, err
	}
	err := firstError(checkLen(i.Hash, 16, "hash of a secret"), checkLen(i.Hub, 32, "hub"))
	if err == nil && (i.V != 1 || i.Role != RoleField) {
		err = fmt.Errorf("%w: version %d, role %q", ErrMalformed, i.V, i.Role)
	}
	if err != nil {
		return i, fmt.Errorf("reading invitation: %w", err)
	}
	return i, nil
}

// OpenInvite is an invitation that the ledger has.
type OpenInvite struct {
	_       struct{} `cbor:",toarray"`
	Hash    []byte
	Hub     []byte
	Role    Role
	Expires int64 // ledger time, Unix seconds
}

type openInvitesRow struct {
	_    struct{} `cbor:",toarray"`
	List []OpenInvite
}

func inviterKey(d DeviceID) []byte { return append([]byte{registryInviter}, d[:]...) }

func inviterSubject(device []byte) []byte { return append([]byte("inviter "), device...) }

// IsInviter says whether the hubs gave a device authority to invite.
func IsInviter(s interface {
	Registry(key []byte) ([]byte, bool, error)
}, d DeviceID) (bool, error) {
	_, ok, err := s.Registry(inviterKey(d))
	return ok, err
}

// OpenInvitesPrefix is how the registry keys of invitations begin; ReadOpenInvites reads one.
func OpenInvitesPrefix() []byte { return []byte{registryInvites} }

// ReadOpenInvites reads a registry row under OpenInvitesPrefix: what one box invited lately.
func ReadOpenInvites(key, value []byte) (by DeviceID, list []OpenInvite, err error) {
	if len(key) != 1+len(by) || key[0] != registryInvites {
		return by, nil, fmt.Errorf("reading invitations: %w: key of %d bytes", ErrMalformed, len(key))
	}
	var row openInvitesRow
	if err := Unmarshal(value, &row); err != nil {
		return by, nil, fmt.Errorf("reading invitations: %w", err)
	}
	for i := range row.List {
		if err := firstError(checkLen(row.List[i].Hash, 16, "hash of a secret"), checkLen(row.List[i].Hub, 32, "hub")); err != nil {
			return by, nil, fmt.Errorf("reading invitations: %w", err)
		}
	}
	return DeviceID(key[1:]), row.List, nil
}

// setInviter counts a hub's vote for or against authority to invite. Like erase it never refuses.
func (c *change) setInviter(r *Record, author DeviceID) error {
	body, err := DecodeInviter(r.Body)
	if err != nil {
		return nil
	}
	hubs, err := c.mayAdmit(author)
	if errors.Is(err, errNotAllowed) {
		return nil
	}
	if err != nil {
		return err
	}
	d := DeviceID(body.Device)
	m, ok, err := c.member(d)
	if err != nil || !ok || body.May && (!m.Active() || m.Role != RoleClinic) {
		return err
	}
	_, may, err := c.registry(inviterKey(d))
	if err != nil {
		return err
	}
	if may == body.May {
		return c.withdraw(author, inviterSubject(d[:]), nil, hubs)
	}
	passed, err := c.vote(author, KindInviter, r.Body)
	if err != nil || !passed {
		return err
	}
	if !body.May {
		c.put(inviterKey(d), nil)
		return nil
	}
	c.put(inviterKey(d), binary.BigEndian.AppendUint64(nil, c.o.size))
	return nil
}

// invite notes an invitation by a box with authority at this place of the ledger. It never refuses.
func (c *change) invite(r *Record, author DeviceID) error {
	body, err := DecodeInvite(r.Body)
	if err != nil {
		return nil
	}
	if _, may, err := c.registry(inviterKey(author)); err != nil || !may {
		return err
	}
	hubs, err := c.hubs()
	if err != nil || !slices.Contains(hubs, DeviceID(body.Hub)) {
		return err
	}
	key := append(OpenInvitesPrefix(), author[:]...)
	var list []OpenInvite
	if b, ok, err := c.registry(key); err != nil {
		return err
	} else if ok {
		if _, list, err = ReadOpenInvites(key, b); err != nil {
			return errors.Join(ErrState, err)
		}
	}
	list = slices.DeleteFunc(slices.Clone(list), func(i OpenInvite) bool { return i.Expires <= c.time })
	if len(list) >= invitesOpenMax || slices.ContainsFunc(list, func(i OpenInvite) bool { return bytes.Equal(i.Hash, body.Hash) }) {
		return nil
	}
	list = append(list, OpenInvite{Hash: body.Hash, Hub: body.Hub, Role: body.Role, Expires: c.time + InviteSeconds})
	c.put(key, mustMarshal(openInvitesRow{List: list}))
	return nil
}
