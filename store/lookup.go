package store

import (
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

func (l lookup) Size() uint64    { return l.st.ledger.Edge.Size }
func (l lookup) LastTime() int64 { return l.st.ledger.Time }

func (l lookup) Member(d record.DeviceID) (record.Member, bool, error) {
	m, ok := l.st.members.byDevice[d]
	return m, ok, nil
}

func (l lookup) Registry(key []byte) ([]byte, bool, error) { return l.get(keyRegistry(key)) }

// epoch gives what is known of an epoch, ordered or pending.
func (l lookup) epoch(id record.EpochID) (epochRow, bool, error) {
	key := keyEpoch(id)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return epochRow{}, false, err
	}
	e, err := decodeEpochRow(b)
	if err != nil {
		return e, false, damagedRow(key, err.Error())
	}
	return e, true, nil
}

func (l lookup) Epoch(id record.EpochID) (record.Epoch, bool, error) {
	e, ok, err := l.epoch(id)
	if err != nil || !ok || e.open() {
		return record.Epoch{}, false, err
	}
	return record.Epoch{ID: id, Device: e.Device, Opening: e.Opening}, true, nil
}

// feed gives what is held of a feed. A known epoch's feed without records has
// the opening record as its heads.
func (l lookup) feed(f record.Feed) (feedRow, bool, error) {
	key := keyFeed(pFeed, f)
	b, ok, err := l.get(key)
	if err != nil {
		return feedRow{}, false, err
	}
	if ok {
		row, err := decodeFeedRow(b)
		if err != nil {
			return row, false, damagedRow(key, err.Error())
		}
		return row, true, nil
	}
	e, ok, err := l.epoch(f.Epoch)
	if err != nil || !ok {
		return feedRow{}, false, err
	}
	if err := l.neverHeld(f, key); err != nil {
		return feedRow{}, false, err
	}
	h := record.Head{RID: e.Opening}
	return feedRow{Ordered: h, Held: h}, true, nil
}

// neverHeld checks that a feed without a row has no first record either: taking
// a lost row for a new feed would let its author write the same places again.
func (l lookup) neverHeld(f record.Feed, key []byte) error {
	first := record.Position{Epoch: f.Epoch, Lane: f.Lane, N: 1}
	for _, k := range [][]byte{keyPosition(pPending, first), keyPosition(pPosition, first)} {
		_, ok, err := l.get(k)
		if err == nil && ok {
			err = damagedRow(key, "feed row is missing")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l lookup) Head(f record.Feed) (record.Head, bool, error) {
	e, ok, err := l.epoch(f.Epoch)
	if err != nil || !ok || e.open() {
		return record.Head{}, false, err
	}
	row, ok, err := l.feed(f)
	return row.Ordered, ok, err
}

// seqAt finds the entry of a position.
func (l lookup) seqAt(p record.Position) (uint64, bool, error) {
	if p.N == 0 {
		e, ok, err := l.epoch(p.Epoch)
		return e.Seq, ok && e.Ordered, err
	}
	key := keyPosition(pPosition, p)
	b, ok, err := l.get(key)
	if err == nil && !ok {
		var f feedRow
		if f, ok, err = l.feed(p.Feed()); err == nil && ok && p.N <= f.Ordered.N && l.st.absent == 0 {
			err = damagedRow(key, "position of an entry is missing")
		}
		ok = false
	}
	if err != nil || !ok {
		return 0, false, err
	}
	if len(b) != 8 {
		return 0, false, damagedRow(key, "position index")
	}
	return binary.BigEndian.Uint64(b), true, nil
}

func (l lookup) Ordered(p record.Position) (uint64, record.RID, bool, error) {
	seq, ok, err := l.seqAt(p)
	if err != nil || !ok {
		return 0, record.RID{}, false, err
	}
	e, err := l.entry(seq, false)
	if err != nil {
		return 0, record.RID{}, false, err
	}
	return seq, e.Record.RID(), true, nil
}

func (l lookup) CompartmentLast(c record.CompartmentID) (uint64, error) {
	key := keyScopeLast(c)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return 0, err
	}
	if len(b) != 8 {
		return 0, damagedRow(key, "compartment index")
	}
	return binary.BigEndian.Uint64(b), nil
}

// entry reads an entry; it must exist.
func (l lookup) entry(seq uint64, body bool) (record.Entry, error) {
	leaf, ok, err := l.get(keySeq(pEntry, seq))
	if err != nil {
		return record.Entry{}, fmt.Errorf("reading entry %d: %w", seq, err)
	}
	if !ok {
		return record.Entry{}, l.entryMissing(seq)
	}
	e, err := record.DecodeLeaf(seq, leaf)
	if err != nil {
		return e, damagedEntry(seq, err.Error())
	}
	if !body {
		return e, nil
	}
	b, ok, err := l.get(keySeq(pBody, seq))
	if err == nil && !ok {
		err = entryDamage(&e, "body is missing")
	}
	if err != nil {
		return e, fmt.Errorf("reading entry %d: %w", seq, err)
	}
	if len(b) == 0 && e.Record.Core.BodyLen > 0 && e.Record.Core.Erasable() {
		return e, nil // erased, or awaited
	}
	e.Record = e.Record.WithBody(b)
	if e.Record.VerifyBody() != nil {
		return e, entryDamage(&e, "body does not match its hash")
	}
	return e, nil
}

func entryDamage(e *record.Entry, what string) *DamageError {
	d := damagedEntry(e.Seq, what)
	d.RID, d.Time = e.Record.RID(), e.Time
	return d
}

// entryMissing says why there is no entry: it is in a hole, or was lost.
func (l lookup) entryMissing(seq uint64) error {
	if l.st.absent > 0 {
		_, ok, err := l.holeAt(seq)
		if err == nil && ok {
			err = fmt.Errorf("reading entry %d: %w", seq, ErrHole)
		}
		if err != nil {
			return err
		}
	}
	return damagedEntry(seq, "entry is missing")
}

// pending reads a pending record.
func (l lookup) pending(p record.Position) (pendingRow, bool, error) {
	key := keyPosition(pPending, p)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return pendingRow{}, false, err
	}
	row, err := decodePendingRow(b)
	if err == nil && row.Record.Position() != p {
		err = fmt.Errorf("%w: another position", record.ErrMalformed)
	}
	if err != nil {
		return row, false, damagedRow(key, err.Error())
	}
	return row, true, nil
}

// held finds the record of a position, pending first.
func (l lookup) held(p record.Position, body bool) (r record.Record, seq uint64, ordered, ok bool, err error) {
	if p.Lane >= record.LaneCount {
		return r, 0, false, false, nil
	}
	if p.N == 0 {
		p.Lane = 0
	}
	row, ok, err := l.pending(p)
	if err != nil || ok {
		return row.Record, 0, false, ok, err
	}
	seq, ok, err = l.seqAt(p)
	if err == nil && !ok && l.st.absent > 0 {
		r, ok, err = l.loose(p)
		return r, 0, false, ok, err
	}
	if err != nil || !ok {
		return r, 0, false, false, err
	}
	e, err := l.entry(seq, body)
	return e.Record, seq, true, err == nil, err
}

// loose reads a record that has its place in a hole and is held by itself.
func (l lookup) loose(p record.Position) (record.Record, bool, error) {
	key := keyPosition(pLoose, p)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return record.Record{}, false, err
	}
	row, err := decodePendingRow(b)
	if err == nil && row.Record.Position() != p {
		err = fmt.Errorf("%w: another position", record.ErrMalformed)
	}
	if err != nil {
		return row.Record, false, damagedRow(key, err.Error())
	}
	return row.Record, true, nil
}

// locate finds a record by its id.
func (l lookup) locate(rid record.RID) (ridRow, bool, error) {
	key := keyIndexRID(rid)
	b, ok, err := l.get(key)
	if err != nil || !ok {
		return ridRow{}, false, err
	}
	row, err := decodeRIDRow(b)
	if err != nil {
		return row, false, damagedRow(key, err.Error())
	}
	return row, true, nil
}

// recordAt reads the record that a rid row points to. ok is false when it is
// another record, whose id only starts alike.
func (l lookup) recordAt(rid record.RID, row ridRow, body bool) (r record.Record, e record.Entry, ok bool, err error) {
	if !row.Pending {
		e, err = l.entry(row.Seq, body)
		return e.Record, e, err == nil && e.Record.RID() == rid, err
	}
	p, ok, err := l.pending(row.Position)
	if err == nil && !ok {
		err = &DamageError{What: "pending record is missing", RID: rid}
	}
	return p.Record, e, err == nil && p.Record.RID() == rid, err
}
