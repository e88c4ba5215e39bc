package node

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// An invitation is text that a person carries to the new box: where the hub is,
// which region it must be, and a secret that works once until it expires. The
// hub keeps only the secret's hash.

const (
	invitationPrefix   = "HP1-"
	invitationTokenLen = 16
	invitationTextMax  = 4 << 10
	invitationsMax     = 10_000 // of the last month, looked through when a stranger knocks
)

type invitation struct {
	_         struct{} `cbor:",toarray"`
	V         uint8
	Region    []byte
	Hub       []byte
	Addresses []string
	Role      record.Role
	Token     []byte
}

// InviteRequest asks for an invitation for one box.
type InviteRequest struct {
	Role record.Role `json:"role"`
}

// Invited is an invitation as text, with where it ends.
type Invited struct {
	Text    string      `json:"invitation"`
	Role    record.Role `json:"role"`
	Expires time.Time   `json:"expires"`
	Hub     string      `json:"hub,omitempty"`   // of a clinic's: the hub that lets the box in
	Waits   bool        `json:"waits,omitempty"` // until this clinic has exchanged with a hub
}

// openInvite is what the hub keeps of an invitation.
type openInvite struct {
	_       struct{} `cbor:",toarray"`
	Role    record.Role
	Expires int64  // Unix seconds of inviteTime
	Device  []byte // who used it; empty while open
}

// inviteHash is what is known of a secret before it is shown.
func inviteHash(token []byte) []byte {
	h := sha256.Sum256(append([]byte("hp:invite:1\x00"), token...))
	return h[:16]
}

func inviteRow(hash []byte) []byte { return append([]byte("invite/"), hash...) }

func inviteKey(token []byte) []byte { return inviteRow(inviteHash(token)) }

// Invite makes an invitation. Only a running box that orders can, or a clinic with authority, for field devices.
func (n *Node) Invite(ctx context.Context, q InviteRequest) (Invited, error) {
	region, ok := n.box.RegionID()
	switch {
	case !ok:
		return Invited{}, ErrNoRegion
	case !n.isRunning():
		return Invited{}, ErrNotRunning
	case !n.box.Role.Orders():
		return n.inviteByRecord(ctx, region, q.Role)
	case q.Role != record.RoleHub && q.Role != record.RoleClinic && q.Role != record.RoleField:
		return Invited{}, fmt.Errorf("inviting: role %q: choose hub, clinic or field", q.Role)
	}
	token := make([]byte, invitationTokenLen)
	if _, err := rand.Read(token); err != nil {
		return Invited{}, err
	}
	expires := n.inviteTime().Add(inviteLife)
	row, err := record.Marshal(openInvite{Role: q.Role, Expires: expires.Unix()})
	if err != nil {
		return Invited{}, err
	}
	forget, err := n.oldInvitations()
	if err != nil {
		return Invited{}, err
	}
	if err := n.store.PutRows(ctx, append(forget, store.Row{Key: inviteKey(token), Value: row})); err != nil {
		return Invited{}, err
	}
	text, err := encodeInvitation(invitation{V: 1, Region: region[:], Hub: n.author.Device[:], Addresses: n.announced(), Role: q.Role, Token: token})
	return Invited{Text: text, Role: q.Role, Expires: expires}, err
}

func encodeInvitation(i invitation) (string, error) {
	raw, err := record.Marshal(i)
	if err != nil {
		return "", err
	}
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(raw), nil
}

// inviteKept is how long after its end an invitation is kept for the box that
// used it and did not hear the answer.
const inviteKept = 30 * 24 * time.Hour

// oldInvitations are deletions of what nobody can come back with.
func (n *Node) oldInvitations() ([]store.Row, error) {
	var rows []store.Row
	now := n.inviteTime()
	err := n.store.ScanRows([]byte("invite/"), invitationsMax, func(k, v []byte) bool {
		var i openInvite
		if record.Unmarshal(v, &i) == nil && expired(time.Unix(i.Expires, 0).Add(inviteKept), now) {
			rows = append(rows, store.Row{Key: bytes.Clone(k)})
		}
		return true
	})
	return rows, err
}

// inviteTime is what invitations are dated by: this hub's clock, and ledger time where that is later, so
// that none comes alive again because a clock went back.
func (n *Node) inviteTime() time.Time {
	if ledger := time.Unix(n.store.State().LastTime(), 0); ledger.After(n.o.Now()) {
		return ledger
	}
	return n.o.Now()
}

func parseInvitation(s string) (invitation, error) {
	var i invitation
	bad := func(why string) (invitation, error) {
		return i, fmt.Errorf("reading the invitation: %s: copy all of it, from %s to the end", why, invitationPrefix)
	}
	s = strings.Join(strings.Fields(s), "")
	rest, ok := strings.CutPrefix(s, invitationPrefix)
	if !ok || len(s) > invitationTextMax {
		return bad("it does not start as one does")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil {
		return bad("a character is wrong")
	}
	if err := record.Unmarshal(raw, &i); err != nil || i.V != 1 || len(i.Region) != 32 || len(i.Hub) != 32 || len(i.Token) != invitationTokenLen || len(i.Addresses) == 0 {
		return bad("part of it is missing")
	}
	return i, nil
}

type joinRequest struct {
	_          struct{} `cbor:",toarray"`
	Token      []byte
	Encryption []byte
	Role       record.Role
	Name       string
	Addresses  []string
}

type joinResponse struct {
	_      struct{} `cbor:",toarray"`
	Name   string   // of the region
	Seed   hubSeed
	Keys   [][]byte // HPKE to the new box, one reading key each, current first
	Reason string   // why not, empty when admitted
}

// joinWaits is the answer to a box that becomes a hub once more hubs approved it.
type joinWaits struct {
	_       struct{} `cbor:",toarray"`
	Missing uint64   // votes
}

const joinInfo = "hp:join:1"

// openInvitations reports whether a stranger may knock at all: somebody has an
// invitation that is open, or waits for other hubs to approve.
func (n *Node) openInvitations() bool {
	if n.keys.Locked() { // it has no key to give
		return false
	}
	open, now := false, n.inviteTime()
	err := n.store.ScanRows([]byte("invite/"), invitationsMax, func(_, v []byte) bool {
		var i openInvite
		if record.Unmarshal(v, &i) != nil {
			return true
		}
		ends := time.Unix(i.Expires, 0)
		open = len(i.Device) == 0 && !expired(ends, now) || n.waitsForVotes(i) && !expired(ends.Add(inviteKept), now)
		return !open
	})
	return err == nil && (open || n.openInLedger(now))
}

// waitsForVotes: the box that used the invitation has been no member yet.
func (n *Node) waitsForVotes(i openInvite) bool {
	if !i.Role.Orders() || len(i.Device) != 32 {
		return false
	}
	_, known, err := n.store.Member(record.DeviceID(i.Device))
	return err == nil && !known
}

// handleJoin answers a box that knocks with an invitation. The device is the one
// that the connection proved.
func (n *Node) handleJoin(ctx context.Context, device record.DeviceID, request []byte) ([]byte, error) {
	refuse := func(why string) ([]byte, error) { return record.Marshal(joinResponse{Reason: why}) }
	var q joinRequest
	if err := record.Unmarshal(request, &q); err != nil || len(q.Token) != invitationTokenLen {
		return refuse("the request cannot be read")
	}
	n.joinMu.Lock()
	defer n.joinMu.Unlock()
	key := inviteKey(q.Token)
	inv, known, err := n.invitation(key)
	if err == nil && !known {
		inv, known, err = n.clinicInvite(q.Token)
	}
	if err != nil {
		return nil, fmt.Errorf("reading an invitation: %w", err)
	}
	if !known {
		return refuse("this invitation is not known here: ask for a new one")
	}
	if why := n.whyNot(inv, device, q); why != "" {
		return refuse(why)
	}
	inv.Device = device[:]
	used, err := record.Marshal(inv)
	if err != nil {
		return nil, err
	}
	if err := n.store.PutRows(ctx, []store.Row{{Key: key, Value: used}}); err != nil {
		return nil, err
	}
	add := record.MemberAdd{Device: device[:], Encryption: q.Encryption, Role: q.Role, Name: q.Name, Addresses: orEmpty(q.Addresses)}
	if n.isAdmitted(device, add) { // it is back because the answer was lost
		return n.welcome(q)
	}
	missing, err := n.admit(ctx, add)
	if err != nil {
		n.log.Warn().Err(err).Str("device", device.Short()).Msg("admitting a box")
		return refuse("the hub could not write the admission into the ledger: try again")
	}
	if missing > 0 {
		return record.Marshal(joinWaits{Missing: uint64(missing)})
	}
	return n.welcome(q)
}

// admit makes a device a member, or votes for it where it is to be a hub: missing
// is how many more hubs have to. A vote that is open already is not given again.
func (n *Node) admit(ctx context.Context, add record.MemberAdd) (missing int, err error) {
	body, err := record.Marshal(add)
	if err != nil {
		return 0, err
	}
	set, err := n.HubSet()
	if err != nil {
		return 0, err
	}
	for i := range set.Proposals {
		if p := &set.Proposals[i]; p.Voted && p.kind == record.KindMemberAdd && bytes.Equal(p.body, body) {
			return p.Missing(), nil
		}
	}
	v, err := n.propose(ctx, add)
	if err != nil || v.Passed {
		return 0, err
	}
	return v.Proposal.Missing(), nil
}

// whyNot is why an invitation does not admit a device, in words; empty when it does.
func (n *Node) whyNot(inv openInvite, device record.DeviceID, q joinRequest) string {
	again := len(inv.Device) == 32 && record.DeviceID(inv.Device) == device
	switch {
	case len(inv.Device) != 0 && !again:
		return "this invitation was used already: ask for a new one"
	case !again && expired(time.Unix(inv.Expires, 0), n.inviteTime()):
		return "this invitation has expired: ask for a new one"
	case n.wasRevoked(device):
		return "this box's membership was ended: make a new box with 'healthpost init' in an empty folder"
	case !plainName(q.Name, boxNameMax):
		return "this box's name cannot be shown: make a new box with another name"
	case inv.Role != q.Role:
		return fmt.Sprintf("this invitation is for a box of role %s", inv.Role)
	}
	return ""
}

func (n *Node) invitation(key []byte) (inv openInvite, known bool, err error) {
	raw, err := n.store.GetRow(key)
	if errors.Is(err, store.ErrNotFound) {
		return inv, false, nil
	}
	if err == nil {
		err = record.Unmarshal(raw, &inv)
	}
	return inv, err == nil, err
}

// isAdmitted reports whether the ledger has this membership, word for word.
func (n *Node) isAdmitted(d record.DeviceID, a record.MemberAdd) bool {
	m, ok, err := n.store.Member(d)
	return err == nil && ok && m.Active() && m.Role == a.Role && m.Name == a.Name && bytes.Equal(m.Encryption[:], a.Encryption) &&
		slices.Equal(m.Addresses, a.Addresses)
}

// wasRevoked: a device whose membership ended never comes back under its old key.
func (n *Node) wasRevoked(d record.DeviceID) bool {
	m, ok, err := n.store.Member(d)
	return err == nil && ok && !m.Active()
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// welcome is what a new member needs: the hub set and its keys. They are the reading
// keys, or for a field device the one box that keepFieldKeys opens.
func (n *Node) welcome(q joinRequest) ([]byte, error) {
	_, name, _ := n.store.Region()
	resp := joinResponse{Name: name, Seed: hubSeed{Size: n.store.Head().Size, Hubs: []seedHub{}, Generation: n.ledgerID().Generation}, Keys: [][]byte{}}
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Active() && m.Role.Orders() {
			resp.Seed.Hubs = append(resp.Seed.Hubs, seedHub{Device: m.Device[:], Addresses: orEmpty(m.Addresses)})
		} else if m.Active() && len(resp.Seed.Members) < seedMembersMax {
			resp.Seed.Members = append(resp.Seed.Members, m.Device[:])
		}
	}
	pub, err := ecdh.X25519().NewPublicKey(q.Encryption)
	if err != nil {
		return nil, fmt.Errorf("reading the new box's key: %w", err)
	}
	if resp.Keys, err = n.keysFor(q.Role, pub); err != nil {
		return nil, err
	}
	return record.Marshal(resp)
}

func (n *Node) keysFor(role record.Role, pub *ecdh.PublicKey) ([][]byte, error) {
	if role == record.RoleField {
		one, err := n.sealFieldKeys(pub)
		return [][]byte{one}, err
	}
	current, ok := n.keys.CurrentReading()
	if !ok {
		return nil, seal.ErrNoKey
	}
	var boxes [][]byte
	for _, k := range n.readingKeys(current) {
		box, err := seal.SealTo(pub, []byte(joinInfo), k[:])
		if err != nil {
			return nil, err
		}
		boxes = append(boxes, box)
	}
	return boxes, nil
}

// readingKeys lists the region's reading keys, the current one first.
func (n *Node) readingKeys(current seal.Key) []seal.Key {
	keys := []seal.Key{current}
	for id, k := range n.keys.Reading {
		if id != n.keys.Current {
			keys = append(keys, k)
		}
	}
	return keys
}

// Join makes this stopped box a member of the region that the invitation names:
// it knocks at the hub, proves the secret, and keeps the hub set and keys it is
// given. A box that is to be a hub may have to wait for other hubs to approve:
// waiting, which may be nil, is told how many, whenever that changes, and Join asks again until they
// did or ctx ends. The same invitation goes on later. A box that orders nothing may join
// its region again, to learn of hubs that it never met; it keeps all that it holds.
func Join(ctx context.Context, o Options, text string, waiting func(missing int)) (regionName string, err error) {
	inv, err := parseInvitation(text)
	if err != nil {
		return "", err
	}
	n, err := Open(o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if id, ok := n.box.RegionID(); ok && (id != record.RegionID(inv.Region) || n.box.Role.Orders()) {
		return "", fmt.Errorf("joining: this box belongs to region %s already", id)
	}
	if n.box.Role != inv.Role {
		return "", fmt.Errorf("joining: the invitation is for a %s, this box is a %s", inv.Role, n.box.Role)
	}
	q, err := record.Marshal(joinRequest{Token: inv.Token, Encryption: n.keys.ExchangeKey().PublicKey().Bytes(), Role: n.box.Role, Name: n.box.Name, Addresses: orEmpty(n.announced())})
	if err != nil {
		return "", err
	}
	raw, err := n.knock(ctx, inv, q, waiting)
	if err != nil {
		return "", fmt.Errorf("joining: %w", err)
	}
	return n.accept(ctx, inv, raw)
}

// knock asks until the answer is another than to wait.
func (n *Node) knock(ctx context.Context, inv invitation, request []byte, waiting func(missing int)) ([]byte, error) {
	told := 0
	for pause := askAgainMin; ; pause = min(2*pause, askAgainMax) {
		one, cancel := context.WithTimeout(ctx, 2*joinTimeout)
		raw, err := peersync.RequestJoin(one, n.keys.Signer(), record.DeviceID(inv.Hub), inv.Addresses, request)
		cancel()
		var w joinWaits
		switch {
		case err != nil && told == 0:
			return nil, err
		case err == nil && record.Unmarshal(raw, &w) != nil:
			return raw, nil
		case err == nil && told != int(min(w.Missing, hubVotesMax)):
			told = int(min(w.Missing, hubVotesMax))
			if waiting != nil {
				waiting(told)
			}
		}
		select { // a hub that is away for a while is asked again as well
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%d more hubs have to approve this box: run 'healthpost region hubs approve' there, then join again with the same invitation: %w", told, ctx.Err())
		}
	}
}

const (
	askAgainMin = 250 * time.Millisecond
	askAgainMax = 15 * time.Second // a person approves meanwhile
	hubVotesMax = 64
)

func (n *Node) accept(ctx context.Context, inv invitation, raw []byte) (string, error) {
	var resp joinResponse
	if err := record.Unmarshal(raw, &resp); err != nil {
		return "", fmt.Errorf("joining: reading the answer: %w", err)
	}
	if resp.Reason != "" {
		return "", fmt.Errorf("joining: the hub refused: %s", resp.Reason)
	}
	if len(resp.Keys) == 0 || len(resp.Seed.Hubs) == 0 {
		return "", fmt.Errorf("joining: the answer is incomplete")
	}
	if err := n.keepKeys(ctx, resp.Keys); err != nil {
		return "", fmt.Errorf("joining: keeping the region's keys: %w", err)
	}
	for _, h := range resp.Seed.Hubs {
		if len(h.Device) != 32 {
			return "", fmt.Errorf("joining: a hub in the answer has no key")
		}
	}
	seed, err := record.Marshal(resp.Seed)
	if err != nil {
		return "", err
	}
	if err := n.store.PutRows(ctx, []store.Row{{Key: hubSeedKey, Value: seed}}); err != nil {
		return "", err
	}
	return resp.Name, n.box.belongTo(record.RegionID(inv.Region))
}

// keepKeys opens and keeps what keysFor gave.
func (n *Node) keepKeys(ctx context.Context, boxes [][]byte) error {
	if n.box.Role == record.RoleField {
		return n.keepFieldKeys(ctx, boxes[0])
	}
	for i := len(boxes) - 1; i >= 0; i-- { // the current key last, so that it stays current
		plain, err := seal.OpenWith(n.keys.ExchangeKey(), []byte(joinInfo), boxes[i])
		if err != nil || len(plain) != len(seal.Key{}) {
			return errors.Join(seal.ErrDamaged, err)
		}
		if err := n.keepReadingKey(seal.Key(plain)); err != nil {
			return err
		}
	}
	return nil
}
