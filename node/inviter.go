package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// A clinic may invite field devices when most hubs gave it authority. Its invitations are records, so
// the hub that one names knows it when the device knocks: by the hash of its secret, and as long as
// ledger time allows. It is that hub that lets the device in, once.

// SetInviter votes to give a clinic authority to invite field devices, or to take it back.
func (n *Node) SetInviter(ctx context.Context, what string, may bool) (Voted, error) {
	if err := n.mayVote("voting for who may invite"); err != nil {
		return Voted{}, err
	}
	m, err := n.findMember(what)
	if err != nil {
		return Voted{}, fmt.Errorf("voting for who may invite: %w", err)
	}
	if may && (!m.Active() || m.Role != record.RoleClinic) {
		return Voted{}, fmt.Errorf("voting for who may invite: %q is no clinic of this region", m.Name)
	}
	now, err := record.IsInviter(n.store.State(), m.Device)
	if err != nil {
		return Voted{}, err
	}
	if now == may {
		return Voted{}, fmt.Errorf("voting for who may invite: that is so already of %q", m.Name)
	}
	body, err := record.Marshal(record.Inviter{V: 1, Device: m.Device[:], May: may})
	if err != nil {
		return Voted{}, err
	}
	p := &ProposalInfo{Action: actionInviter, Device: m.Device.String(), Name: m.Name, May: may, kind: record.KindInviter, body: body}
	return n.vote(ctx, p)
}

// inviteByRecord makes an invitation at a clinic with authority. It works from when the hub that it names has its
// record; this waits for that as long as a person would.
func (n *Node) inviteByRecord(ctx context.Context, region record.RegionID, role record.Role) (Invited, error) {
	may, err := record.IsInviter(n.store.State(), n.author.Device)
	switch {
	case err != nil:
		return Invited{}, err
	case !may:
		return Invited{}, errors.New("inviting: only a hub can admit a box, and clinics that the hubs gave authority: 'healthpost region inviter' on a hub")
	case role != record.RoleField:
		return Invited{}, fmt.Errorf("inviting: this clinic may invite field devices, not a %s: run this on a hub", role)
	}
	hub, err := n.hubToJoin()
	if err != nil {
		return Invited{}, err
	}
	token := make([]byte, invitationTokenLen)
	if _, err := rand.Read(token); err != nil {
		return Invited{}, err
	}
	body, err := record.Marshal(record.Invite{V: 1, Hash: inviteHash(token), Hub: hub.Device[:], Role: role})
	if err != nil {
		return Invited{}, err
	}
	r, err := n.appendControl(ctx, record.KindInvite, body)
	if err != nil {
		return Invited{}, err
	}
	out := Invited{Role: role, Expires: n.inviteTime().Add(record.InviteSeconds * time.Second), Hub: n.deviceName(hub.Device)}
	if out.Text, err = encodeInvitation(invitation{V: 1, Region: region[:], Hub: hub.Device[:], Addresses: hub.Addresses, Role: role, Token: token}); err != nil {
		return Invited{}, err
	}
	soon, cancel := context.WithTimeout(ctx, inviteWait)
	defer cancel()
	if err := n.waitOrdered(soon, r.RID()); err != nil {
		out.Waits = true // the record is saved, and goes out with the next exchange
		return out, ctx.Err()
	}
	open, by, err := n.ledgerInvite(inviteHash(token))
	if err == nil && (open == nil || by != n.author.Device) {
		err = errors.New("inviting: as many invitations of this clinic are open as may be: wait until some end")
	}
	return out, err
}

// hubToJoin is a hub with the addresses by which this box reaches it: one that is linked now, where there is one.
func (n *Node) hubToJoin() (peersync.Address, error) {
	r := n.up.Load()
	if r == nil {
		return peersync.Address{}, ErrNotRunning
	}
	hubs := r.links.hubs()
	if len(hubs) == 0 {
		return peersync.Address{}, errors.New("inviting: this box knows no hub that can be reached")
	}
	live := r.links.live.Load()
	if live == nil {
		return hubs[0], nil
	}
	linked := live.Peers()
	i := slices.IndexFunc(hubs, func(h peersync.Address) bool {
		return slices.ContainsFunc(linked, func(p peersync.PeerStatus) bool { return p.Device == h.Device && p.Connected })
	})
	return hubs[max(i, 0)], nil
}

// ledgerInvite finds the invitation with a hash, and who made it.
func (n *Node) ledgerInvite(hash []byte) (found *record.OpenInvite, by record.DeviceID, err error) {
	err = n.eachLedgerInvite(func(d record.DeviceID, i *record.OpenInvite) bool {
		if bytes.Equal(i.Hash, hash) {
			found, by = i, d
		}
		return found == nil
	})
	return found, by, err
}

// eachLedgerInvite goes through those in the ledger until f says no.
func (n *Node) eachLedgerInvite(f func(by record.DeviceID, i *record.OpenInvite) bool) error {
	var bad error
	err := n.store.ScanRegistry(record.OpenInvitesPrefix(), func(key, value []byte) bool {
		by, list, err := record.ReadOpenInvites(key, value)
		if bad = err; err != nil {
			return false
		}
		for i := range list {
			if !f(by, &list[i]) {
				return false
			}
		}
		return true
	})
	return errors.Join(err, bad)
}

// clinicInvite is an invitation that a clinic made for this hub, as this hub keeps its own: known false where there
// is none, or who made it may invite no more.
func (n *Node) clinicInvite(token []byte) (inv openInvite, known bool, err error) {
	i, by, err := n.ledgerInvite(inviteHash(token))
	if err != nil || i == nil {
		return inv, false, err
	}
	ok, err := n.mayStillInvite(by, i)
	return openInvite{Role: i.Role, Expires: i.Expires}, ok, err
}

// mayStillInvite reports whether an invitation is one for this hub, by a member with authority.
func (n *Node) mayStillInvite(by record.DeviceID, i *record.OpenInvite) (bool, error) {
	if !bytes.Equal(i.Hub, n.author.Device[:]) {
		return false, nil
	}
	m, ok, err := n.store.Member(by)
	if err != nil || !ok || !m.Active() {
		return false, err
	}
	return record.IsInviter(n.store.State(), by)
}

// openInLedger reports whether somebody may knock here with an invitation of a clinic.
func (n *Node) openInLedger(now time.Time) bool {
	open := false
	err := n.eachLedgerInvite(func(by record.DeviceID, i *record.OpenInvite) bool {
		if expired(time.Unix(i.Expires, 0), now) {
			return true
		}
		ok, err := n.mayStillInvite(by, i)
		if err != nil || !ok {
			return true
		}
		_, used, err := n.invitation(inviteRow(i.Hash))
		open = err == nil && !used
		return !open
	})
	return err == nil && open
}

func (n *Node) inviterRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("POST /inviter", func(r *http.Request) (any, error) {
		return n.SetInviter(r.Context(), r.URL.Query().Get("what"), r.URL.Query().Get("end") == "")
	})
}

// SetInviter does on the box what the method of the same name on Node says.
func (c *Client) SetInviter(ctx context.Context, what string, may bool) (v Voted, err error) {
	q := url.Values{"what": {what}}
	if !may {
		q.Set("end", "1")
	}
	return v, c.call(ctx, http.MethodPost, "/inviter?"+q.Encode(), nil, &v)
}
