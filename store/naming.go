package store

import (
	"encoding/binary"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// A record whose own row is spoiled is still named: its neighbours know its rid.

// namedMax bounds the entries that are looked up backwards, each of which reads
// the whole index of positions.
const namedMax = 100

// namedEntry completes an error about an entry that cannot be read.
func (v *verifier) namedEntry(err error, seq uint64) error {
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	c := *d
	c.Seq, c.HasSeq = seq, true
	if v.lookups++; v.lookups <= namedMax {
		readErr := v.s.read(func(l lookup) error {
			if p, ok := l.positionOf(seq); ok {
				c.RID, c.Device = l.ridAt(p)
			}
			c.Time = l.timeNear(seq)
			return nil
		})
		if readErr != nil {
			return readErr
		}
	}
	return &c
}

// timeNear is the ledger time of the last entry before seq that can be read, which
// is at most that of entry seq; 0 when there is none close.
func (l lookup) timeNear(seq uint64) int64 {
	for n := range uint64(tileHashes) {
		if n >= seq {
			break
		}
		if e, err := l.entry(seq-1-n, false); err == nil {
			return e.Time
		}
	}
	return 0
}

// namedPending completes an error about a pending record that cannot be read.
func (l lookup) namedPending(err error, p record.Position) error {
	var d *DamageError
	if !errors.As(err, &d) || d.RID != (record.RID{}) {
		return err
	}
	c := *d
	c.RID, c.Device = l.ridAt(p)
	return &c
}

// positionOf finds the position whose entry has a seq; what cannot be read on
// the way is reported elsewhere.
func (l lookup) positionOf(seq uint64) (p record.Position, found bool) {
	err := l.rows.(*view).scanRaw([]byte{pPosition}, nil, false, func(key, row []byte) (bool, error) {
		value, err := openRow(key, row)
		if err == nil && len(value) == 8 && len(key) == 1+positionBytes && binary.BigEndian.Uint64(value) == seq {
			p, found = positionFrom(key[1:]), true
		}
		return !found, nil
	})
	if err == nil && !found {
		err = l.rows.(*view).scanRaw([]byte{pEpoch}, nil, false, func(key, _ []byte) (bool, error) {
			id := record.EpochID(key[1:])
			if e, ok, err := l.epoch(id); err == nil && ok && e.Ordered && e.Seq == seq {
				p, found = record.Position{Epoch: id}, true
			}
			return !found, nil
		})
	}
	return p, found && err == nil
}

// ridAt is what others say of the record at a position: the epoch of its opening
// record, the heads of the feed of its last one, the next one of any other.
func (l lookup) ridAt(p record.Position) (record.RID, record.DeviceID) {
	e, ok, err := l.epoch(p.Epoch)
	if err != nil || !ok {
		return record.RID{}, record.DeviceID{}
	}
	if p.N == 0 {
		return e.Opening, e.Device
	}
	if f, ok, err := l.feed(p.Feed()); err == nil && ok {
		for _, h := range []record.Head{f.Ordered, f.Held} {
			if h.N == p.N {
				return h.RID, e.Device
			}
		}
	}
	p.N++
	if next, ok, err := l.pending(p); err == nil && ok {
		return next.Record.Core.Prev, e.Device
	}
	if seq, ok, err := l.seqAt(p); err == nil && ok {
		if next, err := l.entry(seq, false); err == nil {
			return next.Record.Core.Prev, e.Device
		}
	}
	return record.RID{}, e.Device
}
