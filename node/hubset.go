package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/record"
)

// Which boxes order the ledger, and who may reset it, is decided by more than
// half of the hubs (package record counts). Each hub's word is a record of its
// own; a person gives it at that hub.

// What a proposal would do.
const (
	actionAdd      = "add"      // a box becomes a hub
	actionChange   = "change"   // a hub changes its role or keys
	actionExpel    = "expel"    // a hub's membership ends
	actionRecovery = "recovery" // recovery keys are named
	actionRules    = "rules"    // what is allowed in the region changes
	actionEscrow   = "escrow"   // sheets are named that recover charts
	actionInviter  = "inviter"  // a clinic may invite field devices, or may no more
)

// HubSet is who orders the ledger, and what hubs have proposed about that.
type HubSet struct {
	Hubs      []HubInfo      `json:"hubs"`
	Needed    int            `json:"needed"` // votes that a change takes now
	Proposals []ProposalInfo `json:"proposals"`
}

// HubInfo is one hub.
type HubInfo struct {
	Device   string `json:"device"`
	Name     string `json:"name"`
	SinceSeq uint64 `json:"since"`
	Self     bool   `json:"self,omitempty"`
}

// ProposalInfo is a proposal that has too few votes so far.
type ProposalInfo struct {
	ID      string    `json:"id"`
	Action  string    `json:"action"`           // add, change, expel, recovery, rules, escrow, inviter
	Device  string    `json:"device,omitempty"` // whom it is about
	Name    string    `json:"name,omitempty"`
	Reason  string    `json:"reason,omitempty"` // of who proposed to expel
	Keys    int       `json:"keys,omitempty"`   // recovery keys, or sheets of an escrow, of which so many are needed:
	KeysMin int       `json:"keysNeeded,omitempty"`
	Rules   string    `json:"rules,omitempty"`  // the first 16 digits of the SHA-256 of their text
	Escrow  string    `json:"escrow,omitempty"` // id of its key
	May     bool      `json:"may,omitempty"`    // of inviter
	Votes   []string  `json:"votes"`            // names of the hubs that voted for it
	Voted   bool      `json:"voted"`            // this box did
	Needed  int       `json:"needed"`
	Lapses  time.Time `json:"lapses"` // in ledger time, when the newest vote counts no more

	kind    record.Kind
	body    []byte
	subject record.DeviceID
}

// Missing is how many votes it lacks.
func (p *ProposalInfo) Missing() int { return max(p.Needed-len(p.Votes), 0) }

// Words say what it would do.
func (p *ProposalInfo) Words() string {
	switch p.Action {
	case actionAdd:
		return fmt.Sprintf("make %q (%s) a hub", p.Name, p.Device[:12])
	case actionChange:
		return fmt.Sprintf("change hub %q (%s)", p.Name, p.Device[:12])
	case actionExpel:
		return fmt.Sprintf("expel hub %q (%s)", p.Name, p.Device[:12])
	case actionRules:
		return fmt.Sprintf("put the rules %s into force", p.Rules)
	case actionEscrow:
		return fmt.Sprintf("let %d of %d sheets of key %s recover charts", p.KeysMin, p.Keys, p.Escrow)
	case actionInviter:
		if p.May {
			return fmt.Sprintf("let %q (%s) invite field devices", p.Name, p.Device[:12])
		}
		return fmt.Sprintf("let %q (%s) invite nobody", p.Name, p.Device[:12])
	}
	return fmt.Sprintf("let %d of %d recovery sheets reset the region", p.KeysMin, p.Keys)
}

// Voted is what became of a proposal after this hub's vote.
type Voted struct {
	Passed   bool          `json:"passed"`
	Words    string        `json:"what"`
	Proposal *ProposalInfo `json:"proposal,omitempty"` // while it waits for more
}

// HubSet lists hubs and open proposals as this box's ledger has them.
func (n *Node) HubSet() (HubSet, error) {
	set := HubSet{Hubs: []HubInfo{}, Proposals: []ProposalInfo{}}
	hubs := n.store.Hubs()
	set.Needed = record.Needed(len(hubs))
	for _, d := range hubs {
		m, ok, err := n.store.Member(d)
		if err != nil || !ok {
			return set, errors.Join(err, fmt.Errorf("hub %s is no member", d.Short()))
		}
		set.Hubs = append(set.Hubs, HubInfo{Device: d.String(), Name: m.Name, SinceSeq: m.SinceSeq, Self: d == n.author.Device})
	}
	now := n.store.State().LastTime()
	var bad error
	err := n.store.ScanRegistry(record.ProposalPrefix(), func(key, value []byte) bool {
		p, err := record.DecodeProposal(value)
		if err == nil {
			err = n.addProposal(&set, key, &p, hubs, now)
		}
		bad = err
		return err == nil
	})
	slices.SortFunc(set.Proposals, func(a, b ProposalInfo) int { return cmp.Compare(a.ID, b.ID) })
	return set, errors.Join(err, bad)
}

// addProposal lists a proposal for which some vote counts still.
func (n *Node) addProposal(set *HubSet, key []byte, p *record.Proposal, hubs []record.DeviceID, now int64) error {
	votes := p.Counting(hubs, now)
	if len(votes) == 0 {
		return nil
	}
	x := ProposalInfo{ID: hex.EncodeToString(key[len(record.ProposalPrefix()):])[:12], Votes: []string{}, Needed: set.Needed, kind: p.Kind, body: p.Body}
	for _, d := range votes {
		x.Votes = append(x.Votes, n.deviceName(d))
		x.Voted = x.Voted || d == n.author.Device
	}
	for _, v := range p.Votes {
		if lapses := time.Unix(v.Time+record.VoteSeconds, 0).UTC(); slices.Contains(votes, v.Hub) && lapses.After(x.Lapses) {
			x.Lapses = lapses
		}
	}
	if d, ok := p.Device(); ok {
		x.subject, x.Device, x.Name = d, d.String(), n.deviceName(d)
	}
	switch p.Kind {
	case record.KindMemberAdd:
		m, err := record.DecodeMemberAdd(p.Body)
		if err != nil {
			return err
		}
		x.Action, x.Name = actionAdd, m.Name
		if slices.Contains(hubs, x.subject) {
			x.Action = actionChange
		}
	case record.KindMemberRevoke:
		m, err := record.DecodeMemberRevoke(p.Body)
		if err != nil {
			return err
		}
		x.Action, x.Reason = actionExpel, m.Reason
	case record.KindRecovery:
		r, err := record.DecodeRecovery(p.Body)
		if err != nil {
			return err
		}
		x.Action, x.Keys, x.KeysMin = actionRecovery, len(r.Keys), int(r.Needed)
	case record.KindRules:
		x.Action, x.Rules = actionRules, rulesName(p.Body)
	case record.KindEscrow:
		e, err := record.DecodeEscrow(p.Body)
		if err != nil {
			return err
		}
		x.Action, x.Escrow, x.Keys, x.KeysMin = actionEscrow, escrowID(e.Public), int(e.Of), int(e.Need)
	case record.KindInviter:
		i, err := record.DecodeInviter(p.Body)
		if err != nil {
			return err
		}
		d := record.DeviceID(i.Device)
		x.Action, x.May, x.Device, x.Name = actionInviter, i.May, d.String(), n.deviceName(d)
	}
	set.Proposals = append(set.Proposals, x)
	return nil
}

// Approve votes for an open proposal, named by its id or by the name or device of
// the box that it is about.
func (n *Node) Approve(ctx context.Context, text string) (Voted, error) {
	if err := n.mayVote("approving"); err != nil {
		return Voted{}, err
	}
	set, err := n.HubSet()
	if err != nil {
		return Voted{}, err
	}
	var found []ProposalInfo
	for _, p := range set.Proposals {
		if p.ID == text || p.Device != "" && (p.Device == text || p.Device[:12] == text || strings.EqualFold(p.Name, text)) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 0:
		return Voted{}, fmt.Errorf("approving: no open proposal %q here: 'healthpost region hubs' lists them; one that was made just now comes with the next exchange", text)
	case len(found) > 1:
		return Voted{}, fmt.Errorf("approving: %d open proposals are about %q: name one by the 12 digits that 'healthpost region hubs' shows before it", len(found), text)
	case found[0].Voted:
		return Voted{}, fmt.Errorf("approving: this hub has voted to %s already: %d more hubs have to", found[0].Words(), found[0].Missing())
	}
	return n.vote(ctx, &found[0])
}

// Expel votes to end a hub's membership.
func (n *Node) Expel(ctx context.Context, text, reason string) (Voted, error) {
	if err := n.mayVote("expelling"); err != nil {
		return Voted{}, err
	}
	m, err := n.findMember(text)
	switch {
	case err != nil:
		return Voted{}, fmt.Errorf("expelling: %w", err)
	case !m.Active() || !m.Role.Orders():
		return Voted{}, fmt.Errorf("expelling %q: it is no hub of this region", m.Name)
	}
	return n.endMembership(ctx, &m, reason)
}

func (n *Node) mayVote(doing string) error {
	switch {
	case !n.isRunning():
		return ErrNotRunning
	case slices.Contains(n.store.Hubs(), n.author.Device):
		return nil
	case n.box.Role.Orders():
		return fmt.Errorf("%s: this hub does not hold the entry that makes it one: when it was admitted just now, wait until 'healthpost status' shows a peer in reach; 'healthpost region hubs' tells", doing)
	default:
		return fmt.Errorf("%s: only a hub can; run this on a hub", doing)
	}
}

// vote writes this hub's word and tells what became of it.
func (n *Node) vote(ctx context.Context, p *ProposalInfo) (Voted, error) {
	r, err := n.appendControl(ctx, p.kind, p.body)
	if err != nil {
		return Voted{}, err
	}
	if err := n.waitOrdered(ctx, r.RID()); err != nil {
		return Voted{}, err
	}
	set, err := n.HubSet()
	if err != nil {
		return Voted{}, err
	}
	for i := range set.Proposals {
		if x := &set.Proposals[i]; x.kind == p.kind && x.subject == p.subject && (p.kind == record.KindMemberRevoke || bytes.Equal(x.body, p.body)) {
			return Voted{Words: x.Words(), Proposal: x}, nil
		}
	}
	return Voted{Passed: true, Words: p.Words()}, nil
}

// propose votes for a member as it is to be.
func (n *Node) propose(ctx context.Context, add record.MemberAdd) (Voted, error) {
	body, err := record.Marshal(add)
	if err != nil {
		return Voted{}, err
	}
	if _, err := record.DecodeMemberAdd(body); err != nil {
		return Voted{}, err
	}
	d := record.DeviceID(add.Device)
	return n.vote(ctx, &ProposalInfo{Action: actionAdd, Device: d.String(), Name: add.Name, kind: record.KindMemberAdd, body: body, subject: d})
}

// Revoke ends a membership, at once or, of a hub, by this hub's vote. It returns
// when the record of it has a place in the ledger. A record that the rules refuse
// would stop the lane that it stands in, so they are asked first.
func (n *Node) Revoke(ctx context.Context, text, reason string) (Voted, error) {
	if !n.isRunning() {
		return Voted{}, ErrNotRunning
	}
	m, err := n.findMember(text)
	switch {
	case err != nil:
		return Voted{}, fmt.Errorf("revoking: %w", err)
	case !m.Active():
		return Voted{}, fmt.Errorf("revoking %s: not an active member", m.Device.Short())
	case !slices.Contains(n.store.Hubs(), n.author.Device):
		return Voted{}, fmt.Errorf("revoking %s: only a hub can; run this on a hub", m.Device.Short())
	}
	return n.endMembership(ctx, &m, reason)
}

func (n *Node) endMembership(ctx context.Context, m *record.Member, reason string) (Voted, error) {
	if len(reason) > revokeReasonMax {
		return Voted{}, fmt.Errorf("revoking %q: a reason has at most %d bytes", m.Name, revokeReasonMax)
	}
	if m.Role.Orders() && len(n.store.Hubs()) == 1 {
		return Voted{}, fmt.Errorf("revoking %q: it is this hub itself and the last one: without it nothing is ordered; add another hub first", m.Name)
	}
	body, err := record.Marshal(record.MemberRevoke{Device: m.Device[:], Reason: reason})
	if err != nil {
		return Voted{}, err
	}
	if _, err := record.DecodeMemberRevoke(body); err != nil {
		return Voted{}, err
	}
	p := &ProposalInfo{Action: actionExpel, Device: m.Device.String(), Name: m.Name, kind: record.KindMemberRevoke, body: body, subject: m.Device}
	v, err := n.vote(ctx, p)
	if err == nil && !m.Role.Orders() {
		v.Words = fmt.Sprintf("end the membership of %q (%s)", m.Name, m.Device.Short())
	}
	return v, err
}

const revokeReasonMax = 500

// findMember finds a member by its device in full, by the first 12 digits of it,
// or by name. An active one goes before those that are not.
func (n *Node) findMember(text string) (record.Member, error) {
	members, err := n.store.Members()
	if err != nil {
		return record.Member{}, err
	}
	var found []record.Member
	for _, m := range members {
		if id := m.Device.String(); strings.EqualFold(id, text) || strings.EqualFold(id[:12], text) || strings.EqualFold(m.Name, text) {
			found = append(found, m)
		}
	}
	if active := slices.DeleteFunc(slices.Clone(found), func(m record.Member) bool { return !m.Active() }); len(active) > 0 {
		found = active
	}
	switch len(found) {
	case 0:
		return record.Member{}, fmt.Errorf("no member %q: 'healthpost region members' lists them", text)
	case 1:
		return found[0], nil
	}
	return record.Member{}, fmt.Errorf("%d members are called %q: name one by the 12 digits that 'healthpost region members' shows", len(found), text)
}

func (n *Node) hubRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /hubs", func(*http.Request) (any, error) { return n.HubSet() })
	n.recoveryRoutes(reply)
	reply("POST /hubs/approve", func(r *http.Request) (any, error) { return n.Approve(r.Context(), r.URL.Query().Get("what")) })
	reply("POST /hubs/expel", func(r *http.Request) (any, error) {
		return n.Expel(r.Context(), r.URL.Query().Get("what"), r.URL.Query().Get("reason"))
	})
	reply("POST /revoke", func(r *http.Request) (any, error) {
		return n.Revoke(r.Context(), r.URL.Query().Get("what"), r.URL.Query().Get("reason"))
	})
}

// HubSet, Approve, Expel and Revoke do on the box what the methods of the same
// name on Node say.
func (c *Client) HubSet(ctx context.Context) (s HubSet, err error) {
	return s, c.call(ctx, http.MethodGet, "/hubs", nil, &s)
}

func (c *Client) Approve(ctx context.Context, what string) (v Voted, err error) {
	return v, c.call(ctx, http.MethodPost, "/hubs/approve?"+url.Values{"what": {what}}.Encode(), nil, &v)
}

func (c *Client) Expel(ctx context.Context, what, reason string) (v Voted, err error) {
	return v, c.call(ctx, http.MethodPost, "/hubs/expel?"+url.Values{"what": {what}, "reason": {reason}}.Encode(), nil, &v)
}

func (c *Client) Revoke(ctx context.Context, what, reason string) (v Voted, err error) {
	return v, c.call(ctx, http.MethodPost, "/revoke?"+url.Values{"what": {what}, "reason": {reason}}.Encode(), nil, &v)
}
