package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Entries gives entries [from, to) in order, with bodies, at least one when there
// is one and then at most about bytesMax. It ends early at the ledger's end and at a
// hole; ErrHole when from lies in one.
func (s *Store) Entries(from, to uint64, bytesMax int) ([]record.Entry, error) {
	var out []record.Entry
	err := s.read(func(l lookup) error {
		to = min(to, l.Size())
		for seq, bytes := from, 0; seq < to; seq++ {
			e, err := l.entry(seq, true)
			if errors.Is(err, ErrHole) && len(out) > 0 {
				return nil
			}
			if err != nil {
				return err
			}
			bytes += len(e.Record.Body) + record.HeaderBytesMax
			if len(out) > 0 && bytes > bytesMax {
				return nil
			}
			out = append(out, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading entries: %w", err)
	}
	return out, nil
}

// Entry gives an entry with its body. ErrNotFound past the end.
func (s *Store) Entry(seq uint64) (e record.Entry, err error) {
	err = s.read(func(l lookup) error {
		if seq >= l.Size() {
			return fmt.Errorf("reading entry %d: %w", seq, ErrNotFound)
		}
		e, err = l.entry(seq, true)
		return err
	})
	return e, err
}

// Location is where a record is.
type Location struct {
	Pending  bool
	Seq      uint64 // when not pending
	Time     int64  // ledger time in Unix seconds, when not pending
	Position record.Position
}

// Locate finds a record by its id, pending or ordered.
func (s *Store) Locate(rid record.RID) (loc Location, ok bool, err error) {
	err = s.read(func(l lookup) error {
		row, found, err := l.locate(rid)
		if err != nil || !found {
			return err
		}
		r, e, same, err := l.recordAt(rid, row, false)
		if err != nil || !same {
			return err
		}
		loc, ok = Location{Pending: row.Pending, Seq: row.Seq, Time: e.Time, Position: r.Position()}, true
		return nil
	})
	return loc, ok, err
}

// ByRID gives a record with its body: ordered, pending, or refused.
func (s *Store) ByRID(rid record.RID) (r record.Record, ok bool, err error) {
	err = s.read(func(l lookup) error {
		row, found, err := l.locate(rid)
		if err != nil {
			return err
		}
		if found {
			r, _, ok, err = l.recordAt(rid, row, true)
			return err
		}
		ref, found, err := l.refusal(rid)
		r, ok = ref.Record, found
		return err
	})
	return r, ok, err
}

// ByPosition gives the record of a position with its body and, when it is
// ordered, its entry's seq.
func (s *Store) ByPosition(p record.Position) (x Placed, ok bool, err error) {
	err = s.read(func(l lookup) error {
		r, seq, ordered, found, err := l.held(p, true)
		if err == nil && found && ordered {
			x, ok = Placed{Seq: seq, Ordered: true}, true
			var e record.Entry
			e, err = l.entry(seq, false)
			x.Time, x.Record = e.Time, r
			return err
		}
		x, ok = Placed{Record: r}, found
		return err
	})
	return x, ok, err
}

// Placed is a record with its place, if it has one.
type Placed struct {
	Record  record.Record
	Ordered bool
	Seq     uint64 // when Ordered
	Time    int64  // ledger time in Unix seconds, when Ordered
}

// compartmentMax bounds how many records of one compartment are read at once.
const compartmentMax = 100_000

// Compartment gives the records of a compartment with their bodies: ordered ones
// by seq, then pending ones by feed and n.
func (s *Store) Compartment(id record.CompartmentID) ([]Placed, error) {
	var out []Placed
	err := s.read(func(l lookup) error {
		v := l.rows.(*view)
		err := v.scan(append([]byte{pScope}, id[:]...), nil, false, func(key, _ []byte) (bool, error) {
			e, err := l.entry(binary.BigEndian.Uint64(key[17:]), true)
			out = append(out, Placed{Record: e.Record, Ordered: true, Seq: e.Seq, Time: e.Time})
			return err == nil && len(out) < compartmentMax, err
		})
		if err != nil {
			return err
		}
		return v.scan(append([]byte{pScopeOpen}, id[:]...), nil, false, func(key, _ []byte) (bool, error) {
			p, ok, err := l.pending(positionFrom(key[17:]))
			if err == nil && !ok {
				err = damagedRow(key, "pending record is missing")
			}
			out = append(out, Placed{Record: p.Record})
			return err == nil && len(out) < compartmentMax, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading compartment: %w", err)
	}
	return out, nil
}

// Compartments lists the compartments that records held here belong to.
func (s *Store) Compartments() ([]record.CompartmentID, error) {
	var out []record.CompartmentID
	seen := map[record.CompartmentID]bool{}
	add := func(key, _ []byte) (bool, error) {
		if len(key) < 17 {
			return false, damagedRow(key, "compartment index")
		}
		if c := record.CompartmentID(key[1:17]); !seen[c] {
			seen[c] = true
			out = append(out, c)
		}
		return true, nil
	}
	err := s.read(func(l lookup) error {
		v := l.rows.(*view)
		if err := v.scan([]byte{pScopeLast}, nil, false, add); err != nil {
			return err
		}
		return v.scan([]byte{pScopeOpen}, nil, false, add)
	})
	if err != nil {
		return nil, fmt.Errorf("listing compartments: %w", err)
	}
	return out, nil
}

// EpochAuthor is the device that an epoch belongs to, ordered or pending.
func (s *Store) EpochAuthor(id record.EpochID) (d record.DeviceID, ok bool, err error) {
	err = s.read(func(l lookup) error {
		e, found, err := l.epoch(id)
		d, ok = e.Device, found
		return err
	})
	return d, ok, err
}

// Members lists the member table, by admission.
func (s *Store) Members() ([]record.Member, error) {
	return append([]record.Member(nil), s.shown.Load().state.members.list...), nil
}

// Member gives one member.
func (s *Store) Member(d record.DeviceID) (record.Member, bool, error) { return State{s}.Member(d) }

// Hubs are the active members that order, by admission.
func (s *Store) Hubs() []record.DeviceID {
	return append([]record.DeviceID(nil), s.shown.Load().state.members.hubs...)
}

// Region is the region that the ledger founded; ok false before.
func (s *Store) Region() (id record.RegionID, name string, ok bool) {
	r := s.shown.Load().state.region
	return r.id, r.name, r.ok
}

// Arrival is a record that became visible: saved here, taken in, or ordered. A
// record that was pending and is ordered arrives anew under a higher number, and
// the lower one is gone.
type Arrival struct {
	N       uint64
	RID     record.RID
	Pending bool
	Seq     uint64 // when not pending
}

// Arrivals gives arrivals from number n on, in order, at most max. Numbers start
// at 1 and have gaps.
func (s *Store) Arrivals(n uint64, max int) ([]Arrival, error) {
	var out []Arrival
	err := s.read(func(l lookup) error {
		if n > l.st.arrived || max <= 0 {
			return nil
		}
		return l.rows.(*view).scan([]byte{pArrival}, keySeq(pArrival, n), false, func(key, value []byte) (bool, error) {
			a, err := decodeArrivalRow(value)
			if err != nil || len(key) != 9 {
				return false, damagedRow(key, "arrival")
			}
			out = append(out, Arrival{binary.BigEndian.Uint64(key[1:]), a.RID, a.Pending, a.Seq})
			return len(out) < max, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading arrivals: %w", err)
	}
	return out, nil
}

// Arrived is the last arrival number, 0 when there is none.
func (s *Store) Arrived() uint64 { return s.shown.Load().state.arrived }

// PutFinal keeps a final checkpoint that the caller verified, durable on return.
// An older one changes nothing; another note of the same head takes its place: the
// hubs sign an unchanged ledger anew. ErrRefused when the ledger held here has
// another root, or is shorter.
func (s *Store) PutFinal(note []byte, head record.TreeHead) error {
	t, err := s.begin(nil)
	if err != nil {
		return fmt.Errorf("keeping checkpoint: %w", err)
	}
	had := t.next.final
	if again := head == had.head && !bytes.Equal(note, had.note); had.ok && head.Size <= had.head.Size && !again {
		same := head.Size < t.next.final.head.Size || head.Root == t.next.final.head.Root
		t.drop()
		if !same {
			return fmt.Errorf("keeping checkpoint: %w: two roots for size %d", ErrRefused, head.Size)
		}
		return nil
	}
	root, err := t.lookup().rootAt(head.Size)
	if err == nil && root != head.Root {
		err = fmt.Errorf("%w: another root for size %d", ErrRefused, head.Size)
	}
	if err == nil && t.next.floor.ok && head.Size >= t.next.floor.head.Size {
		err = t.reachFloor()
	}
	if err != nil {
		t.drop()
		return fmt.Errorf("keeping checkpoint: %w", err)
	}
	t.next.final = final{append([]byte(nil), note...), head, true}
	t.put(keyFinal, encodeHead(head, note))
	return t.commit()
}

// Final is the newest final checkpoint kept.
func (s *Store) Final() (note []byte, head record.TreeHead, ok bool) {
	f := s.shown.Load().state.final
	return f.note, f.head, f.ok
}

// PutSigned notes, durable on return, that this hub is about to cosign head.
// Everything before it is durable then too. ErrRefused for a smaller size, for a
// second root of a size, and for a tree that is not the one held here.
func (s *Store) PutSigned(head record.TreeHead) error {
	t, err := s.begin(nil)
	if err != nil {
		return fmt.Errorf("noting a cosignature: %w", err)
	}
	last := t.next.signed
	root, err := t.lookup().rootAt(head.Size)
	if err == nil && (root != head.Root || head.Size < last.Size || head.Size == last.Size && last != (record.TreeHead{}) && last.Root != head.Root) {
		err = fmt.Errorf("%w: size %d after size %d, or another root", ErrRefused, head.Size, last.Size)
	}
	if floor := t.next.floor; err == nil && floor.ok {
		if err = fmt.Errorf("%w: size %d, but a ledger of size %d was known", ErrRefused, head.Size, floor.head.Size); head.Size >= floor.head.Size {
			err = t.reachFloor()
		}
	}
	if err != nil {
		t.drop()
		return fmt.Errorf("noting a cosignature: %w", err)
	}
	t.next.signed = head
	t.put(keySigned, encodeHead(head, nil))
	return t.commit()
}

// reachFloor lets the ledger go past the longer one that was known before the
// store was rebuilt, when it grew into that.
func (t *tx) reachFloor() error {
	f := t.next.floor
	root, err := t.lookup().rootAt(f.head.Size)
	if err == nil && root != f.head.Root {
		err = fmt.Errorf("%w: before the store was rebuilt size %d had another root", ErrRefused, f.head.Size)
	}
	if err == nil {
		t.next.floor = final{}
		t.unset(keyFloor)
	}
	return err
}

// Floor is the head of the longer ledger that was known here before the store was
// rebuilt, with its final checkpoint unless it was only cosigned: until the ledger
// has grown into it this box cosigns nothing.
func (s *Store) Floor() (note []byte, head record.TreeHead, ok bool) {
	f := s.shown.Load().state.floor
	return f.note, f.head, f.ok
}

// Signed is the last head that PutSigned noted; zero when there is none.
func (s *Store) Signed() record.TreeHead { return s.shown.Load().state.signed }
