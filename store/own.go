package store

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/healthpost/healthpost/record"
)

// Author signs what this box writes.
type Author struct {
	Key    ed25519.PrivateKey
	Device record.DeviceID
}

// Draft is a record of this box before it has a place.
type Draft struct {
	Lane        record.Lane
	Kind        record.Kind
	Compartment record.CompartmentID
	Session     uint64            // n of the session's opening record in lane 0, 0 for the machine
	Ext         map[uint64][]byte // extensions of the core; nil for none
	// Seal gives the body for the place that the record will have. It runs while
	// other writes wait: it may read the store and must not write to it.
	Seal func(record.Position) ([]byte, error)
}

// Row is an opaque row of a projection. A nil Value deletes.
type Row struct {
	Key   []byte
	Value []byte
}

// ownEpoch is the epoch that this process writes in.
type ownEpoch struct {
	author Author
	id     record.EpochID
	hlc    func(last uint64) uint64
	clock  atomic.Uint32
}

// foreignClockMax is how far past the local clock, in milliseconds, the hybrid
// clock follows the record of another device.
const foreignClockMax = 5 * 60 * 1000

// clockTrustMax is the highest level of record.Core.Clock.
const clockTrustMax = 4

// tick gives the next hybrid clock value: past every one given or seen.
func (t *tx) tick(hlc func(uint64) uint64) uint64 {
	last := t.next.clock
	next := last + 1
	if hlc != nil {
		next = max(next, hlc(last))
	} else {
		next = max(next, uint64(t.s.o.Now().UnixMilli())<<16)
	}
	t.setClock(next)
	return next
}

func (t *tx) setClock(v uint64) {
	t.next.clock = v
	t.put(keyClock, binary.BigEndian.AppendUint64(nil, v))
}

// seen moves the hybrid clock past a foreign record, within bounds.
func (t *tx) seen(hlc uint64) {
	bound := uint64(t.s.o.Now().UnixMilli()+foreignClockMax) << 16
	if v := min(hlc, bound); v > t.next.clock {
		t.setClock(v)
	}
}

// BeginEpoch writes the opening record of this process, durable on return.
// Append needs it. open gets the device's last epoch on this disk with the n
// reached in each lane (zero and zeros when there is none) and the verified
// ledger; hlc gives the next hybrid clock value after last.
func (s *Store) BeginEpoch(ctx context.Context, a Author, open func(pred record.EpochID, heads [record.LaneCount]uint64, size uint64, root record.Hash) record.EpochOpen,
	hlc func(last uint64) uint64, clock uint8) (record.EpochID, error) {
	t, err := s.begin(ctx)
	if err != nil {
		return record.EpochID{}, fmt.Errorf("beginning epoch: %w", err)
	}
	r, err := t.openingRecord(a, open, hlc, clock)
	if err != nil {
		t.drop()
		return record.EpochID{}, fmt.Errorf("beginning epoch: %w", err)
	}
	own := &ownEpoch{author: a, id: r.OpenedEpoch(), hlc: hlc}
	own.clock.Store(uint32(clock))
	l, err := t.accept(true)
	if err == nil {
		<-l.done
		err = l.err
	}
	if err != nil {
		return record.EpochID{}, fmt.Errorf("beginning epoch: %w", err)
	}
	s.mu.Lock()
	s.own = own
	s.mu.Unlock()
	return own.id, nil
}

// Clock is the last value of the hybrid clock that was given or seen.
func (s *Store) Clock() uint64 { return s.shown.Load().state.clock }

// TrustClock says from here on, in every record of the open epoch, how far the wall
// clock is to be believed (record.Core.Clock). Without an open epoch it says nothing.
func (s *Store) TrustClock(level uint8) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.own != nil {
		s.own.clock.Store(uint32(min(level, clockTrustMax)))
	}
}

func (t *tx) openingRecord(a Author, open func(record.EpochID, [record.LaneCount]uint64, uint64, record.Hash) record.EpochOpen,
	hlc func(uint64) uint64, clock uint8) (record.Record, error) {
	var pred record.EpochID
	var heads [record.LaneCount]uint64
	b, ok, err := t.get(keyOwn(a.Device))
	if err != nil {
		return record.Record{}, err
	}
	if ok {
		copy(pred[:], b)
		for lane := range heads {
			f, _, err := t.lookup().feed(record.Feed{Epoch: pred, Lane: record.Lane(lane)})
			if err != nil {
				return record.Record{}, err
			}
			heads[lane] = f.Held.N
		}
	}
	head := t.next.ledger.Edge.Head()
	body, err := record.Marshal(open(pred, heads, head.Size, head.Root))
	if err != nil {
		return record.Record{}, err
	}
	e, err := record.DecodeEpochOpen(body)
	if err != nil {
		return record.Record{}, err
	}
	if record.DeviceID(e.Device) != a.Device {
		return record.Record{}, fmt.Errorf("%w: the opening record names another device", ErrRefused)
	}
	r := record.Sign(record.Core{HLC: t.tick(hlc), Clock: clock, Kind: record.KindEpochOpen, Size: head.Size}, body, a.Key)
	if err := r.VerifySignature(a.Device); err != nil {
		return record.Record{}, err
	}
	id := r.OpenedEpoch()
	if ok, err := t.has(keyEpoch(id)); err != nil || ok {
		return record.Record{}, fmt.Errorf("%w: this epoch exists", ErrRefused)
	}
	t.put(keyOwn(a.Device), id[:])
	t.s.verified.add(&r)
	return r, t.addPending(&r, a.Device)
}

// Append places, seals and signs records of this box. Records, heads, pending,
// indexes and rows move in one transaction, durable on return. rows may be nil; like
// Seal it may read and must not write.
// On an error nothing was written; a context that ends later changes nothing.
func (s *Store) Append(ctx context.Context, drafts []Draft, rows func([]record.Record) ([]Row, error)) ([]record.Record, error) {
	if len(drafts) == 0 {
		return nil, nil
	}
	t, err := s.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("saving: %w", err)
	}
	recs, err := t.appendDrafts(drafts, rows)
	if err != nil {
		t.drop()
		return nil, fmt.Errorf("saving: %w", err)
	}
	if err := t.commit(); err != nil {
		return nil, fmt.Errorf("saving: %w", err)
	}
	return recs, nil
}

func (t *tx) appendDrafts(drafts []Draft, rows func([]record.Record) ([]Row, error)) ([]record.Record, error) {
	if t.s.own == nil {
		return nil, ErrNoEpoch
	}
	recs := make([]record.Record, 0, len(drafts))
	for i := range drafts {
		r, err := t.place(&drafts[i], t.s.own)
		if err != nil {
			return nil, err
		}
		recs = append(recs, r)
	}
	if rows == nil {
		return recs, nil
	}
	made, err := rows(recs)
	if err != nil {
		return nil, err
	}
	return recs, t.putRows(made)
}

func (t *tx) place(d *Draft, own *ownEpoch) (record.Record, error) {
	if d.Lane >= record.LaneCount || d.Kind == record.KindEpochOpen || d.Kind == 0 {
		return record.Record{}, fmt.Errorf("%w: lane %d, kind %d", ErrRefused, d.Lane, d.Kind)
	}
	f, ok, err := t.lookup().feed(record.Feed{Epoch: own.id, Lane: d.Lane})
	if err == nil && !ok {
		err = &DamageError{What: "the open epoch is missing"}
	}
	if err != nil {
		return record.Record{}, err
	}
	pos := record.Position{Epoch: own.id, Lane: d.Lane, N: f.Held.N + 1}
	body, err := d.Seal(pos)
	if err != nil {
		return record.Record{}, err
	}
	if len(body) > record.BodyBytesMax {
		return record.Record{}, fmt.Errorf("%w: body of %d bytes", ErrRefused, len(body))
	}
	if body == nil {
		body = []byte{}
	}
	r := record.Sign(record.Core{Epoch: own.id, Lane: d.Lane, N: pos.N, Prev: f.Held.RID, HLC: t.tick(own.hlc), Clock: uint8(own.clock.Load()), Kind: d.Kind,
		Session: d.Session, Size: t.next.ledger.Edge.Size, Compartment: d.Compartment, Ext: d.Ext}, body, own.author.Key)
	t.s.verified.add(&r)
	return r, t.addPending(&r, own.author.Device)
}
