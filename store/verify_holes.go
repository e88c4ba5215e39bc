package store

import (
	"bytes"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// orderer judges entries by what the replay knows.
func (v *verifier) orderer(verified func(record.RID, [64]byte) bool) *record.Orderer {
	o := record.NewOrderer(v.mem, verified)
	o.Bare()
	if v.gone > 0 {
		o.Sparse()
	}
	return o
}

// judged runs the ordering rules over one entry, as far as those before it are
// held.
func (v *verifier) judged(o *record.Orderer, e *record.Entry) (record.Outcome, error) {
	if v.gone == 0 {
		return o.Add(e.Time, e.Record)
	}
	if e.Record.Core.Kind != record.KindEpochOpen {
		if err := v.looseEpoch(e.Record.Core.Epoch); err != nil {
			return record.Outcome{}, err
		}
	}
	c := e.Record.Core.Compartment
	if !c.IsZero() && e.PrevSeq > 0 && e.PrevSeq <= e.Seq {
		held := false
		err := v.see(func(l lookup) (err error) {
			_, held, err = l.get(keySeq(pEntry, e.PrevSeq-1))
			return err
		})
		if err != nil && !errors.Is(err, ErrDamaged) {
			return record.Outcome{}, err
		}
		if err == nil && !held {
			v.behind[string(keyMissing(c, e.PrevSeq-1))] = true
		}
	}
	return o.Place(e)
}

// looseEpoch takes up an epoch whose opening record is held by itself.
func (v *verifier) looseEpoch(id record.EpochID) error {
	if _, ok := v.mem.epochs[id]; ok {
		return nil
	}
	return v.see(func(l lookup) error {
		r, ok, err := l.loose(record.Position{Epoch: id})
		if err != nil || !ok {
			return err
		}
		open, err := record.DecodeEpochOpen(r.Body)
		if err != nil || r.OpenedEpoch() != id || r.VerifySignature(record.DeviceID(open.Device)) != nil {
			return nil // looseRows names it
		}
		v.mem.epochs[id] = record.Epoch{ID: id, Device: record.DeviceID(open.Device), Opening: r.RID()}
		return nil
	})
}

// passHole takes a hole into the tree.
func (v *verifier) passHole(h *holeRow) error {
	for i, s := range record.GapShape(h.From, h.To) {
		at := v.edge.Size
		made, err := v.edge.AppendSubtree(s.Level, h.Hashes[i])
		if err == nil {
			err = v.sameTiles(v.tiles.add(at, s.Level, made))
		}
		if err != nil {
			return err
		}
	}
	v.gone += h.To - h.From
	v.rep.Absent += h.To - h.From
	v.mem.size = h.To
	return nil
}

// holeFrom finds the first hole that begins at an entry or behind it.
func (l lookup) holeFrom(seq uint64) (h holeRow, ok bool, err error) {
	err = l.snapshot().scan([]byte{pHole}, keyHole(seq), false, func(key, value []byte) (bool, error) {
		h, err = decodeHoleRow(key, value)
		ok = err == nil
		return false, err
	})
	return h, ok, err
}

// missingRows compares the notes of missing entries with what the entries say.
func (v *verifier) missingRows(l lookup) error {
	if v.broken {
		return nil
	}
	for key := range v.behind {
		if err := v.note(l.sameRow([]byte(key), []byte{}, damagedRow([]byte(key), "note of a missing entry"))); err != nil {
			return err
		}
	}
	return v.scan(l, pMissing, func(key, value []byte) error {
		if !v.behind[string(key)] || len(value) != 0 {
			return strayRow(key)
		}
		return nil
	})
}

// looseRows checks the records that are held by themselves.
func (v *verifier) looseRows(l lookup) error {
	return v.scan(l, pLoose, func(key, value []byte) error {
		p, err := decodePendingRow(value)
		if err == nil && !bytes.Equal(keyPosition(pLoose, p.Record.Position()), key) {
			err = record.ErrMalformed
		}
		if err != nil {
			return damagedRow(key, err.Error())
		}
		pos := p.Record.Position()
		e, ok, err := l.epoch(pos.Epoch)
		if err != nil {
			return err
		}
		d := damagedRow(key, "record that is held by itself")
		d.RID, d.Device = p.Record.RID(), e.Device
		if !ok || p.Record.VerifySignature(e.Device) != nil || pos.N == 0 && (!e.Loose || e.Opening != p.Record.RID()) {
			return d
		}
		if _, ordered, err := l.seqAt(pos); err != nil || ordered {
			if err == nil {
				err = strayRow(key)
			}
			return err
		}
		return nil
	})
}
