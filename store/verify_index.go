package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"

	"github.com/healthpost/healthpost/record"
)

// rowSum is a sum over a set of rows that does not depend on their order.
type rowSum struct{ n, a, b uint64 }

func (s *rowSum) add(seeds [2]maphash.Seed, row []byte) {
	s.n++
	s.a += maphash.Bytes(seeds[0], row)
	s.b += maphash.Bytes(seeds[1], row)
}

func (s *rowSum) merge(o rowSum) { s.n, s.a, s.b = s.n+o.n, s.a+o.a, s.b+o.b }

// indexSums are the sums over the index rows of entries.
type indexSums struct{ position, rid, scope, arrival rowSum }

func (s *indexSums) merge(o *indexSums) {
	s.position.merge(o.position)
	s.rid.merge(o.rid)
	s.scope.merge(o.scope)
	s.arrival.merge(o.arrival)
}

// addEntry adds the index rows that an entry calls for.
func (s *indexSums) addEntry(seeds [2]maphash.Seed, e *record.Entry) {
	var b [40]byte
	pos, rid := e.Record.Position(), e.Record.RID()
	if pos.N > 0 {
		s.position.add(seeds, binary.BigEndian.AppendUint64(append(b[:0], keyPosition(0, pos)[1:]...), e.Seq))
	}
	s.rid.add(seeds, binary.BigEndian.AppendUint64(append(b[:0], rid[:16]...), e.Seq))
	if c := e.Record.Core.Compartment; !c.IsZero() {
		s.scope.add(seeds, binary.BigEndian.AppendUint64(append(b[:0], c[:]...), e.Seq))
	}
	s.arrival.add(seeds, binary.BigEndian.AppendUint64(append(b[:0], rid[:]...), e.Seq))
}

// index is one kind of row that leads to entries.
type index struct {
	prefix byte
	name   string
	sum    func(*indexSums) *rowSum
	// read gives the entry that a row leads to and what the row says of it, as it is
	// summed; ok false when the row leads to something pending.
	read func(key, value []byte) (says []byte, seq uint64, ok bool, err error)
	// fits says whether an entry calls for a row that says this.
	fits func(e *record.Entry, says []byte) bool
	// expects says whether an entry calls for a row of this kind, and under which
	// key; nil when the key cannot be computed.
	expects func(e *record.Entry) (key []byte, ok bool)
	// value is what that row holds.
	value func(e *record.Entry) []byte
}

var errRow = errors.New("row of an index cannot be read")

func indexes() []index {
	return []index{
		{prefix: pPosition, name: "index of positions does not find it", sum: func(s *indexSums) *rowSum { return &s.position },
			read: func(key, value []byte) ([]byte, uint64, bool, error) {
				if len(key) != 1+positionBytes || len(value) != 8 {
					return nil, 0, false, errRow
				}
				return key[1:], binary.BigEndian.Uint64(value), true, nil
			},
			fits: func(e *record.Entry, says []byte) bool {
				return bytes.Equal(keyPosition(0, e.Record.Position())[1:], says) && e.Record.Position().N > 0
			},
			expects: func(e *record.Entry) ([]byte, bool) {
				return keyPosition(pPosition, e.Record.Position()), e.Record.Position().N > 0
			},
			value: func(e *record.Entry) []byte { return binary.BigEndian.AppendUint64(nil, e.Seq) }},
		{prefix: pRID, name: "index of record ids does not find it", sum: func(s *indexSums) *rowSum { return &s.rid },
			read: func(key, value []byte) ([]byte, uint64, bool, error) {
				row, err := decodeRIDRow(value)
				if len(key) != 17 || err != nil {
					return nil, 0, false, errRow
				}
				return key[1:], row.Seq, !row.Pending, nil
			},
			fits:    func(e *record.Entry, says []byte) bool { rid := e.Record.RID(); return bytes.Equal(rid[:16], says) },
			expects: func(e *record.Entry) ([]byte, bool) { return keyIndexRID(e.Record.RID()), true },
			value:   func(e *record.Entry) []byte { at := ridRow{Seq: e.Seq}; return at.encode() }},
		{prefix: pScope, name: "index of its compartment misses it", sum: func(s *indexSums) *rowSum { return &s.scope },
			read: func(key, value []byte) ([]byte, uint64, bool, error) {
				if len(key) != 25 || len(value) != 0 {
					return nil, 0, false, errRow
				}
				return key[1:17], binary.BigEndian.Uint64(key[17:]), true, nil
			},
			fits: func(e *record.Entry, says []byte) bool { return bytes.Equal(e.Record.Core.Compartment[:], says) },
			expects: func(e *record.Entry) ([]byte, bool) {
				c := e.Record.Core.Compartment
				return keyScope(c, e.Seq), !c.IsZero()
			},
			value: func(*record.Entry) []byte { return []byte{} }},
		{prefix: pArrival, name: "list of arrivals misses it", sum: func(s *indexSums) *rowSum { return &s.arrival },
			read: func(key, value []byte) ([]byte, uint64, bool, error) {
				a, err := decodeArrivalRow(value)
				if len(key) != 9 || err != nil {
					return nil, 0, false, errRow
				}
				return value[:32], a.Seq, !a.Pending, nil
			},
			fits:    func(e *record.Entry, says []byte) bool { rid := e.Record.RID(); return bytes.Equal(rid[:], says) },
			expects: func(*record.Entry) ([]byte, bool) { return nil, true }},
	}
}

// indexes reads every row that leads to an entry and compares the sums. Only when
// they differ is each row, and then each entry, looked up.
func (v *verifier) indexes(ctx context.Context) error {
	for _, ix := range indexes() {
		var have rowSum
		var b [40]byte
		err := v.sweep(ctx, ix.prefix, func(l lookup, key, value []byte) error {
			says, seq, ordered, err := ix.read(key, value)
			switch {
			case err != nil:
				return &fixable{DamageError: damagedRow(key, err.Error()), key: key}
			case !ordered:
				return l.leadsToPending(key, value)
			case seq >= v.whole:
				return l.leadsToEntry(&ix, key, says, seq)
			}
			have.add(v.seeds, binary.BigEndian.AppendUint64(append(b[:0], says...), seq))
			return nil
		})
		if err == nil && have != *ix.sum(&v.want) {
			err = v.trace(ctx, &ix)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// leadsToPending checks a row of the record ids or of the arrivals that says a
// record is pending.
func (l lookup) leadsToPending(key, value []byte) error {
	var pos record.Position
	if key[0] == pArrival {
		a, err := decodeArrivalRow(value)
		if err != nil {
			return strayRow(key)
		}
		row, ok, err := l.locate(a.RID)
		if err != nil {
			return err
		}
		if !ok || !row.Pending {
			return strayRow(key)
		}
		pos = row.Position
	} else if row, err := decodeRIDRow(value); err == nil {
		pos = row.Position
	}
	p, ok, err := l.pending(pos)
	if err != nil {
		return l.namedPending(err, pos)
	}
	rid := p.Record.RID()
	fits := ok
	if key[0] == pArrival {
		fits = fits && p.Arrival == binary.BigEndian.Uint64(key[1:]) && bytes.Equal(rid[:], value[:32])
	} else {
		fits = fits && bytes.Equal(rid[:16], key[1:])
	}
	if !fits {
		return strayRow(key)
	}
	return nil
}

// leadsToEntry checks a row that leads to an entry by looking it up.
func (l lookup) leadsToEntry(ix *index, key, says []byte, seq uint64) error {
	if seq >= l.Size() {
		return strayRow(key)
	}
	e, err := l.entry(seq, false)
	if err == nil && !ix.fits(&e, says) {
		err = strayRow(key)
	}
	return err
}

// trace names what is wrong with an index: rows that no entry accounts for, and
// entries without their row.
func (v *verifier) trace(ctx context.Context, ix *index) error {
	found := make([]byte, (v.whole+7)/8)
	err := v.sweep(ctx, ix.prefix, func(l lookup, key, value []byte) error {
		says, seq, ordered, err := ix.read(key, value)
		if err != nil || !ordered || seq >= v.whole {
			return nil // seen before
		}
		e, err := l.entry(seq, false)
		if err != nil {
			return nil // the entry is reported
		}
		if !ix.fits(&e, says) || found[seq/8]>>(seq%8)&1 == 1 {
			return strayRow(key)
		}
		found[seq/8] |= 1 << (seq % 8)
		return nil
	})
	if err != nil {
		return err
	}
	for from := uint64(0); from < v.whole; from += tileHashes {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := v.see(func(l lookup) error {
			for seq := from; seq < min(from+tileHashes, v.whole); seq++ {
				if found[seq/8]>>(seq%8)&1 == 0 {
					if err := v.note(v.missing(l, ix, seq)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// missing is damage when an entry has no row in an index.
func (v *verifier) missing(l lookup, ix *index, seq uint64) error {
	e, err := l.entry(seq, false)
	if err != nil {
		return nil // the entry is reported
	}
	key, ok := ix.expects(&e)
	if !ok {
		return nil
	}
	if key != nil { // a scan ends at a damaged block, a lookup goes past it
		value, ok, err := l.get(key)
		if err == nil && ok {
			if says, at, ordered, rerr := ix.read(key, value); rerr == nil && ordered && at == seq && ix.fits(&e, says) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	d := v.named(&e, ix.name)
	if key == nil {
		return &fixable{DamageError: d, arrive: &arrivalRow{RID: e.Record.RID(), Seq: seq}}
	}
	return lost(d, key, ix.value(&e))
}

// sweep calls f for every row of a kind, under one snapshot after another, and
// notes damage of a row or found by f.
func (v *verifier) sweep(ctx context.Context, prefix byte, f func(l lookup, key, value []byte) error) error {
	var from []byte
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := v.see(func(l lookup) error {
			last, err := v.sweepSome(l, prefix, from, f)
			more = last != nil
			from = append(last, 0)
			return err
		})
		if err != nil {
			return err
		}
		v.pause()
	}
	return nil
}

// computedRows are the kinds of rows that are written again where they are
// missing, acknowledgements, which peers give again, and refusals, of which nothing
// is left then.
var computedRows = []byte{pPosition, pRID, pFeed, pWork, pEpoch, pMember, pRegistry, pScope, pScopeOpen, pScopeLast, pTile, pArrival, pAck, pRefused}

// sweepSome reads some rows and gives the last key, nil after the end.
func (v *verifier) sweepSome(l lookup, prefix byte, from []byte, f func(l lookup, key, value []byte) error) ([]byte, error) {
	var last []byte
	full := false
	begun := v.read
	err := l.rows.(*view).scanRaw([]byte{prefix}, from, false, func(key, row []byte) (bool, error) {
		last = key
		v.rep.Rows++
		v.read += len(key) + len(row)
		value, err := openRow(key, row)
		if err == nil {
			err = f(l, key, value)
		} else if bytes.IndexByte(computedRows, prefix) >= 0 || bytes.HasPrefix(key, ownPrefix) {
			err = &fixable{DamageError: damagedRow(key, "row does not match its hash"), key: key}
		}
		if err := v.note(err); err != nil {
			return false, err
		}
		full = v.read-begun > verifyViewBytes
		return !full, nil
	})
	if errors.Is(err, ErrDamaged) && last != nil { // a row that the index cannot read: go on behind it
		return last, v.note(err)
	}
	if full {
		return last, err
	}
	return nil, v.note(err)
}
