package sim

import (
	"github.com/healthpost/healthpost/record"
)

// model is the ledger as the agreed list makes it, in memory: what every replica
// is compared with.
type model struct {
	entries []record.Entry
	leaves  [][]byte
	roots   []record.Hash // by size
	edge    record.Range
	time    int64

	epochs   map[record.EpochID]record.Epoch
	members  map[record.DeviceID]record.Member
	registry record.RegistryMap
	heads    map[record.Feed]record.Head
	ordered  map[record.Position]uint64
	rids     map[record.RID]uint64
	last     map[record.CompartmentID]uint64

	at       map[uint64]record.TreeHead        // by index of the item
	outcomes map[uint64][]record.Outcome       // by index of the item
	made     map[record.CompartmentID][]uint64 // seqs of a compartment

	verified func(record.RID, [64]byte) bool // signatures that need no check; may be nil
}

func newModel() *model {
	return &model{roots: []record.Hash{record.EmptyRoot}, epochs: map[record.EpochID]record.Epoch{}, members: map[record.DeviceID]record.Member{}, registry: record.RegistryMap{},
		heads: map[record.Feed]record.Head{}, ordered: map[record.Position]uint64{}, rids: map[record.RID]uint64{}, last: map[record.CompartmentID]uint64{},
		at: map[uint64]record.TreeHead{}, outcomes: map[uint64][]record.Outcome{}, made: map[record.CompartmentID][]uint64{}}
}

func (m *model) size() uint64 { return uint64(len(m.entries)) }

func (m *model) head() record.TreeHead {
	return record.TreeHead{Size: m.size(), Root: m.roots[m.size()]}
}

// modelState is the model as the ordering rules read it.
type modelState struct{ *model }

func (s modelState) Size() uint64    { return s.size() }
func (s modelState) LastTime() int64 { return s.time }

func (s modelState) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok := s.epochs[id]
	return e, ok, nil
}

func (s modelState) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := s.members[d]
	return m, ok, nil
}

func (s modelState) Head(f record.Feed) (record.Head, bool, error) {
	if h, ok := s.heads[f]; ok {
		return h, true, nil
	}
	e, ok := s.epochs[f.Epoch]
	return record.Head{RID: e.Opening}, ok, nil
}

func (s modelState) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	seq, ok := s.ordered[p]
	if !ok {
		return 0, record.RID{}, false, nil
	}
	return seq, s.entries[seq].Record.RID(), true, nil
}

func (s modelState) CompartmentLast(c record.CompartmentID) (uint64, error) { return s.last[c], nil }

func (s modelState) Registry(key []byte) ([]byte, bool, error) { return s.registry.Registry(key) }

// apply makes entries of one item; an item that is no batch makes none. twice
// names a record that already had a leaf.
func (m *model) apply(index uint64, bytes []byte) (twice *record.RID, err error) {
	batch, malformed := record.DecodeBatch(bytes)
	o := record.NewOrderer(modelState{m}, m.verified)
	when := o.BatchTime(batch.LeaderMillis)
	outs := []record.Outcome{}
	for _, r := range batch.Records {
		out, err := o.Add(when, r)
		if err != nil {
			return nil, err
		}
		outs = append(outs, out)
	}
	for i := range o.Changes.Entries {
		if m.enter(&o.Changes.Entries[i]) {
			rid := o.Changes.Entries[i].Record.RID()
			twice = &rid
		}
	}
	for _, e := range o.Changes.Epochs {
		m.epochs[e.ID] = e
	}
	for _, x := range o.Changes.Members {
		m.members[x.Device] = x
	}
	m.registry.Take(o.Changes.Registry)
	m.at[index] = m.head()
	if malformed == nil {
		m.outcomes[index] = outs
	}
	return twice, nil
}

func (m *model) enter(e *record.Entry) (twice bool) {
	leaf := e.EncodeLeaf()
	m.edge.Append(record.LeafHash(leaf))
	m.entries = append(m.entries, *e)
	m.leaves = append(m.leaves, leaf)
	m.roots = append(m.roots, m.edge.Root())
	m.time = e.Time
	pos, rid := e.Record.Position(), e.Record.RID()
	_, twice = m.rids[rid]
	m.rids[rid] = e.Seq
	m.ordered[pos] = e.Seq
	if pos.N > 0 {
		m.heads[pos.Feed()] = record.Head{N: pos.N, RID: rid}
	}
	if c := e.Record.Core.Compartment; !c.IsZero() {
		m.last[c] = e.Seq + 1
		m.made[c] = append(m.made[c], e.Seq)
	}
	return twice
}
