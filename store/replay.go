package store

import (
	"encoding/binary"
	"errors"
	"sort"

	"github.com/healthpost/healthpost/record"
)

// replayState is a ledger built in memory, from nothing, or from what a store held
// at an earlier size: heads, epochs, members.
type replayState struct {
	before *Store // answers for the entries before start, nil when there are none
	start  uint64

	size    uint64
	time    int64
	epochs  map[record.EpochID]record.Epoch
	members map[record.DeviceID]record.Member
	heads   map[record.Feed]record.Head
	last    map[record.CompartmentID]uint64
	// openings are the entries of opening records.
	openings map[record.EpochID]uint64
	record.RegistryMap
}

func newReplayState() *replayState {
	return &replayState{epochs: map[record.EpochID]record.Epoch{}, members: map[record.DeviceID]record.Member{}, heads: map[record.Feed]record.Head{}, last: map[record.CompartmentID]uint64{}, openings: map[record.EpochID]uint64{},
		RegistryMap: record.RegistryMap{}}
}

// skip takes in what an Orderer made.
func (m *replayState) skip(o *record.Orderer) {
	for _, e := range o.Changes.Epochs {
		m.epochs[e.ID] = e
	}
	for _, x := range o.Changes.Members {
		m.members[x.Device] = x
	}
	m.Take(o.Changes.Registry)
	for i := range o.Changes.Entries {
		m.force(&o.Changes.Entries[i])
	}
}

// force takes in an entry whatever the rules say of it.
func (m *replayState) force(e *record.Entry) {
	r := &e.Record
	pos := r.Position()
	if pos.N > 0 {
		m.heads[pos.Feed()] = record.Head{N: pos.N, RID: r.RID()}
	} else {
		m.openings[pos.Epoch] = e.Seq
	}
	if c := r.Core.Compartment; !c.IsZero() {
		m.last[c] = e.Seq + 1
	}
	m.size, m.time = e.Seq+1, max(m.time, e.Time)
}

func (m *replayState) Size() uint64    { return m.size }
func (m *replayState) LastTime() int64 { return m.time }

func (m *replayState) Epoch(id record.EpochID) (e record.Epoch, ok bool, err error) {
	if e, ok = m.epochs[id]; ok || m.before == nil {
		return e, ok, nil
	}
	err = m.before.read(func(l lookup) error {
		row, known, err := l.epoch(id)
		if known && row.Ordered && row.Seq < m.start {
			e, ok = record.Epoch{ID: id, Device: row.Device, Opening: row.Opening}, true
			m.epochs[id], m.openings[id] = e, row.Seq
		}
		return err
	})
	return e, ok, err
}

func (m *replayState) Member(d record.DeviceID) (record.Member, bool, error) {
	x, ok := m.members[d]
	return x, ok, nil
}

func (m *replayState) Head(f record.Feed) (record.Head, bool, error) {
	if h, ok := m.heads[f]; ok {
		return h, true, nil
	}
	e, ok, err := m.Epoch(f.Epoch)
	h := record.Head{RID: e.Opening}
	if err != nil || !ok || m.before == nil {
		return h, ok, err
	}
	err = m.before.read(func(l lookup) error {
		old, err := l.headBefore(f, m.start)
		if err == nil && old.N > 0 {
			h, m.heads[f] = old, old
		}
		return err
	})
	return h, err == nil, err
}

// headBefore is the last record of a feed among the first entries of the ledger,
// n 0 when there is none.
func (l lookup) headBefore(f record.Feed, size uint64) (record.Head, error) {
	row, ok, err := l.feed(f)
	if err != nil || !ok {
		return record.Head{}, err
	}
	at := func(n uint64) uint64 {
		seq, ok, serr := l.seqAt(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
		if serr != nil || !ok {
			err = errors.Join(err, serr)
			return size
		}
		return seq
	}
	n := uint64(sort.Search(int(row.Ordered.N), func(i int) bool { return at(uint64(i)+1) >= size }))
	if err != nil || n == 0 {
		return record.Head{}, err
	}
	e, err := l.entry(at(n), false)
	return record.Head{N: n, RID: e.Record.RID()}, err
}

// Ordered knows positions up to the head only, without their records: enough to
// find one that comes twice.
func (m *replayState) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	if p.N == 0 {
		e, ok, err := m.Epoch(p.Epoch)
		return 0, e.Opening, ok, err
	}
	h, ok, err := m.Head(p.Feed())
	return 0, record.RID{}, ok && p.N <= h.N, err
}

func (m *replayState) CompartmentLast(c record.CompartmentID) (uint64, error) {
	last, ok := m.last[c]
	if ok || m.before == nil {
		return last, nil
	}
	err := m.before.read(func(l lookup) error {
		prefix := append([]byte{pScope}, c[:]...)
		return l.rows.(*view).scan(prefix, keyScope(c, m.start-1), true, func(key, _ []byte) (bool, error) {
			if len(key) != 25 {
				return false, damagedRow(key, "compartment index")
			}
			last = binary.BigEndian.Uint64(key[17:]) + 1
			return false, nil
		})
	})
	if err == nil {
		m.last[c] = last
	}
	return last, err
}
