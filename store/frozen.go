package store

import (
	"errors"

	"github.com/healthpost/healthpost/record"
)

// freeze notes the verdict on what is pending of a feed that ordering has frozen:
// it can never be ordered, so no peer is asked to take it. The records stay where
// they are, and on screen.
func (t *tx) freeze(f record.Feed) error {
	row, ok, err := t.lookup().feed(f)
	if err != nil || !ok || row.Held.N == row.Ordered.N {
		return err
	}
	from := row.Ordered.N + 1
	for n := from; n <= row.Held.N && n < from+refusedMax; n++ {
		p, ok, err := t.lookup().pending(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
		if errors.Is(err, ErrDamaged) || err == nil && !ok {
			continue
		}
		if err != nil {
			return err
		}
		if err := t.refuse(record.Outcome{RID: p.Record.RID(), Verdict: record.Frozen}, &p.Record); err != nil {
			return err
		}
	}
	return nil
}

// frozen reports whether ordering has frozen a feed.
func (l lookup) frozen(f record.Feed) (bool, error) {
	_, ok, err := l.Registry(append(append(record.FrozenPrefix(), f.Epoch[:]...), byte(f.Lane)))
	return ok, err
}

// standing is continues for a feed that may be frozen: what is not held already
// has no place in it any more, whichever branch it continues.
func (l lookup) standing(r *record.Record) (v record.Verdict, want uint64, err error) {
	v, want, err = l.continues(r)
	if err != nil || v != record.Ordered && v != record.Gap && v != record.BadPrev {
		return v, want, err
	}
	if frozen, err := l.frozen(r.Position().Feed()); err != nil || frozen {
		return record.Frozen, 0, err
	}
	return v, want, nil
}
