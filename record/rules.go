package record

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"slices"
)

var errNotAllowed = errors.New("not allowed")

// allowed applies the rules of the kind and gathers in c what the record changes.
func (c *change) allowed(r *Record, author DeviceID) (Verdict, error) {
	if r.Core.Kind.Sealed() {
		if r.Core.BodyLen == 0 {
			return NotAllowed, nil
		}
		return Ordered, nil
	}
	var err error
	switch r.Core.Kind {
	case KindRegionFound:
		err = c.found(r)
	case KindMemberAdd:
		err = c.addMember(r, author)
	case KindMemberRevoke:
		err = c.revokeMember(r, author)
	case KindSessionOpen:
		err = checkSession(r, author)
	case KindAttest:
		_, err = DecodeAttest(r.Body)
	case KindEvidence:
		err = c.freeze(r)
	case KindRecovery:
		err = c.setRecovery(r, author)
	case KindReset:
		err = c.reset(r)
	case KindAssign:
		err = c.assign(r, author)
	case KindDictionary:
		err = c.addDictionary(r, author)
	case KindRules:
		err = c.setRules(r, author)
	case KindErase:
		err = c.erase(r, author)
	case KindErased:
		err = c.erased(r, author)
	case KindEscrow:
		err = c.setEscrow(r, author)
	case KindEscrowUse:
		err = c.useEscrow(r, author)
	case KindInviter:
		err = c.setInviter(r, author)
	case KindInvite:
		err = c.invite(r, author)
	}
	if errors.Is(err, ErrState) {
		return 0, err
	}
	if errors.Is(err, ErrMalformed) || errors.Is(err, errNotAllowed) {
		return NotAllowed, nil
	}
	return Ordered, err
}

func (c *change) found(r *Record) error {
	if c.o.size != 1 {
		return errNotAllowed
	}
	f, err := DecodeRegionFound(r.Body)
	if err != nil {
		return err
	}
	c.put([]byte{registryRegion}, bytes.Clone(r.rid[:]))
	return c.set(c.memberOf(&f.Founder))
}

// memberOf is a member as it begins here.
func (c *change) memberOf(b *MemberAdd) Member {
	return Member{Device: DeviceID(b.Device), Encryption: [32]byte(b.Encryption), Role: b.Role, Name: b.Name, Addresses: b.Addresses, SinceSeq: c.o.size}
}

// checkSession refuses a session that the staff key in it did not claim.
func checkSession(r *Record, author DeviceID) error {
	body, err := DecodeSessionOpen(r.Body)
	if err != nil {
		return err
	}
	if r.Core.Lane != LaneControl || !ed25519.Verify(body.Staff, SessionClaim(r.Position(), author), body.Claim) {
		return errNotAllowed
	}
	return nil
}

// mayAdmit gives the hubs, of which the author must be one.
func (c *change) mayAdmit(author DeviceID) ([]DeviceID, error) {
	hubs, err := c.hubs()
	if err == nil && !slices.Contains(hubs, author) {
		err = errNotAllowed
	}
	return hubs, err
}

// addMember admits a device, or changes role, name, keys and addresses of an
// active one. A revoked device stays out: a box that comes back joins with a new
// key. Where hubs are concerned it is a vote.
func (c *change) addMember(r *Record, author DeviceID) error {
	body, err := DecodeMemberAdd(r.Body)
	if err != nil {
		return err
	}
	hubs, err := c.mayAdmit(author)
	if err != nil {
		return err
	}
	m := c.memberOf(&body)
	old, known, err := c.member(m.Device)
	if err != nil {
		return err
	}
	if known {
		m.SinceSeq = old.SinceSeq
	}
	wasHub, back := slices.Contains(hubs, m.Device), known && !old.Active()
	switch {
	case !wasHub && !m.Role.Orders():
		if back {
			return errNotAllowed
		}
		if err := c.withdraw(author, m.Device[:], nil, hubs); err != nil {
			return err
		}
		return c.set(m)
	case m.Device == author && m.Role == old.Role && m.Encryption == old.Encryption:
		return c.set(m) // its own name and addresses
	case wasHub && !m.Role.Orders() && len(hubs) == 1, !wasHub && len(hubs) >= hubsMax:
		return errNotAllowed
	case back: // other hubs were quicker
		return nil
	case wasHub && sameMember(&m, &old): // quicker here too; or a hub takes back its vote to change this
		return c.withdraw(author, m.Device[:], nil, hubs)
	}
	passed, err := c.vote(author, KindMemberAdd, r.Body)
	if err != nil || !passed {
		return err
	}
	return c.set(m)
}

func sameMember(a, b *Member) bool {
	return a.Device == b.Device && a.Encryption == b.Encryption && a.Role == b.Role && a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses)
}

// revokeMember ends a membership; that of a hub by vote, in which the hub itself
// may take part. The last hub stays.
func (c *change) revokeMember(r *Record, author DeviceID) error {
	body, err := DecodeMemberRevoke(r.Body)
	if err != nil {
		return err
	}
	hubs, err := c.mayAdmit(author)
	if err != nil {
		return err
	}
	m, ok, err := c.member(DeviceID(body.Device))
	if err != nil {
		return err
	}
	if !ok {
		return errNotAllowed
	}
	if !m.Active() { // two hubs may act at once: refusing one would stop its lane
		return nil
	}
	if !slices.Contains(hubs, m.Device) {
		if err := c.dropAbout(m.Device[:]); err != nil {
			return err
		}
		m.RevokedSeq = c.o.size
		return c.set(m)
	}
	if len(hubs) == 1 {
		return errNotAllowed
	}
	passed, err := c.vote(author, KindMemberRevoke, r.Body)
	if err != nil || !passed {
		return err
	}
	m.RevokedSeq = c.o.size
	return c.set(m)
}

// freeze stops a feed whose author is shown to have signed two records for one
// of its places. Other evidence changes nothing here.
func (c *change) freeze(r *Record) error {
	if len(r.Body) > EvidenceBytesMax {
		return errNotAllowed
	}
	e, err := DecodeEvidence(r.Body)
	if err != nil || e.Kind != EvidenceEquivocation {
		return err
	}
	f, err := e.Verify(RegionID{}, nil)
	if err != nil {
		return errNotAllowed
	}
	epoch, ok, err := c.o.epoch(f.Feed.Epoch)
	if err != nil {
		return err
	}
	if !ok && !c.o.sparse || ok && epoch.Device != f.Culprits[0] {
		return errNotAllowed
	}
	key := frozenKey(f.Feed)
	if _, frozen, err := c.registry(key); err != nil || frozen {
		return err
	}
	id := e.ID()
	c.put(key, id[:])
	return nil
}

// setRecovery names the recovery keys, by vote.
func (c *change) setRecovery(r *Record, author DeviceID) error {
	if _, err := DecodeRecovery(r.Body); err != nil {
		return err
	}
	hubs, err := c.mayAdmit(author)
	if err != nil {
		return err
	}
	now, ok, err := c.registry([]byte{registryRecovery})
	if err != nil {
		return err
	}
	if ok && bytes.Equal(now, r.Body) {
		return c.withdraw(author, nil, nil, hubs)
	}
	passed, err := c.vote(author, KindRecovery, r.Body)
	if err != nil || !passed {
		return err
	}
	c.put([]byte{registryRecovery}, bytes.Clone(r.Body))
	return nil
}

// checkReset gives the reset when it is one of this ledger at this place.
func (c *change) checkReset(r *Record) (Reset, error) {
	body, err := DecodeReset(r.Body)
	if err != nil {
		return body, err
	}
	generation, err := GenerationOf(c.o)
	if err != nil {
		return body, errors.Join(ErrState, err)
	}
	region, ok, err := c.registry([]byte{registryRegion})
	if err != nil {
		return body, err
	}
	keys, known, err := RecoveryOf(c.o)
	if err != nil {
		return body, err
	}
	if !ok || !known || len(region) != len(RegionID{}) || body.Size != c.o.size || body.Generation != generation+1 || body.Verify(RegionID(region), keys) != nil {
		return body, errNotAllowed
	}
	return body, nil
}

// reset begins the next generation: the members that the recovery keys signed
// order from here on, a revoked one among them again, and no other box.
func (c *change) reset(r *Record) error {
	body, err := c.checkReset(r)
	if err != nil {
		return err
	}
	hubs, err := c.hubs()
	if err != nil {
		return err
	}
	for i := range body.Members {
		m := c.memberOf(&body.Members[i])
		old, known, err := c.member(m.Device)
		if err != nil {
			return err
		}
		if known && old.Active() {
			m.SinceSeq = old.SinceSeq
		}
		if err := c.set(m); err != nil {
			return err
		}
	}
	for _, d := range hubs {
		if body.lists(d[:], len(body.Members)) {
			continue
		}
		m, _, err := c.member(d)
		if err != nil {
			return err
		}
		m.RevokedSeq = c.o.size
		if err := c.set(m); err != nil {
			return err
		}
	}
	c.put([]byte{registryGeneration}, mustMarshal(generationRow{Generation: body.Generation}))
	return c.rewrite(func([]byte, *openProposal) bool { return false })
}
