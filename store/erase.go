package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// A body that is erased leaves an empty row, so that one that was lost and one that
// was erased differ. What is erased stands in the registry. Entries of a ledger may
// come without erasable bodies before the entry that erased them: until that is here,
// or when there is none, the body is awaited (rows of the kind v), and any peer may
// give it (Repair).
//
// A pending record keeps its body until it has a place: the ordering rules of every
// release compare it with the header. It goes in the transaction that gives the place.

// keyScoured is the row that says before which seq the files are cleared of what
// was erased.
var keyScoured = []byte("mscoured")

func keyAwaited(seq uint64) []byte { return keySeq(pAwaited, seq) }

// erased is what bodies this replica does without; replaced, never changed. A nil
// one erases nothing.
type erased struct {
	targets map[string]uint64 // a compartment or a rid: seq of the entry that erased it
	last    uint64            // one past the newest of these seqs
	scoured uint64            // erasures before this seq are gone from the files as well
}

// covers says whether the body of a record is erased.
func (e *erased) covers(r *record.Record) bool {
	if e == nil || len(e.targets) == 0 || !r.Core.Erasable() {
		return false
	}
	if _, ok := e.targets[string(r.Core.Compartment[:])]; ok {
		return true
	}
	rid := r.RID()
	_, ok := e.targets[string(rid[:])]
	return ok
}

// with is what is erased after one more erasure.
func (e *erased) with(target []byte, seq uint64) *erased {
	next := &erased{targets: map[string]uint64{string(target): seq}, last: seq + 1}
	if e == nil {
		return next
	}
	for t, s := range e.targets {
		next.targets[t] = s
	}
	next.last, next.scoured = max(next.last, e.last), e.scoured
	return next
}

// loadErased reads what is erased.
func loadErased(l lookup) error {
	var e *erased
	err := l.rows.(*view).scan(keyRegistry(record.ErasedPrefix()), nil, false, func(key, value []byte) (bool, error) {
		target, ok := record.ErasedTarget(key[1:])
		seq, err := record.ErasedBy(value)
		if !ok || err != nil {
			return false, damagedRow(key, "what is erased")
		}
		e = e.with(target, seq)
		return true, nil
	})
	if err != nil || e == nil {
		return err
	}
	b, ok, err := l.get(keyScoured)
	if err == nil && ok && len(b) != 8 {
		err = damagedRow(keyScoured, "row of what was cleared")
	}
	if err == nil && ok {
		e.scoured = binary.BigEndian.Uint64(b)
	}
	l.st.erased = e
	return err
}

// erase takes an erasure that the ledger settled: the bodies that are here go.
func (t *tx) erase(target []byte, value []byte) error {
	seq, err := record.ErasedBy(value)
	if err != nil {
		return err
	}
	t.next.erased = t.next.erased.with(target, seq)
	if len(target) == len(record.RID{}) {
		at, ok, err := t.lookup().locate(record.RID(target))
		if err != nil || !ok || at.Pending {
			return ignoreDamage(err)
		}
		return t.purge(at.Seq)
	}
	seqs, err := t.entriesOf(record.CompartmentID(target))
	for _, seq := range seqs {
		if err == nil {
			err = t.purge(seq)
		}
	}
	return err
}

// entriesOf lists the entries of a compartment, those of this transaction too.
func (t *tx) entriesOf(c record.CompartmentID) (seqs []uint64, err error) {
	prefix := append([]byte{pScope}, c[:]...)
	for key := range t.rows {
		if len(key) == 25 && key[:17] == string(prefix) {
			seqs = append(seqs, binary.BigEndian.Uint64([]byte(key[17:])))
		}
	}
	err = t.view.scan(prefix, nil, false, func(key, _ []byte) (bool, error) {
		if len(key) == 25 {
			seqs = append(seqs, binary.BigEndian.Uint64(key[17:]))
		}
		return len(seqs) < compartmentMax, nil
	})
	return seqs, err
}

// purge removes the body of an entry, and its attachments: but for Release the only
// place where what a record carried goes for good.
func (t *tx) purge(seq uint64) error {
	e, err := t.lookup().entry(seq, false)
	if errors.Is(err, ErrHole) || errors.Is(err, ErrDamaged) {
		return nil
	}
	if err != nil || !t.next.erased.covers(&e.Record) {
		return err
	}
	t.put(keySeq(pBody, seq), nil)
	t.unset(keyAwaited(seq))
	return t.dropBlobs(&e.Record)
}

// dropBlobs removes the attachments that a record announced first, or whose
// compartment it is in.
func (t *tx) dropBlobs(r *record.Record) error {
	for _, b := range r.Core.Blobs() {
		st, ok, err := t.lookup().blob(b.ID())
		if err == nil && ok && (st.RID == r.RID() || st.Compartment == r.Core.Compartment) {
			err = t.removeBlob(&st)
		}
		if err = ignoreDamage(err); err != nil {
			return err
		}
	}
	return nil
}

// putBody stores the body of a new entry: nothing of one that is erased, and of one
// that did not come what this box holds as pending.
func (t *tx) putBody(e *record.Entry) error {
	r := &e.Record
	body := r.Body
	if body == nil && r.Core.BodyLen > 0 {
		p, ok, err := t.lookup().pending(r.Position())
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err == nil && ok && p.Record.RID() == r.RID() {
			body = p.Record.Body
		}
	}
	switch {
	case t.next.erased.covers(r):
		t.clearAgain(body)
		body = nil
	case body == nil && r.Core.BodyLen > 0:
		t.put(keyAwaited(e.Seq), nil)
	}
	t.put(keySeq(pBody, e.Seq), body)
	return nil
}

// clearAgain notes that a body that is erased already was written into the files.
func (t *tx) clearAgain(body []byte) {
	if body == nil || t.next.erased.scoured == 0 {
		return
	}
	e := *t.next.erased
	e.scoured = 0
	t.next.erased = &e
	t.put(keyScoured, binary.BigEndian.AppendUint64(nil, 0))
}

// Erased says whether the body of a record is erased, here or wherever it is.
func (s *Store) Erased(r *record.Record) bool { return s.shown.Load().state.erased.covers(r) }

// ErasedCompartment says whether a compartment is, and by which entry.
func (s *Store) ErasedCompartment(c record.CompartmentID) (seq uint64, ok bool) {
	if e := s.shown.Load().state.erased; e != nil {
		seq, ok = e.targets[string(c[:])]
	}
	return seq, ok
}

// Erasures lists what the ledger settled about erasures, oldest first.
func (s *Store) Erasures() ([]record.Erasure, error) {
	var out []record.Erasure
	var bad error
	err := s.ScanRegistry(record.ErasurePrefix(), func(key, value []byte) bool {
		var e record.Erasure
		if e, bad = record.ReadErasure(key, value); bad == nil {
			out = append(out, e)
		}
		return bad == nil
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("listing erasures: %w", err)
	}
	return out, nil
}

// Attested lists the devices that attested an erasure.
func (s *Store) Attested(seq uint64) (out []record.DeviceID, err error) {
	var bad error
	err = s.ScanRegistry(record.AttestedPrefix(seq), func(key, _ []byte) bool {
		var d record.DeviceID
		if d, bad = record.AttestedDevice(key); bad == nil {
			out = append(out, d)
		}
		return bad == nil
	})
	if err := errors.Join(err, bad); err != nil {
		return nil, fmt.Errorf("listing who attested an erasure: %w", err)
	}
	return out, nil
}

// Awaited lists entries under the final checkpoint that came without a body which
// nothing erased, at most max: whoever sent them left it out.
func (s *Store) Awaited(max int) (seqs []uint64, err error) {
	final := s.shown.Load().state.final
	err = s.read(func(l lookup) error {
		return l.rows.(*view).scan([]byte{pAwaited}, nil, false, func(key, _ []byte) (bool, error) {
			if len(key) != 9 {
				return false, damagedRow(key, "list of awaited bodies")
			}
			seq := binary.BigEndian.Uint64(key[1:])
			if !final.ok || seq >= final.head.Size {
				return false, nil
			}
			seqs = append(seqs, seq)
			return len(seqs) < max, nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing awaited bodies: %w", err)
	}
	return seqs, nil
}

// awaitedRows checks the list of awaited bodies.
func (v *verifier) awaitedRows(l lookup) error {
	return v.scan(l, pAwaited, func(key, _ []byte) error {
		if len(key) != 9 {
			return strayRow(key)
		}
		e, err := l.entry(binary.BigEndian.Uint64(key[1:]), true)
		if errors.Is(err, ErrDamaged) {
			return nil // reported
		}
		if errors.Is(err, ErrHole) || err == nil && (e.Record.Body != nil || l.st.erased.covers(&e.Record)) {
			return strayRow(key)
		}
		v.rep.Awaited++
		return err
	})
}
