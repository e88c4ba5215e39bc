package store

import (
	"context"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// ExtendSpan appends a span of a peer that continues at Head, in one transaction,
// durable on return. It is Extend for a partial replica: target is trusted by the
// caller, proof leads from the head after the span to it; signatures, authors,
// authority, and the feed and the compartment of every entry are checked as far as
// what comes before is held. An entry that its compartment points back to and that
// lies in a hole is noted: see MissingOf. Where nothing is missing before the span
// and in it, entries are judged as Extend judges them. ErrRefused when something
// does not fit: nothing changed.
func (s *Store) ExtendSpan(ctx context.Context, span Span, target record.TreeHead, proof []record.Hash) error {
	if err := checkSpan(&span); err != nil {
		return fmt.Errorf("extending the ledger: %w", err)
	}
	recs := append([]record.Record(nil), span.Openings...)
	for i := range span.Entries {
		recs = append(recs, span.Entries[i].Record)
	}
	err := s.read(func(l lookup) error {
		if size := l.Size(); span.From != size {
			return fmt.Errorf("%w: span from %d, ledger of size %d", ErrRefused, span.From, size)
		}
		return s.checkAhead(l, recs)
	})
	if err != nil {
		return fmt.Errorf("extending the ledger: %w", err)
	}
	t, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("extending the ledger: %w", err)
	}
	if err := t.extendSpan(&span, target, proof); err != nil {
		t.drop()
		return fmt.Errorf("extending the ledger: %w", err)
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("extending the ledger: %w", err)
	}
	return nil
}

// checkSpan says whether entries and gaps make up the span. The first two entries
// found the region: everybody holds them.
func checkSpan(s *Span) error {
	if err := s.Tiles(); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if s.From == s.To || len(s.Gaps) > 0 && s.Gaps[0].From < 2 {
		return fmt.Errorf("%w: span %d to %d", ErrRefused, s.From, s.To)
	}
	return nil
}

func (t *tx) extendSpan(span *Span, target record.TreeHead, proof []record.Hash) error {
	if t.next.ledger.Edge.Size != span.From {
		return fmt.Errorf("%w: span from %d, ledger of size %d", ErrRefused, span.From, t.next.ledger.Edge.Size)
	}
	if err := t.placeSpan(span); err != nil {
		return err
	}
	if err := record.VerifyConsistency(t.next.ledger.Edge.Head(), target, proof); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// placeSpan judges the entries of a span and stores it.
func (t *tx) placeSpan(span *Span) error {
	if err := t.addOpenings(span.Entries, span.Openings); err != nil {
		return err
	}
	o := record.NewOrderer(lookup{t, t.state}, t.s.verified.has)
	o.Bare()
	if t.state.absent > 0 {
		o.Sparse()
	}
	gaps := span.Gaps
	for i := range span.Entries {
		e := &span.Entries[i]
		for ; len(gaps) > 0 && gaps[0].From < e.Seq; gaps = gaps[1:] {
			o.Skip(gaps[0].To)
		}
		if err := t.placeEntry(o, e); err != nil {
			return err
		}
	}
	return t.apply(&o.Changes, span.Gaps...)
}

// placeEntry judges one entry.
func (t *tx) placeEntry(o *record.Orderer, e *record.Entry) error {
	r := &e.Record
	if r.Core.Kind != record.KindEpochOpen {
		if err := t.leftOut(o, e); err != nil {
			return err
		}
	}
	out, err := o.Place(e)
	if err != nil {
		return err
	}
	if out.Verdict != record.Ordered || out.Seq != e.Seq {
		return fmt.Errorf("%w: entry %d, record %s: %s", ErrRefused, e.Seq, out.RID.Short(), out.Verdict)
	}
	t.seen(r.Core.HLC)
	return nil
}

// leftOut finds entries that this replica must hold and was not given: one before
// it in the feed of a device of this box, and the last one of its compartment when
// the place that it names is taken by another.
func (t *tx) leftOut(o *record.Orderer, e *record.Entry) error {
	c := &e.Record.Core
	epoch, known, err := t.lookup().epoch(c.Epoch)
	if err != nil {
		return err
	}
	if known {
		own, err := t.has(keyOwn(epoch.Device))
		if err != nil {
			return err
		}
		head, _, err := o.Head(e.Record.Position().Feed())
		if err == nil && own && c.N > head.N+1 {
			err = fmt.Errorf("%w: entry %d, but this box's own record before it, n %d, was left out", ErrRefused, e.Seq, c.N-1)
		}
		if err != nil {
			return err
		}
	}
	if e.PrevSeq == 0 || e.PrevSeq > e.Seq || c.Compartment.IsZero() {
		return nil
	}
	held, err := t.has(keySeq(pEntry, e.PrevSeq-1))
	if err != nil || !held {
		return err
	}
	same, err := t.has(keyScope(c.Compartment, e.PrevSeq-1))
	if err == nil && !same {
		err = fmt.Errorf("%w: entry %d names entry %d as the one before it, which is of another compartment", ErrRefused, e.Seq, e.PrevSeq-1)
	}
	return err
}

// addHole appends a gap: the tree knows its subtrees, and nothing else.
func (t *tx) addHole(edge *record.Range, g *record.GapHashes) error {
	if g.From != edge.Size {
		return fmt.Errorf("%w: gap from %d, tree of size %d", ErrRefused, g.From, edge.Size)
	}
	for i, s := range record.GapShape(g.From, g.To) {
		at := edge.Size
		made, err := edge.AppendSubtree(s.Level, g.Hashes[i])
		if err != nil {
			return err
		}
		t.fillTiles(at, s.Level, made)
	}
	row := holeRow{*g}
	t.put(keyHole(g.From), row.encode())
	t.next.absent += g.To - g.From
	return nil
}

// addOpenings keeps the beginnings of epochs and sessions that entries need and
// that are not held: by themselves, because their places are in holes.
func (t *tx) addOpenings(entries []record.Entry, openings []record.Record) error {
	needed, given := map[record.Position]bool{}, map[record.Position]bool{}
	for i := range entries {
		c := &entries[i].Record.Core
		given[entries[i].Record.Position()] = true
		if c.Kind != record.KindEpochOpen {
			needed[record.Position{Epoch: c.Epoch}] = true
			needed[record.Position{Epoch: c.Epoch, N: c.Session}] = true
		}
	}
	for pass := range 2 { // epochs first
		for i := range openings {
			r := &openings[i]
			pos := r.Position()
			if pos.N == 0 != (pass == 0) || !needed[pos] || given[pos] {
				continue
			}
			given[pos] = true
			if err := t.addLoose(r); err != nil {
				return err
			}
		}
	}
	for pos := range needed { // held as pending, but an entry of the epoch says that it is ordered
		if pos.N == 0 && !given[pos] {
			p, ok, err := t.lookup().pending(pos)
			if err == nil && ok {
				err = t.keepLoose(&p.Record, &p)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// addLoose verifies a beginning and keeps it.
func (t *tx) addLoose(r *record.Record) error {
	pos := r.Position()
	bad := func(what string) error {
		return fmt.Errorf("%w: opening record %s: %s", ErrRefused, r.RID().Short(), what)
	}
	l := t.lookup()
	e, known, err := l.epoch(pos.Epoch)
	if err != nil {
		return err
	}
	device := e.Device
	if r.Core.Kind == record.KindEpochOpen {
		open, err := record.DecodeEpochOpen(r.Body)
		if err != nil || r.VerifyBody() != nil {
			return bad("its body")
		}
		device = record.DeviceID(open.Device)
	} else if _, err := record.DecodeSessionOpen(r.Body); r.Core.Kind != record.KindSessionOpen || err != nil || !known {
		return bad("not the beginning of a session in a known epoch")
	}
	if t.s.checkRecord(r, device) != record.Ordered {
		return bad("signature or body")
	}
	if pos.N == 0 && known && !e.open() {
		return nil
	}
	have, _, _, held, err := l.held(pos, false)
	if err != nil || held && have.RID() != r.RID() {
		if err == nil {
			err = bad("another record is held at its place")
		}
		return err
	}
	p, pending, err := l.pending(pos)
	if err != nil || held && !pending {
		return err
	}
	if !pending {
		return t.keepLoose(r, nil)
	}
	if pos.N > 0 {
		return nil // pending, until its place is known
	}
	return t.keepLoose(r, &p)
}

// keepLoose keeps a record by itself. One that was pending leaves pending: an
// entry that is in the tree needs it, so it has a place as well.
func (t *tx) keepLoose(r *record.Record, pending *pendingRow) error {
	pos := r.Position()
	row := pendingRow{Record: *r}
	t.put(keyPosition(pLoose, pos), row.encode())
	if pos.N > 0 {
		return nil
	}
	open, err := record.DecodeEpochOpen(r.Body)
	if err != nil {
		return err
	}
	e := epochRow{Device: record.DeviceID(open.Device), Opening: r.RID(), Loose: true}
	t.put(keyEpoch(pos.Epoch), e.encode())
	if pending == nil {
		return nil
	}
	t.unset(keyIndexRID(r.RID()))
	if err := t.removePending(pending); err != nil {
		return err
	}
	f, _, err := t.lookup().feed(pos.Feed())
	if err != nil {
		return err
	}
	return t.trimFeed(pos, f)
}
