package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

func lostWork(err error, d *DamageError, f record.Feed, device record.DeviceID) error {
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	return withDevice(lost(d, keyFeed(pWork, f), nil), device)
}

// headless is damage of a feed's row, with what the row should be: the ordered
// head by the ledger, and as held the end of the unbroken chain behind it.
func (l lookup) headless(f record.Feed, ordered record.Head, what string, device record.DeviceID) error {
	row := feedRow{Ordered: ordered, Held: ordered}
	for {
		p, ok, err := l.pending(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: row.Held.N + 1})
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if err != nil || !ok || p.Record.Core.Prev != row.Held.RID {
			break
		}
		row.Held = record.Head{N: row.Held.N + 1, RID: p.Record.RID()}
	}
	key := keyFeed(pFeed, f)
	fix := lost(damagedRow(key, what), key, row.encode())
	if row.Held.N == 0 { // a feed without records has no row
		fix = strayRow(key)
	}
	return withDevice(fix, device)
}

// work checks that every feed on the work list holds an unbroken chain, and that
// the list in memory is that of the rows.
func (v *verifier) work(l lookup) error {
	st := &state{members: l.st.members}
	if err := loadWork(lookup{l.rows, st}); err == nil && !slices.Equal(st.work, l.st.work) {
		if err := v.note(&DamageError{Key: "work list", What: "work list is not what the store wrote"}); err != nil {
			return err
		}
	}
	return v.scan(l, pWork, func(key, value []byte) error {
		if len(key) != 18 || len(value) != 0 {
			return strayRow(key)
		}
		f := feedFrom(key[1:])
		e, known, err := l.epoch(f.Epoch)
		if err != nil {
			return err
		}
		row, ok, err := l.feed(f)
		switch {
		case errors.Is(err, ErrDamaged) && known && !v.broken:
			want, ordered := v.mem.heads[f]
			if !ordered {
				want = record.Head{RID: e.Opening}
			}
			return l.headless(f, want, "feed", e.Device)
		case err != nil:
			return err
		case !ok || !known, row.Held == row.Ordered && (f.Lane != record.LaneControl || !e.open()):
			return strayRow(key)
		}
		last := row.Ordered
		for n := row.Ordered.N + 1; n <= row.Held.N; n++ {
			pos := record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n}
			p, ok, err := l.pending(pos)
			if err == nil && !ok {
				err = damagedRow(key, fmt.Sprintf("pending record at n %d is missing", n))
			}
			if err == nil && p.Record.Core.Prev != last.RID {
				err = &DamageError{What: "pending record does not continue its feed", RID: p.Record.RID()}
			}
			if err != nil {
				return v.cut(l, withDevice(l.namedPending(err, pos), e.Device), f, row)
			}
			last = record.Head{N: n, RID: p.Record.RID()}
		}
		if last != row.Held {
			return l.headless(f, row.Ordered, "held head of the feed", e.Device)
		}
		return nil
	})
}

// cut decides what to do about a feed whose pending chain is broken. Where nothing
// says that there ever was a record at its end, the row is wrong. Otherwise a
// record is lost: the feed then ends before it, so that a peer can give it again,
// but never one that this process may append to.
func (v *verifier) cut(l lookup, broken error, f record.Feed, row feedRow) error {
	var d *DamageError
	if !errors.As(broken, &d) {
		return broken
	}
	end := record.Position{Epoch: f.Epoch, Lane: f.Lane, N: row.Held.N}
	at, ok, err := l.locate(row.Held.RID)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	wrong := err == nil && (!ok || !at.Pending || at.Position != end)
	if !wrong && (v.fix == nil || v.s.own != nil && v.s.own.id == f.Epoch) { // v.fix is set with the write mutex held
		return d
	}
	err = l.headless(f, row.Ordered, d.What, d.Device)
	var fix *fixable
	if !wrong && errors.As(err, &fix) {
		return &fixable{DamageError: d, key: fix.key, value: fix.value}
	}
	return err
}

// pendingRows checks every pending record by itself, and that it is found.
func (v *verifier) pendingRows(l lookup) error {
	return v.scan(l, pPending, func(key, value []byte) error {
		v.rep.Pending++
		p, err := decodePendingRow(value)
		if err == nil && !bytes.Equal(keyPosition(pPending, p.Record.Position()), key) {
			err = fmt.Errorf("%w: another position", record.ErrMalformed)
		}
		if err != nil {
			return l.unaccounted(key, damagedRow(key, err.Error()))
		}
		if p.Record.Core.Kind == record.KindEpochOpen {
			if err := l.pendingEpoch(&p.Record); err != nil {
				return err
			}
		}
		e, ok, err := l.epoch(p.Record.Position().Epoch)
		if err != nil {
			return err
		}
		damage := func(what string) *DamageError {
			return &DamageError{Key: fmt.Sprintf("%q", key), What: what, RID: p.Record.RID(), Device: e.Device}
		}
		if !ok || p.Record.VerifySignature(e.Device) != nil {
			return l.unaccounted(key, damage("pending record's signature does not match"))
		}
		return l.pendingFound(&p, &e, damage)
	})
}

// unaccounted is damage of a row under pending that holds no record of anybody. It
// may go when no feed says that there is one.
func (l lookup) unaccounted(key []byte, d *DamageError) error {
	if len(key) != 1+positionBytes || key[17] >= record.LaneCount {
		return &fixable{DamageError: d, key: key}
	}
	pos := positionFrom(key[1:])
	e, known, err := l.epoch(pos.Epoch)
	if err != nil {
		return d
	}
	f, _, err := l.feed(pos.Feed())
	if err == nil && (!known || pos.N > f.Held.N || pos.N > 0 && pos.N <= f.Ordered.N || pos.N == 0 && e.Ordered) {
		return &fixable{DamageError: d, key: key}
	}
	return d
}

// pendingEpoch checks the epoch of an opening record that is pending.
func (l lookup) pendingEpoch(r *record.Record) error {
	open, err := record.DecodeEpochOpen(r.Body)
	if err != nil || r.VerifySignature(record.DeviceID(open.Device)) != nil {
		return nil // reported
	}
	key := keyEpoch(r.OpenedEpoch())
	e, ok, err := l.epoch(r.OpenedEpoch())
	if errors.Is(err, ErrDamaged) || err == nil && (!ok || e.Opening != r.RID() || e.Device != record.DeviceID(open.Device)) {
		row := epochRow{Device: record.DeviceID(open.Device), Opening: r.RID()}
		d := damagedRow(key, "table of epochs")
		d.RID, d.Device = r.RID(), row.Device
		return lost(d, key, row.encode())
	}
	return err
}

// pendingFound says which index misses a pending record, or that its feed does.
func (l lookup) pendingFound(p *pendingRow, e *epochRow, damage func(string) *DamageError) error {
	r := &p.Record
	pos := r.Position()
	row, ok, err := l.locate(r.RID())
	if err == nil && ok && !row.Pending {
		return &fixable{DamageError: damage("it is an entry and pending as well"), key: keyPosition(pPending, pos), aside: true}
	}
	if errors.Is(err, ErrDamaged) || err == nil && (!ok || row.Position != pos) {
		at := ridRow{Pending: true, Position: pos}
		return lost(damage("index of record ids does not find a pending record"), keyIndexRID(r.RID()), at.encode())
	}
	if err != nil {
		return err
	}
	a := arrivalRow{RID: r.RID(), Pending: true}
	if err := l.sameRow(keySeq(pArrival, p.Arrival), a.encode(), damage("list of arrivals misses a pending record")); err != nil {
		var f *fixable
		if errors.As(err, &f) {
			err = &fixable{DamageError: f.DamageError, key: keyPosition(pPending, pos), arrive: &a}
		}
		return err
	}
	if c := r.Core.Compartment; !c.IsZero() {
		if err := l.sameRow(keyScopePending(c, pos), nil, damage("index of its compartment misses a pending record")); err != nil {
			return err
		}
	}
	f, _, err := l.feed(pos.Feed())
	if err != nil {
		return err
	}
	if held := pos.N > f.Ordered.N && pos.N <= f.Held.N || pos.N == 0 && !e.Ordered && e.Opening == r.RID(); !held {
		_, refused, err := l.get(keyRID(pRefused, r.RID()))
		inHole := l.st.absent > 0 && pos.N > 0 && pos.N <= f.Ordered.N // its place is, until it is filled
		if err == nil && !refused && !inHole {
			err = &fixable{DamageError: damage("pending record that its feed does not account for"), key: keyPosition(pPending, pos), aside: true}
		}
		return err
	}
	if _, ok, err := l.get(keyFeed(pWork, pos.Feed())); err != nil || !ok {
		return lostWork(err, damage("work list misses a pending record"), pos.Feed(), e.Device)
	}
	return nil
}

// scopesOfPending checks the index of the compartments of pending records.
func (v *verifier) scopesOfPending(l lookup) error {
	return v.scan(l, pScopeOpen, func(key, value []byte) error {
		if len(key) != 17+positionBytes || len(value) != 0 {
			return strayRow(key)
		}
		pos := positionFrom(key[17:])
		p, ok, err := l.pending(pos)
		if err != nil {
			return l.namedPending(err, pos)
		}
		if !ok || !bytes.Equal(p.Record.Core.Compartment[:], key[1:17]) {
			return strayRow(key)
		}
		return nil
	})
}
