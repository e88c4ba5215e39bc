package store

import "github.com/healthpost/healthpost/record"

// replayState is a ledger built from nothing in memory: heads, epochs, members.
type replayState struct {
	size    uint64
	time    int64
	epochs  map[record.EpochID]record.Epoch
	members map[record.DeviceID]record.Member
	heads   map[record.Feed]record.Head
	last    map[record.CompartmentID]uint64
	record.RegistryMap
}

func newReplayState() *replayState {
	return &replayState{epochs: map[record.EpochID]record.Epoch{}, members: map[record.DeviceID]record.Member{}, heads: map[record.Feed]record.Head{}, last: map[record.CompartmentID]uint64{},
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
	}
	if c := r.Core.Compartment; !c.IsZero() {
		m.last[c] = e.Seq + 1
	}
	m.size, m.time = e.Seq+1, max(m.time, e.Time)
}

func (m *replayState) Size() uint64    { return m.size }
func (m *replayState) LastTime() int64 { return m.time }

func (m *replayState) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok := m.epochs[id]
	return e, ok, nil
}

func (m *replayState) Member(d record.DeviceID) (record.Member, bool, error) {
	x, ok := m.members[d]
	return x, ok, nil
}

func (m *replayState) Head(f record.Feed) (record.Head, bool, error) {
	if h, ok := m.heads[f]; ok {
		return h, true, nil
	}
	e, ok := m.epochs[f.Epoch]
	return record.Head{RID: e.Opening}, ok, nil
}

// Ordered knows positions up to the head only, without their records: enough to
// find one that comes twice.
func (m *replayState) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	if p.N == 0 {
		e, ok := m.epochs[p.Epoch]
		return 0, e.Opening, ok, nil
	}
	h, ok := m.heads[p.Feed()]
	return 0, record.RID{}, ok && p.N <= h.N, nil
}

func (m *replayState) CompartmentLast(c record.CompartmentID) (uint64, error) { return m.last[c], nil }
