package store

import (
	"sort"

	"github.com/healthpost/healthpost/record"
)

// state is the part of the store that every call needs, in memory. A value is
// immutable once its transaction is accepted; the next transaction copies it.
type state struct {
	ledger  ledgerRow
	partial tiles  // hashes of tiles that are not full
	absent  uint64 // entries in holes; 0 for a full replica
	members *members
	region  region
	final   final
	signed  record.TreeHead
	floor   final  // of the longer ledger that a rebuilt store had
	clock   uint64 // last hybrid logical clock given or seen
	arrived uint64 // last arrival number
	counts  rowCounts
	erased  *erased
	blobs   uint64     // moves when an attachment is announced or becomes whole
	work    []workFeed // feeds that hold something pending, in the order of their rows; replaced, never changed
}

type region struct {
	id   record.RegionID
	name string
	ok   bool
}

type final struct {
	note []byte
	head record.TreeHead
	ok   bool
}

// members is the member table; replaced, never changed.
type members struct {
	byDevice map[record.DeviceID]record.Member
	list     []record.Member // by SinceSeq, then device
	hubs     []record.DeviceID
}

func newMembers(byDevice map[record.DeviceID]record.Member) *members {
	m := &members{byDevice: byDevice}
	for _, x := range byDevice {
		m.list = append(m.list, x)
	}
	sort.Slice(m.list, func(a, b int) bool {
		if m.list[a].SinceSeq != m.list[b].SinceSeq {
			return m.list[a].SinceSeq < m.list[b].SinceSeq
		}
		return string(m.list[a].Device[:]) < string(m.list[b].Device[:])
	})
	for _, x := range m.list {
		if x.Active() && x.Role.Orders() {
			m.hubs = append(m.hubs, x.Device)
		}
	}
	return m
}

// with gives the table with some members added or replaced.
func (m *members) with(changed []record.Member) *members {
	next := make(map[record.DeviceID]record.Member, len(m.byDevice)+len(changed))
	for k, v := range m.byDevice {
		next[k] = v
	}
	for _, c := range changed {
		next[c.Device] = c
	}
	return newMembers(next)
}

// memberArray is a member at rest.
type memberArray struct {
	_          struct{} `cbor:",toarray"`
	Device     []byte
	Encryption []byte
	Role       record.Role
	Name       string
	Addresses  []string
	SinceSeq   uint64
	RevokedSeq uint64
}

func encodeMember(m *record.Member) ([]byte, error) {
	return record.Marshal(memberArray{Device: m.Device[:], Encryption: m.Encryption[:], Role: m.Role, Name: m.Name, Addresses: m.Addresses, SinceSeq: m.SinceSeq, RevokedSeq: m.RevokedSeq})
}

func decodeMember(b []byte) (record.Member, error) {
	var a memberArray
	if err := record.Unmarshal(b, &a); err != nil {
		return record.Member{}, err
	}
	if len(a.Device) != 32 || len(a.Encryption) != 32 {
		return record.Member{}, record.ErrMalformed
	}
	return record.Member{Device: record.DeviceID(a.Device), Encryption: [32]byte(a.Encryption), Role: a.Role, Name: a.Name, Addresses: a.Addresses,
		SinceSeq: a.SinceSeq, RevokedSeq: a.RevokedSeq}, nil
}

// regionArray is the region at rest.
type regionArray struct {
	_    struct{} `cbor:",toarray"`
	ID   []byte
	Name string
}

// rows are what a snapshot or a transaction can be asked for.
type rows interface {
	get(key []byte) ([]byte, bool, error)
}

// lookup answers the questions of record.State and record.Holder over rows.
type lookup struct {
	rows
	st *state
}

// State is the ledger as of one call each: it implements record.State and
// record.Holder for callers outside.
type State struct{ s *Store }

// State gives the reader that ordering rules take.
func (s *Store) State() record.State { return State{s} }

// Holder gives the reader that short forms on the wire are resolved with.
func (s *Store) Holder() record.Holder { return State{s} }

func (x State) read(f func(lookup) error) error {
	v, err := x.s.view()
	if err != nil {
		return err
	}
	defer v.close(x.s)
	return f(lookup{v, v.state})
}

// Size implements record.State.
func (x State) Size() uint64 { return x.s.shown.Load().state.ledger.Edge.Size }

// LastTime implements record.State.
func (x State) LastTime() int64 { return x.s.shown.Load().state.ledger.Time }

// Epoch implements record.State.
func (x State) Epoch(id record.EpochID) (e record.Epoch, ok bool, err error) {
	err = x.read(func(l lookup) error { e, ok, err = l.Epoch(id); return err })
	return e, ok, err
}

// Member implements record.State.
func (x State) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := x.s.shown.Load().state.members.byDevice[d]
	return m, ok, nil
}

// Head implements record.State and record.Holder.
func (x State) Head(f record.Feed) (h record.Head, ok bool, err error) {
	err = x.read(func(l lookup) error { h, ok, err = l.Head(f); return err })
	return h, ok, err
}

// Ordered implements record.State.
func (x State) Ordered(p record.Position) (seq uint64, rid record.RID, ok bool, err error) {
	err = x.read(func(l lookup) error { seq, rid, ok, err = l.Ordered(p); return err })
	return seq, rid, ok, err
}

// CompartmentLast implements record.State.
func (x State) CompartmentLast(c record.CompartmentID) (n uint64, err error) {
	err = x.read(func(l lookup) error { n, err = l.CompartmentLast(c); return err })
	return n, err
}

// Registry implements record.State.
func (x State) Registry(key []byte) (value []byte, ok bool, err error) {
	err = x.read(func(l lookup) error { value, ok, err = l.Registry(key); return err })
	return value, ok, err
}

// Held implements record.Holder: a pending or ordered record with its body.
func (x State) Held(p record.Position) (record.Record, bool, error) { return x.s.Held(p) }

// ScanRegistry calls f for the registry rows whose keys begin with prefix, in key
// order, until f returns false.
func (s *Store) ScanRegistry(prefix []byte, f func(key, value []byte) bool) error {
	v, err := s.view()
	if err != nil {
		return err
	}
	defer v.close(s)
	return v.scan(keyRegistry(prefix), nil, false, func(key, value []byte) (bool, error) {
		return f(key[1:], value), nil
	})
}

// Generation is the ledger's: 1 until a reset.
func (s *Store) Generation() (uint64, error) { return record.GenerationOf(State{s}) }
