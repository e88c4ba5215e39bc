package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Order applies one raft log item: leaves, bodies, indexes, tree, pending and the
// applied position move together, exactly once. An index at or before the applied
// one changes nothing and gives the outcomes as of now. The result depends on the
// ledger and the item alone. It is readable on return; it becomes durable with
// the next flush, because the raft log that it comes from is durable already
// (Barrier waits). An item that is no batch makes no entry and has no
// outcomes, on every hub alike; the applied position moves. An error means that
// nothing was decided; ErrHole that entries of the ledger are not held here.
func (s *Store) Order(index, term uint64, item []byte) ([]record.Outcome, error) {
	b, malformed := record.DecodeBatch(item)
	err := s.read(func(l lookup) error { return s.checkAhead(l, b.Records) })
	if err != nil {
		return nil, fmt.Errorf("ordering item %d: %w", index, err)
	}
	t, err := s.begin(nil)
	if err != nil {
		return nil, fmt.Errorf("ordering item %d: %w", index, err)
	}
	if t.state.absent > 0 { // other hubs would decide otherwise
		t.drop()
		return nil, fmt.Errorf("ordering item %d: %w: %d entries", index, ErrHole, t.state.absent)
	}
	out, err := t.order(index, term, &b)
	if err != nil || index <= t.state.ledger.Index {
		t.drop()
		if err != nil {
			err = fmt.Errorf("ordering item %d: %w", index, err)
		}
		return out, err
	}
	l, err := t.accept(false)
	if err != nil {
		return nil, fmt.Errorf("ordering item %d: %w", index, err)
	}
	<-l.visible
	if s.crowded() {
		<-l.done
	}
	if l.err != nil {
		return nil, fmt.Errorf("ordering item %d: %w", index, l.err)
	}
	if malformed != nil {
		s.o.Log.Error().Err(malformed).Uint64("index", index).Msg("raft log item is no batch")
	}
	return out, nil
}

func (t *tx) order(index, term uint64, b *record.Batch) ([]record.Outcome, error) {
	o := record.NewOrderer(lookup{t, t.state}, t.s.verified.has)
	when := o.BatchTime(b.LeaderMillis)
	outs := make([]record.Outcome, 0, len(b.Records))
	for i := range b.Records {
		out, err := o.Add(when, b.Records[i])
		if err != nil {
			return nil, err
		}
		outs = append(outs, out)
	}
	if index <= t.next.ledger.Index {
		return outs, nil
	}
	t.next.ledger.Index, t.next.ledger.Term = index, term
	if err := t.apply(&o.Changes); err != nil {
		return nil, err
	}
	for i, out := range outs {
		if out.Verdict.Final() {
			if err := t.refuse(out, &b.Records[i]); err != nil {
				return nil, err
			}
		}
	}
	return outs, nil
}

// apply stores what the ordering rules made: every row of the new entries, and the
// holes between them, which come in their order.
func (t *tx) apply(c *record.Changes, gaps ...record.GapHashes) error {
	edge := t.next.ledger.Edge.Clone()
	for _, e := range c.Epochs {
		row := epochRow{Device: e.Device, Opening: e.Opening, Ordered: true, Seq: entryOf(c, e.Opening)}
		t.put(keyEpoch(e.ID), row.encode())
	}
	for i := range c.Entries {
		e := &c.Entries[i]
		for ; len(gaps) > 0 && gaps[0].From < e.Seq; gaps = gaps[1:] {
			if err := t.addHole(&edge, &gaps[0]); err != nil {
				return err
			}
		}
		leaf := e.EncodeLeaf()
		t.put(keySeq(pEntry, e.Seq), leaf)
		hash := record.LeafHash(leaf)
		made := edge.Append(hash)
		t.fillTiles(e.Seq, 0, made)
		if err := t.indexEntry(e); err != nil {
			return err
		}
		t.next.ledger.Time = e.Time
	}
	for i := range gaps {
		if err := t.addHole(&edge, &gaps[i]); err != nil {
			return err
		}
	}
	t.next.ledger.Edge = edge
	t.put(keyLedger, t.next.ledger.encode())
	return t.applyMembers(c)
}

// fillTiles takes subtrees that became complete into the tiles.
func (t *tx) fillTiles(size uint64, level int, made []record.Hash) {
	for _, full := range t.next.partial.add(size, level, made) {
		t.put(keyTile(full.level, full.index), full.data)
	}
}

// entryOf is the seq of a record among the entries of one transaction.
func entryOf(c *record.Changes, rid record.RID) uint64 {
	for i := range c.Entries {
		if c.Entries[i].Record.RID() == rid {
			return c.Entries[i].Seq
		}
	}
	return 0
}

func (t *tx) applyMembers(c *record.Changes) error {
	for i := range c.Members {
		b, err := encodeMember(&c.Members[i])
		if err != nil {
			return err
		}
		t.put(keyMember(c.Members[i].Device), b)
	}
	if len(c.Members) > 0 {
		t.next.members = t.next.members.with(c.Members)
	}
	for _, r := range c.Registry {
		if r.Value == nil {
			t.unset(keyRegistry(r.Key))
			continue
		}
		t.put(keyRegistry(r.Key), r.Value)
		if f, err := record.FrozenFeed(r.Key); err == nil {
			if err := t.freeze(f); err != nil {
				return err
			}
		}
		if target, ok := record.ErasedTarget(r.Key); ok {
			if err := t.erase(target, r.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexEntry stores an entry's body and index rows and takes the record out of
// pending.
func (t *tx) indexEntry(e *record.Entry) error {
	r := &e.Record
	pos, rid := r.Position(), r.RID()
	if err := t.putBody(e); err != nil {
		return err
	}
	at := ridRow{Seq: e.Seq}
	t.put(keyIndexRID(rid), at.encode())
	t.ordered[rid] = true
	if c := r.Core.Compartment; !c.IsZero() {
		if err := t.indexScope(c, e); err != nil {
			return err
		}
	}
	if r.Core.Kind == record.KindRegionFound && !t.next.region.ok {
		f, err := record.DecodeRegionFound(r.Body)
		if err != nil {
			return err
		}
		b, err := record.Marshal(regionArray{ID: rid[:], Name: f.Name})
		if err != nil {
			return err
		}
		t.put(keyRegion, b)
		t.next.region = region{record.RegionID(rid), f.Name, true}
	}
	if err := t.settle(pos, rid); err != nil {
		return err
	}
	if t.next.absent > 0 {
		t.unset(keyPosition(pLoose, pos))
	}
	if pos.N > 0 {
		t.put(keyPosition(pPosition, pos), binary.BigEndian.AppendUint64(nil, e.Seq))
	}
	t.arrive(rid, false, e.Seq)
	return t.announced(r)
}

// indexScope puts an entry into its compartment. In a ledger with holes it notes
// which entry before it is missing.
func (t *tx) indexScope(c record.CompartmentID, e *record.Entry) error {
	t.put(keyScope(c, e.Seq), nil)
	last := uint64(0)
	if t.next.absent > 0 {
		var err error
		if last, err = t.lookup().CompartmentLast(c); err != nil {
			return err
		}
		t.unset(keyMissing(c, e.Seq))
		if e.PrevSeq > 0 {
			held, err := t.has(keyScope(c, e.PrevSeq-1))
			if err != nil {
				return err
			}
			if !held {
				t.put(keyMissing(c, e.PrevSeq-1), nil)
			}
		}
	}
	if e.Seq >= last {
		t.put(keyScopeLast(c), binary.BigEndian.AppendUint64(nil, e.Seq+1))
	}
	return nil
}

// settle moves a feed's ordered head to a record and takes what was pending at
// its position out: the record itself, or another one that lost.
func (t *tx) settle(pos record.Position, rid record.RID) error {
	l := t.lookup()
	p, pending, err := l.pending(pos)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if err == nil && pending && p.Record.RID() == rid {
		if err := t.removePending(&p); err != nil {
			return err
		}
	} else if err == nil && pending {
		if err := t.moveRefused(p, record.Equivocation); err != nil {
			return err
		}
	}
	// A pending copy that is damaged stays: its good twin is an entry now.
	if err := t.dropRefusal(rid); err != nil {
		return err
	}
	f, _, err := l.feed(pos.Feed())
	if err != nil {
		return err
	}
	lost := pending && p.Record.RID() != rid
	if lost && pos.N > f.Ordered.N {
		if err := t.refuseBranch(pos.Feed(), pos.N+1, f.Held.N); err != nil {
			return err
		}
	}
	if pos.N > f.Ordered.N { // a hole that is filled may hold earlier ones
		f.Ordered = record.Head{N: pos.N, RID: rid}
		if f.Held.N < pos.N || lost {
			f.Held = f.Ordered
		}
		t.put(keyFeed(pFeed, pos.Feed()), f.encode())
	}
	return t.trimFeed(pos, f)
}

// trimFeed drops the work mark and the acknowledgements that no longer matter.
func (t *tx) trimFeed(pos record.Position, f feedRow) error {
	if f.Held.N == f.Ordered.N {
		t.unset(keyFeed(pWork, pos.Feed()))
	}
	t.s.acks.ordered(t, pos.Feed(), f.Ordered.N)
	return nil
}

// Applied is the raft position of the last item applied, and the ledger size.
func (s *Store) Applied() (index, term, size uint64) {
	l := s.shown.Load().state.ledger
	return l.Index, l.Term, l.Edge.Size
}

// SetApplied moves the raft position alone, durable on return: the ledger of this
// head contains everything up to it. ErrRefused unless the ledger is at head, or
// when the position would go back.
func (s *Store) SetApplied(index, term uint64, head record.TreeHead) error {
	t, err := s.begin(nil)
	if err != nil {
		return fmt.Errorf("setting applied position: %w", err)
	}
	if t.next.ledger.Edge.Head() != head || index < t.next.ledger.Index {
		have, size := t.next.ledger.Index, t.next.ledger.Edge.Size
		t.drop()
		return fmt.Errorf("setting applied position %d at size %d: %w: at %d, size %d", index, head.Size, ErrRefused, have, size)
	}
	t.next.ledger.Index, t.next.ledger.Term = index, term
	t.put(keyLedger, t.next.ledger.encode())
	return t.commit()
}

// Extend appends entries of a peer that continue at Head, in one transaction,
// durable on return. target is trusted by the caller; proof leads from the head
// after these entries to it. Leaf hashes and root are computed here, and every
// record must come out of the ordering rules as Ordered, at its seq and time.
// PrevSeq 0 is filled in. ErrRefused when something does not fit: nothing changed.
func (s *Store) Extend(ctx context.Context, entries []record.Entry, target record.TreeHead, proof []record.Hash) error {
	if len(entries) == 0 {
		return nil
	}
	recs := make([]record.Record, len(entries))
	for i := range entries {
		recs[i] = entries[i].Record
	}
	err := s.read(func(l lookup) error {
		if size := l.Size(); entries[0].Seq != size {
			return fmt.Errorf("%w: entry %d, ledger of size %d", ErrRefused, entries[0].Seq, size)
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
	if err := t.extend(entries, target, proof); err != nil {
		t.drop()
		return fmt.Errorf("extending the ledger: %w", err)
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("extending the ledger: %w", err)
	}
	return nil
}

func (t *tx) extend(entries []record.Entry, target record.TreeHead, proof []record.Hash) error {
	o := record.NewOrderer(lookup{t, t.state}, t.s.verified.has)
	o.Bare()
	for i := range entries {
		e := &entries[i]
		if e.Seq != o.Size() {
			return fmt.Errorf("%w: entry %d, ledger of size %d", ErrRefused, e.Seq, o.Size())
		}
		out, err := o.Add(e.Time, e.Record)
		if err != nil {
			return err
		}
		if out.Verdict != record.Ordered || out.Seq != e.Seq {
			return fmt.Errorf("%w: entry %d, record %s: %s", ErrRefused, e.Seq, out.RID.Short(), out.Verdict)
		}
		made := &o.Changes.Entries[len(o.Changes.Entries)-1]
		if made.Time != e.Time || e.PrevSeq != 0 && e.PrevSeq != made.PrevSeq {
			return fmt.Errorf("%w: entry %d has another time or previous entry", ErrRefused, e.Seq)
		}
		t.seen(e.Record.Core.HLC)
	}
	if err := t.apply(&o.Changes); err != nil {
		return err
	}
	if err := record.VerifyConsistency(t.next.ledger.Edge.Head(), target, proof); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}
