package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

func (t *tx) lookup() lookup { return lookup{t, &t.next} }

// arrive gives a record a new arrival number.
func (t *tx) arrive(rid record.RID, pending bool, seq uint64) uint64 {
	row := arrivalRow{RID: rid, Pending: pending, Seq: seq}
	if t.s.arrivalOf != nil {
		if n, ok := t.s.arrivalOf(rid); ok {
			t.next.arrived = max(t.next.arrived, n)
			t.put(keySeq(pArrival, n), row.encode())
			return n
		}
	}
	t.next.arrived++
	t.put(keySeq(pArrival, t.next.arrived), row.encode())
	return t.next.arrived
}

// addPending stores a verified record that continues its feed.
func (t *tx) addPending(r *record.Record, device record.DeviceID) error {
	pos, rid := r.Position(), r.RID()
	if err := t.clearStale(pos, rid); err != nil {
		return err
	}
	if pos.N == 0 {
		e := epochRow{Device: device, Opening: rid}
		t.put(keyEpoch(pos.Epoch), e.encode())
	} else {
		f, _, err := t.lookup().feed(pos.Feed())
		if err != nil {
			return err
		}
		if pos.N > f.Held.N+1 { // only where there are holes
			f.Ordered = record.Head{N: pos.N - 1, RID: r.Core.Prev}
		}
		f.Held = record.Head{N: pos.N, RID: rid}
		t.put(keyFeed(pFeed, pos.Feed()), f.encode())
	}
	t.put(keyFeed(pWork, pos.Feed()), nil)
	row := pendingRow{Arrival: t.arrive(rid, true, 0), Record: *r}
	t.put(keyPosition(pPending, pos), row.encode())
	at := ridRow{Pending: true, Position: pos}
	t.put(keyIndexRID(rid), at.encode())
	if c := r.Core.Compartment; !c.IsZero() {
		t.put(keyScopePending(c, pos), nil)
	}
	return t.announced(r)
}

// clearStale makes room at a position where a branch that lost still has its
// record: that record moves to the refused ones.
func (t *tx) clearStale(pos record.Position, rid record.RID) error {
	p, ok, err := t.lookup().pending(pos)
	if err != nil || !ok || p.Record.RID() == rid {
		return err
	}
	return t.moveRefused(p, record.Equivocation)
}

// removePending deletes a pending row: the only place where record data is
// deleted, but for Release. The same transaction must keep the record as an entry,
// as refused, or as one whose place is in a hole.
func (t *tx) removePending(p *pendingRow) error {
	rid := p.Record.RID()
	kept := t.ordered[rid] && t.rows[string(keySeq(pEntry, t.seqOf(rid)))] != nil && t.rows[string(keySeq(pBody, t.seqOf(rid)))] != nil
	if !kept {
		kept = t.rows[string(keyRID(pRefused, rid))] != nil || t.rows[string(keyPosition(pLoose, p.Record.Position()))] != nil
	}
	if !kept {
		return fmt.Errorf("deleting a pending record: %w: record %s is kept nowhere else", ErrRefused, rid.Short())
	}
	pos := p.Record.Position()
	t.unset(keyPosition(pPending, pos))
	t.unset(keySeq(pArrival, p.Arrival))
	if c := p.Record.Core.Compartment; !c.IsZero() {
		t.unset(keyScopePending(c, pos))
	}
	return nil
}

// seqOf is the entry that this transaction gave a record.
func (t *tx) seqOf(rid record.RID) uint64 {
	row, ok, err := t.lookup().locate(rid)
	if err != nil || !ok || row.Pending {
		return ^uint64(0)
	}
	return row.Seq
}

// PendingFeed is a feed with records that have no entry yet: n in (OrderedN,
// HeldN]. Opening says that the epoch's opening record is pending too; lane 0
// is then listed even when it holds nothing else.
type PendingFeed struct {
	record.Feed
	Author   record.DeviceID
	OrderedN uint64
	HeldN    uint64
	Opening  bool
}

// PendingFeeds lists the feeds that hold something pending. Left out are feeds
// whose next record this box's own ordering refused for good, or a hub did because
// the author's membership ended, as the ledger here says too; Refused has those.
// It reads nothing: the list moves with every transaction.
func (s *Store) PendingFeeds() ([]PendingFeed, error) {
	if err := s.gate.enter(); err != nil {
		return nil, fmt.Errorf("listing pending feeds: %w", err)
	}
	defer s.gate.leave()
	var out []PendingFeed
	for _, w := range s.shown.Load().state.work {
		if !w.blocked {
			out = append(out, w.PendingFeed)
		}
	}
	return out, nil
}

// workFeed is a feed on the work list.
type workFeed struct {
	PendingFeed
	blocked bool
}

func compareFeeds(a, b record.Feed) int {
	if c := bytes.Compare(a.Epoch[:], b.Epoch[:]); c != 0 {
		return c
	}
	return int(a.Lane) - int(b.Lane)
}

func (w workFeed) compare(f record.Feed) int { return compareFeeds(w.Feed, f) }

// loadWork reads the work list.
func loadWork(l lookup) error {
	return l.rows.(*view).scan([]byte{pWork}, nil, false, func(key, _ []byte) (bool, error) {
		if len(key) != 18 {
			return false, damagedRow(key, "work list")
		}
		w, err := l.workFeed(feedFrom(key[1:]))
		l.st.work = append(l.st.work, w)
		return err == nil, err
	})
}

func (l lookup) workFeed(f record.Feed) (w workFeed, err error) {
	w.PendingFeed, w.blocked, err = l.pendingFeed(f)
	return w, err
}

// updateWork brings the work list up to the transaction's rows. A feed that is
// damaged is left out of it.
func (t *tx) updateWork() error {
	touched := map[record.Feed]bool{}
	for key := range t.rows {
		switch {
		case (key[0] == pWork || key[0] == pFeed) && len(key) == 18:
			touched[feedFrom([]byte(key[1:]))] = true
		case key[0] == pEpoch && len(key) == 17:
			for lane := range record.Lane(record.LaneCount) {
				touched[record.Feed{Epoch: record.EpochID([]byte(key[1:])), Lane: lane}] = true
			}
		case key[0] == pMember: // a stranger may be a member now
			for _, w := range t.next.work {
				touched[w.Feed] = true
			}
		}
	}
	if len(touched) == 0 {
		return nil
	}
	work := slices.Clone(t.next.work)
	for f := range touched {
		at, found := slices.BinarySearchFunc(work, f, workFeed.compare)
		w, listed := workFeed{}, false
		var err error
		if listed, err = t.has(keyFeed(pWork, f)); err == nil && listed {
			w, err = t.lookup().workFeed(f)
		}
		if err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		switch listed = listed && err == nil; {
		case listed && found:
			work[at] = w
		case listed:
			work = slices.Insert(work, at, w)
		case found:
			work = slices.Delete(work, at, at+1)
		}
	}
	t.next.work = work
	return nil
}

func (l lookup) pendingFeed(f record.Feed) (p PendingFeed, blocked bool, err error) {
	e, ok, err := l.epoch(f.Epoch)
	if err == nil && !ok {
		err = &DamageError{What: "epoch of a pending feed is missing"}
	}
	if err != nil {
		return p, false, err
	}
	row, _, err := l.feed(f)
	if err != nil {
		return p, false, err
	}
	p = PendingFeed{Feed: f, Author: e.Device, OrderedN: row.Ordered.N, HeldN: row.Held.N, Opening: e.open()}
	next := record.RID{}
	switch {
	case e.Refused:
		next = e.Opening
	case row.Refused == row.Ordered.N+1 && row.Refused <= row.Held.N:
		q, ok, err := l.pending(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: row.Refused})
		if err != nil || !ok {
			return p, false, err
		}
		next = q.Record.RID()
	default:
		blocked, err = l.expelled(&p, &e)
		return p, blocked, err
	}
	r, ok, err := l.refusal(next)
	if err != nil || !ok {
		return p, false, err
	}
	// A device that was unknown then may be a member now.
	m, known := l.st.members.byDevice[e.Device]
	return p, !(r.Verdict == record.UnknownDevice && known && m.Active()), nil
}

// expelled says whether a hub has refused the next record of a feed because its
// author's membership ended, and the ledger here says so as well: no other hub can
// order it, so nobody is asked to. A hub's word alone decides nothing.
func (l lookup) expelled(p *PendingFeed, e *epochRow) (bool, error) {
	m, known := l.st.members.byDevice[e.Device]
	if !known || m.Active() {
		return false, nil
	}
	next := e.Opening
	if !e.open() {
		q, ok, err := l.pending(record.Position{Epoch: p.Epoch, Lane: p.Lane, N: p.OrderedN + 1})
		if err != nil || !ok {
			return false, err
		}
		next = q.Record.RID()
	}
	r, ok, err := l.refusal(next)
	return ok && (r.Verdict == record.Revoked || r.Verdict == record.Quarantined), err
}

// Pending gives pending records of a feed in order from n, with bodies, at least
// one when there is one and then at most about bytesMax. n 0 of lane 0 starts at
// the opening record when that is pending. Records before the first pending one
// are skipped.
func (s *Store) Pending(feed record.Feed, n uint64, bytesMax int) ([]record.Record, error) {
	var out []record.Record
	err := s.read(func(l lookup) error {
		row, ok, err := l.feed(feed)
		if err != nil || !ok {
			return err
		}
		e, _, err := l.epoch(feed.Epoch)
		if err != nil {
			return err
		}
		if n == 0 && (feed.Lane != record.LaneControl || !e.open()) {
			n = 1
		}
		if n > 0 {
			n = max(n, row.Ordered.N+1)
		}
		for bytes := 0; n <= row.Held.N; n++ {
			p, ok, err := l.pending(record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: n})
			if err == nil && !ok {
				err = &DamageError{What: fmt.Sprintf("pending record at n %d is missing", n)}
			}
			if err != nil {
				return err
			}
			bytes += len(p.Record.Body) + record.HeaderBytesMax
			if len(out) > 0 && bytes > bytesMax {
				return nil
			}
			out = append(out, p.Record)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading pending records: %w", err)
	}
	return out, nil
}

// Held gives the record of a position, pending or ordered, with its body where
// held. n 0 of any lane is the opening record.
func (s *Store) Held(p record.Position) (r record.Record, ok bool, err error) {
	err = s.read(func(l lookup) error {
		r, _, _, ok, err = l.held(p, true)
		return err
	})
	return r, ok, err
}

// HeldRID is Held without reading the body.
func (s *Store) HeldRID(p record.Position) (rid record.RID, ok bool, err error) {
	err = s.read(func(l lookup) error {
		if p.N == 0 {
			e, found, err := l.epoch(p.Epoch)
			rid, ok = e.Opening, found
			return err
		}
		f, found, err := l.feed(p.Feed())
		if err != nil || !found || p.N > f.Held.N {
			return err
		}
		switch p.N {
		case f.Held.N:
			rid, ok = f.Held.RID, true
			return nil
		case f.Ordered.N:
			rid, ok = f.Ordered.RID, true
			return nil
		}
		r, _, _, found, err := l.held(p, false)
		if found {
			rid, ok = r.RID(), true
		}
		return err
	})
	return rid, ok, err
}

// read calls f with a snapshot.
func (s *Store) read(f func(lookup) error) error { return State{s}.read(f) }
