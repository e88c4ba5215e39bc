package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// A record of a hub that says which boxes order, or who may reset, is a vote. It
// is ordered at once and takes effect when more than half of the hubs of that
// moment have voted for the same. A hub alone can therefore neither bring in keys
// of its own choosing nor put another hub out.

// VoteSeconds is how long a vote counts, in ledger time.
const VoteSeconds = 30 * 24 * 60 * 60

// votesOpenMax is how many proposals a hub may have an open vote for; an older one
// gives way.
const votesOpenMax = 8

// Needed is how many of so many hubs must vote for a proposal: more than half.
func Needed(hubs int) int { return hubs/2 + 1 }

// Vote is one hub's, with the ledger time of its entry in Unix seconds.
type Vote struct {
	Hub  DeviceID
	Time int64
}

// Proposal is what some hubs voted for and too few so far. Body is that of the
// record that opened it, of kind KindMemberAdd, KindMemberRevoke, KindRecovery, KindRules,
// KindEscrow or KindInviter.
type Proposal struct {
	Kind      Kind
	Body      []byte
	OpenedSeq uint64
	LastTime  int64
	Votes     []Vote // in the order of the ledger, one a hub
}

type proposalArray struct {
	_         struct{} `cbor:",toarray"`
	Kind      uint16
	Body      []byte
	OpenedSeq uint64
	LastTime  int64
	Votes     []voteArray
}

type voteArray struct {
	_    struct{} `cbor:",toarray"`
	Hub  []byte
	Time int64
}

// ProposalPrefix is how the registry keys of open proposals begin. Behind it
// stands the hash that makes two votes the same.
func ProposalPrefix() []byte { return []byte{registryProposal} }

func (p Proposal) encode() []byte {
	a := proposalArray{Kind: uint16(p.Kind), Body: p.Body, OpenedSeq: p.OpenedSeq, LastTime: p.LastTime}
	for i := range p.Votes {
		a.Votes = append(a.Votes, voteArray{Hub: p.Votes[i].Hub[:], Time: p.Votes[i].Time})
	}
	return mustMarshal(a)
}

// DecodeProposal reads the value of a registry row under ProposalPrefix.
func DecodeProposal(value []byte) (Proposal, error) {
	var a proposalArray
	if err := Unmarshal(value, &a); err != nil {
		return Proposal{}, fmt.Errorf("reading proposal: %w", err)
	}
	p := Proposal{Kind: Kind(a.Kind), Body: a.Body, OpenedSeq: a.OpenedSeq, LastTime: a.LastTime}
	for _, v := range a.Votes {
		if err := checkLen(v.Hub, 32, "hub"); err != nil {
			return Proposal{}, fmt.Errorf("reading proposal: %w", err)
		}
		p.Votes = append(p.Votes, Vote{DeviceID(v.Hub), v.Time})
	}
	_, err := p.subject()
	return p, err
}

// Counting gives the hubs whose vote counts at a ledger time: those that are hubs
// still and voted within VoteSeconds.
func (p Proposal) Counting(hubs []DeviceID, now int64) []DeviceID {
	var out []DeviceID
	for _, v := range p.Votes {
		if v.counts(hubs, now) {
			out = append(out, v.Hub)
		}
	}
	return out
}

func (v *Vote) counts(hubs []DeviceID, now int64) bool {
	return slices.Contains(hubs, v.Hub) && now-v.Time <= VoteSeconds
}

// Device is the member that the proposal is about; ok false when it is about the
// recovery keys, the rules, an escrow or who may invite.
func (p Proposal) Device() (d DeviceID, ok bool) {
	s, err := p.subject()
	if err != nil || len(s) != len(d) {
		return d, false
	}
	return DeviceID(s), true
}

// subject is what a hub has one vote about: a device, nothing for the recovery keys, a
// word for the rules and for the escrow, a device with a word for who may invite. The newest counts, so that a hub can change its mind.
func (p Proposal) subject() ([]byte, error) {
	switch p.Kind {
	case KindMemberAdd:
		m, err := DecodeMemberAdd(p.Body)
		return m.Device, err
	case KindMemberRevoke:
		m, err := DecodeMemberRevoke(p.Body)
		return m.Device, err
	case KindRecovery:
		return nil, nil
	case KindRules:
		return rulesSubject, CheckRulesText(p.Body)
	case KindEscrow:
		_, err := DecodeEscrow(p.Body)
		return escrowSubject, err
	case KindInviter:
		i, err := DecodeInviter(p.Body)
		return inviterSubject(i.Device), err
	}
	return nil, fmt.Errorf("reading proposal: %w: kind %d", ErrMalformed, p.Kind)
}

// key is the registry row of the proposal: equal for votes for the same.
func (p Proposal) key() ([]byte, error) {
	what := p.Body
	if p.Kind == KindMemberRevoke { // each hub may give its own reason
		var err error
		if what, err = p.subject(); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint16(nil, uint16(p.Kind)), what...))
	return append(ProposalPrefix(), sum[:]...), nil
}

// openProposals is the registry row that lists the keys of open proposals, oldest
// first: State reads one row at a time.
type openProposals struct {
	_    struct{} `cbor:",toarray"`
	Keys [][]byte
}

func (c *change) open() ([][]byte, error) {
	b, ok, err := c.registry([]byte{registryOpen})
	if err != nil || !ok {
		return nil, err
	}
	var row openProposals
	if err := Unmarshal(b, &row); err != nil {
		return nil, fmt.Errorf("reading open proposals: %w", errors.Join(ErrState, err))
	}
	return row.Keys, nil
}

// openProposal is a proposal with its row and what it is about.
type openProposal struct {
	Proposal
	about []byte
	row   []byte
}

// proposal reads a row, which the Orderer takes apart once.
func (c *change) proposal(key []byte) (openProposal, bool, error) {
	b, ok, err := c.registry(key)
	if err != nil || !ok {
		return openProposal{}, false, err
	}
	x, known := c.o.proposals[string(key)]
	if !known || !bytes.Equal(x.row, b) {
		p, err := DecodeProposal(b)
		if err != nil {
			return openProposal{}, false, errors.Join(ErrState, err)
		}
		about, err := p.subject()
		if err != nil {
			return openProposal{}, false, errors.Join(ErrState, err)
		}
		x = openProposal{p, about, b}
		c.o.proposals[string(key)] = x
	}
	x.Votes = slices.Clone(x.Votes)
	return x, true, nil
}

// rewrite passes each open proposal to f, which may take votes out of it and says
// whether it stays. One without votes never does.
func (c *change) rewrite(f func(key []byte, p *openProposal) (stays bool)) error {
	keys, err := c.open()
	if err != nil {
		return err
	}
	var left [][]byte
	for _, key := range keys {
		p, ok, err := c.proposal(key)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		votes := len(p.Votes)
		if !f(key, &p) || len(p.Votes) == 0 {
			delete(c.o.proposals, string(key))
			c.put(key, nil)
			continue
		}
		left = append(left, key)
		if len(p.Votes) != votes {
			c.put(key, p.encode())
		}
	}
	if len(left) != len(keys) {
		c.putOpen(left)
	}
	return nil
}

func (c *change) putOpen(keys [][]byte) {
	if len(keys) == 0 {
		c.put([]byte{registryOpen}, nil)
		return
	}
	c.put([]byte{registryOpen}, mustMarshal(openProposals{Keys: keys}))
}

// vote counts the author's record for what it proposes and tells whether that
// passed now. Votes that no longer count are dropped on the way, so that a box
// which is a hub again does not bring back what it once voted for.
func (c *change) vote(author DeviceID, kind Kind, body []byte) (passed bool, err error) {
	hubs, err := c.hubs()
	if err != nil {
		return false, err
	}
	mine := Proposal{Kind: kind, Body: body, OpenedSeq: c.o.size, LastTime: c.time}
	subject, err := mine.subject()
	if err != nil {
		return false, err
	}
	key, err := mine.key()
	if err != nil {
		return false, err
	}
	if err := c.withdraw(author, subject, key, hubs); err != nil {
		return false, err
	}
	old, known, err := c.proposal(key)
	if err != nil {
		return false, err
	}
	if known {
		mine.Body, mine.OpenedSeq, mine.Votes = old.Body, old.OpenedSeq, old.Votes
	}
	mine.drop(func(v Vote) bool { return v.Hub == author })
	mine.Votes = append(mine.Votes, Vote{author, c.time})
	if len(mine.Votes) >= Needed(len(hubs)) {
		return true, c.dropAbout(subject)
	}
	c.put(key, mine.encode())
	if known {
		return false, nil
	}
	keys, err := c.open()
	if err != nil {
		return false, err
	}
	c.putOpen(append(keys[:len(keys):len(keys)], key))
	return false, nil
}

// withdraw drops the votes that count no more, the author's for anything else
// about this subject, and its oldest ones past votesOpenMax.
func (c *change) withdraw(author DeviceID, subject, key []byte, hubs []DeviceID) error {
	others := 0 // of the author, about other subjects
	err := c.rewrite(func(at []byte, p *openProposal) bool {
		changedMind := bytes.Equal(p.about, subject) && !bytes.Equal(at, key)
		p.drop(func(v Vote) bool { return !v.counts(hubs, c.time) || changedMind && v.Hub == author })
		if !bytes.Equal(at, key) && p.has(author) {
			others++
		}
		return true
	})
	if err != nil || others < votesOpenMax {
		return err
	}
	return c.rewrite(func(at []byte, p *openProposal) bool {
		if others >= votesOpenMax && !bytes.Equal(at, key) && p.has(author) {
			p.drop(func(v Vote) bool { return v.Hub == author })
			others--
		}
		return true
	})
}

func (p *Proposal) has(d DeviceID) bool {
	return slices.ContainsFunc(p.Votes, func(v Vote) bool { return v.Hub == d })
}

func (p *Proposal) drop(which func(Vote) bool) { p.Votes = slices.DeleteFunc(p.Votes, which) }

// dropAbout ends every open proposal about a subject that was just settled: an
// older vote must not undo a newer decision.
func (c *change) dropAbout(subject []byte) error {
	return c.rewrite(func(_ []byte, p *openProposal) bool { return !bytes.Equal(p.about, subject) })
}
