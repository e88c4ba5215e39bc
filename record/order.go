package record

import (
	"bytes"
	"errors"
	"fmt"
)

// Member is a device that the ledger knows. SinceSeq is where it was admitted,
// RevokedSeq where its membership ended, 0 while active.
type Member struct {
	Device     DeviceID
	Encryption [32]byte
	Role       Role
	Name       string
	Addresses  []string
	SinceSeq   uint64
	RevokedSeq uint64
}

// Active reports whether the membership has not ended.
func (m *Member) Active() bool { return m.RevokedSeq == 0 }

// Epoch is what the ledger knows of one: whose it is, and its opening record.
type Epoch struct {
	ID      EpochID
	Device  DeviceID
	Opening RID
}

// State is the ledger after its last entry, as the ordering rules read it. A
// reader returns ok false for what does not exist; an error only when the state
// itself cannot be read.
type State interface {
	Size() uint64
	LastTime() int64
	Epoch(EpochID) (Epoch, bool, error)
	Member(DeviceID) (Member, bool, error)
	// Head is the last ordered record of a feed; n 0 and the opening rid for a
	// known epoch's feed without one.
	Head(Feed) (Head, bool, error)
	// Ordered finds the entry of a position.
	Ordered(Position) (seq uint64, rid RID, ok bool, err error)
	// CompartmentLast is seq+1 of the compartment's last entry, 0 for none.
	CompartmentLast(CompartmentID) (uint64, error)
	// Registry is a row that Changes.Registry wrote.
	Registry(key []byte) (value []byte, ok bool, err error)
}

// Verdict is what ordering says of one record. Only Ordered makes an entry.
type Verdict uint8

const (
	Ordered      Verdict = iota + 1
	Duplicate            // this very record has an entry already
	Gap                  // records before it are missing: want says from which n
	UnknownEpoch         // its opening record is not in the ledger
	Equivocation         // the author signed another record, ordered already, for its position
	BadPrev              // does not continue its feed
	BadSignature
	BadBody
	UnknownDevice
	Revoked     // written after the author had seen the revocation
	Quarantined // written before the author could know of the revocation
	NotAllowed  // the author may not write this kind, or the body breaks its rules
	Frozen      // its feed holds two records for one place, as evidence in the ledger shows
)

var verdictNames = [...]string{"", "ordered", "duplicate", "gap", "unknown epoch", "equivocation", "previous hash does not match",
	"signature does not match", "body does not match", "unknown device", "revoked", "quarantined", "not allowed", "lane frozen"}

func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return fmt.Sprintf("verdict %d", uint8(v))
	}
	return verdictNames[v]
}

// Final reports whether no record with this rid can ever be ordered, so that its
// author is told and opens another epoch. A stranger may yet become a member. The
// rid covers neither signature nor body: whoever passed the record on may have
// changed them, and the author's own copy may still be sound.
func (v Verdict) Final() bool {
	switch v {
	case Equivocation, BadPrev, Revoked, Quarantined, NotAllowed, Frozen:
		return true
	}
	return false
}

// Outcome is the answer for one record of a batch.
type Outcome struct {
	RID     RID
	Verdict Verdict
	Seq     uint64 // of the entry, for Ordered and Duplicate
	Want    uint64 // first missing n, for Gap
}

// clockStepMax bounds how far one batch can move ledger time, in seconds.
const clockStepMax = 24 * 60 * 60

// Orderer applies records to a State. It keeps what it changed in memory and
// reads it back, so one Orderer sees its own effects; the caller stores Changes
// in one transaction. It is a pure function of the state and the calls.
type Orderer struct {
	state State
	size  uint64
	time  int64
	// sparse: entries before this one are not all known.
	sparse bool

	verified func(RID, [64]byte) bool
	bare     bool // see Bare

	epochs    map[EpochID]Epoch
	members   map[DeviceID]Member
	registry  map[string][]byte       // nil: deleted
	frozen    map[Feed]bool           // as last read
	proposals map[string]openProposal // by key, as last read
	heads     map[Feed]Head
	ordered   map[Position]placed
	last      map[CompartmentID]uint64

	Changes Changes
}

type placed struct {
	seq uint64
	rid RID
}

// Changes is what a run of Add did, in order.
type Changes struct {
	Entries  []Entry
	Epochs   []Epoch       // opened
	Members  []Member      // added or changed, last value wins
	Registry []RegistryRow // last value wins
}

// NewOrderer starts at the state's last entry, which must not move while the
// Orderer is used. verified may name the signatures that this process has
// checked already for a rid; nil means none. The rid alone would not do: it does
// not cover the signature, and every box must come to the same verdict.
func NewOrderer(s State, verified func(RID, [64]byte) bool) *Orderer {
	if verified == nil {
		verified = func(RID, [64]byte) bool { return false }
	}
	return &Orderer{state: s, size: s.Size(), time: s.LastTime(), verified: verified, epochs: map[EpochID]Epoch{}, members: map[DeviceID]Member{},
		registry: map[string][]byte{}, frozen: map[Feed]bool{}, proposals: map[string]openProposal{}, heads: map[Feed]Head{}, ordered: map[Position]placed{}, last: map[CompartmentID]uint64{}}
}

// BatchTime is the ledger time of the next entries of a batch: never back, and
// at most a day forward, whatever the leader's clock says.
func (o *Orderer) BatchTime(leaderMillis int64) int64 {
	t := leaderMillis / 1000
	if o.time != 0 && t > o.time+clockStepMax {
		t = o.time + clockStepMax
	}
	return max(t, o.time)
}

// Size is the ledger size including what was added.
func (o *Orderer) Size() uint64 { return o.size }

// Head is the last ordered record of a feed including what was added.
func (o *Orderer) Head(f Feed) (Head, bool, error) {
	if h, ok := o.heads[f]; ok {
		return h, true, nil
	}
	if e, ok := o.epochs[f.Epoch]; ok {
		return Head{RID: e.Opening}, true, nil
	}
	return o.state.Head(f)
}

// Add judges one record and, when it is Ordered, makes its entry at ledger time
// t. An error means that the state could not be read and nothing was decided.
func (o *Orderer) Add(t int64, r Record) (Outcome, error) {
	out, device, err := o.judge(&r)
	if err != nil || out.Verdict != Ordered {
		return out, err
	}
	prevSeq, err := o.compartmentLast(r.Core.Compartment)
	if err != nil {
		return out, err
	}
	c := &change{o: o, time: max(t, o.time)}
	if v, err := c.allowed(&r, device); err != nil || v != Ordered {
		out.Verdict = v
		return out, err
	}
	out.Seq = o.size
	o.take(c)
	o.append(Entry{Seq: o.size, Time: c.time, PrevSeq: prevSeq, Record: r}, device)
	return out, nil
}

func (o *Orderer) append(e Entry, device DeviceID) {
	r := &e.Record
	pos := r.Position()
	if r.Core.opening() {
		epoch := Epoch{ID: pos.Epoch, Device: device, Opening: r.rid}
		o.epochs[pos.Epoch] = epoch
		o.Changes.Epochs = append(o.Changes.Epochs, epoch)
	} else {
		o.heads[pos.Feed()] = Head{N: pos.N, RID: r.rid}
	}
	o.ordered[pos] = placed{e.Seq, r.rid}
	if !r.Core.Compartment.IsZero() {
		o.last[r.Core.Compartment] = e.Seq + 1
	}
	o.Changes.Entries = append(o.Changes.Entries, e)
	o.size, o.time = e.Seq+1, e.Time
}

func (o *Orderer) judge(r *Record) (Outcome, DeviceID, error) {
	out := Outcome{RID: r.rid, Verdict: Ordered}
	pos := r.Position()
	if seq, rid, ok, err := o.find(pos); err != nil {
		return out, DeviceID{}, err
	} else if ok && rid == r.rid {
		out.Seq, out.Verdict = seq, Duplicate
		return out, DeviceID{}, nil
	} else if ok {
		out.Verdict, err = o.contradiction(r)
		return out, DeviceID{}, err
	}
	device, verdict, err := o.author(r)
	if err != nil || verdict != Ordered {
		out.Verdict = verdict
		return out, device, err
	}
	if !r.Core.opening() {
		if frozen, err := o.isFrozen(pos.Feed()); err != nil || frozen {
			out.Verdict = Frozen
			return out, device, err
		}
		head, _, err := o.Head(pos.Feed())
		if err != nil {
			return out, device, err
		}
		if v, want := o.continues(r, head); v != Ordered {
			out.Verdict, out.Want = v, want
			return out, device, nil
		}
	}
	out.Verdict = o.checkBytes(r, device)
	if out.Verdict == Ordered {
		out.Verdict, err = o.standing(r, device)
	}
	return out, device, err
}

func (o *Orderer) find(p Position) (uint64, RID, bool, error) {
	if at, ok := o.ordered[p]; ok {
		return at.seq, at.rid, true, nil
	}
	return o.state.Ordered(p)
}

// contradiction judges a second record for a position that is taken. Only the
// author's own signature makes it an equivocation: anybody can write a core.
func (o *Orderer) contradiction(r *Record) (Verdict, error) {
	device, verdict, err := o.author(r)
	if err != nil || verdict != Ordered {
		return verdict, err
	}
	if !o.verified(r.rid, r.Sig) && r.VerifySignature(device) != nil {
		return BadSignature, nil
	}
	return Equivocation, nil
}

// author finds the device that must have signed r.
func (o *Orderer) author(r *Record) (DeviceID, Verdict, error) {
	if r.Core.opening() {
		if !bodyMatches(r) { // NotAllowed must speak of what was signed
			return DeviceID{}, BadBody, nil
		}
		body, err := DecodeEpochOpen(r.Body)
		if err != nil {
			return DeviceID{}, NotAllowed, nil
		}
		return DeviceID(body.Device), Ordered, nil
	}
	e, ok, err := o.epoch(r.Core.Epoch)
	if err != nil {
		return DeviceID{}, 0, err
	}
	if !ok {
		return DeviceID{}, UnknownEpoch, nil
	}
	return e.Device, Ordered, nil
}

func (o *Orderer) epoch(id EpochID) (Epoch, bool, error) {
	if e, ok := o.epochs[id]; ok {
		return e, true, nil
	}
	return o.state.Epoch(id)
}

// isFrozen is read once a feed: the records of a batch come in runs.
func (o *Orderer) isFrozen(f Feed) (bool, error) {
	if frozen, ok := o.frozen[f]; ok {
		return frozen, nil
	}
	_, frozen, err := o.Registry(frozenKey(f))
	if err == nil {
		o.frozen[f] = frozen
	}
	return frozen, err
}

// Registry is a registry row including what was added.
func (o *Orderer) Registry(key []byte) ([]byte, bool, error) {
	if v, ok := o.registry[string(key)]; ok {
		return v, v != nil, nil
	}
	return o.state.Registry(key)
}

func (o *Orderer) checkBytes(r *Record, device DeviceID) Verdict {
	if !o.absent(r) && !bodyMatches(r) {
		return BadBody
	}
	if !o.verified(r.rid, r.Sig) && r.VerifySignature(device) != nil {
		return BadSignature
	}
	return Ordered
}

// bodyMatches takes an absent body for an empty one, so that nil and []byte{} agree.
func bodyMatches(r *Record) bool {
	return uint64(len(r.Body)) == uint64(r.Core.BodyLen) && hashBody(r.Body) == r.Core.BodyHash
}

func (o *Orderer) member(d DeviceID) (Member, bool, error) {
	if m, ok := o.members[d]; ok {
		return m, true, nil
	}
	return o.state.Member(d)
}

// standing is the author's authority at this ledger position. Before the
// region is founded only the founder's own opening and founding records pass.
func (o *Orderer) standing(r *Record, d DeviceID) (Verdict, error) {
	if o.size < 2 {
		return o.founding(r, d), nil
	}
	m, ok, err := o.member(d)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return UnknownDevice, nil
	case m.Active():
		return Ordered, nil
	case r.Core.Kind == KindReset: // who is put back by it may bring it
		c := &change{o: o}
		body, err := c.checkReset(r)
		if err == nil && body.lists(d[:], len(body.Members)) {
			return Ordered, nil
		}
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, errNotAllowed) || errors.Is(err, ErrState) {
			return 0, err
		}
	}
	if r.Core.Size <= m.RevokedSeq { // a ledger of that size ends before the revocation
		return Quarantined, nil
	}
	return Revoked, nil
}

func (o *Orderer) founding(r *Record, d DeviceID) Verdict {
	if o.size == 0 && r.Core.opening() {
		return Ordered
	}
	if o.size == 1 && r.Core.Kind == KindRegionFound {
		f, err := DecodeRegionFound(r.Body)
		if err == nil && bytes.Equal(f.Founder.Device, d[:]) && f.Founder.Role.Orders() {
			return Ordered
		}
	}
	return NotAllowed
}

func (o *Orderer) compartmentLast(c CompartmentID) (uint64, error) {
	if c.IsZero() {
		return 0, nil
	}
	if v, ok := o.last[c]; ok {
		return v, nil
	}
	return o.state.CompartmentLast(c)
}
