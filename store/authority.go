package store

import (
	"encoding/binary"

	"github.com/healthpost/healthpost/record"
)

// authority is the ledger as far as it says who may do what: only the entries that
// every replica holds, and the epochs of their authors.
type authority struct {
	lookup
	size    uint64
	time    int64
	members map[record.DeviceID]record.Member
	record.RegistryMap
}

func (a *authority) Size() uint64    { return a.size }
func (a *authority) LastTime() int64 { return a.time }

func (a *authority) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := a.members[d]
	return m, ok, nil
}

func (a *authority) Registry(key []byte) ([]byte, bool, error) { return a.RegistryMap.Registry(key) }

// Head knows the beginning of every feed: what is judged leaves most of it out.
func (a *authority) Head(f record.Feed) (record.Head, bool, error) {
	e, ok, err := a.epoch(f.Epoch)
	return record.Head{RID: e.Opening}, ok, err
}

func (a *authority) Ordered(record.Position) (uint64, record.RID, bool, error) {
	return 0, record.RID{}, false, nil
}

func (a *authority) CompartmentLast(record.CompartmentID) (uint64, error) { return 0, nil }

// judgeAuthority computes members and registry anew, because an entry that every
// replica holds came late: who gave the span had left it out.
func (t *tx) judgeAuthority() error {
	o := record.NewOrderer(&authority{lookup: t.lookup(), members: map[record.DeviceID]record.Member{}, RegistryMap: record.RegistryMap{}},
		func(record.RID, [64]byte) bool { return true })
	err := t.eachEntry(func(e *record.Entry) error {
		if !e.HeldByAll() {
			return nil
		}
		full, err := t.lookup().entry(e.Seq, true)
		if err != nil {
			return err
		}
		if e.Seq > 0 {
			o.Skip(e.Seq)
		}
		_, err = o.Place(&full) // one that its author had no right to write changes nothing
		return err
	})
	if err != nil {
		return err
	}
	err = t.view.scanRaw([]byte{pRegistry}, nil, false, func(key, _ []byte) (bool, error) {
		t.unset(key)
		return true, nil
	})
	if err != nil {
		return err
	}
	return t.applyMembers(&o.Changes)
}

// eachEntry calls f for the leaves that are held, this transaction's too, in order.
func (t *tx) eachEntry(f func(*record.Entry) error) error {
	for seq := uint64(0); seq < t.next.ledger.Edge.Size; seq++ {
		leaf, ok, err := t.get(keySeq(pEntry, seq))
		if err != nil {
			return err
		}
		if !ok {
			h, in, err := t.lookup().holeAt(seq)
			if err != nil {
				return err
			}
			if in && t.state.absent > 0 {
				seq = t.nextWritten(seq, h.To) - 1
			}
			continue
		}
		e, err := record.DecodeLeaf(seq, leaf)
		if err != nil {
			return damagedEntry(seq, err.Error())
		}
		if err := f(&e); err != nil {
			return err
		}
	}
	return nil
}

// nextWritten is the first entry in [from, to) that this transaction writes, or to.
func (t *tx) nextWritten(from, to uint64) uint64 {
	first := to
	for key := range t.rows {
		if key[0] != pEntry || len(key) != 9 {
			continue
		}
		if seq := binary.BigEndian.Uint64([]byte(key[1:])); seq >= from && seq < first {
			first = seq
		}
	}
	return first
}
