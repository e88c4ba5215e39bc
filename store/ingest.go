package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// Ingested is what became of records of another box.
type Ingested struct {
	New, Known int
	Heads      []record.FeedHead // of the feeds touched: durable here up to n
	Refused    []record.Outcome  // not stored; Gap says from which n on
}

const (
	ingestRecordsMax = record.FrameRecordsMax
	ingestBytesMax   = 768 << 10 // of bodies in one transaction
)

// Ingest verifies records of other boxes and keeps those that pass as pending,
// durable on return. A record passes when its epoch is known (or it opens one for
// a device that is a member), it continues its feed, and signature and body
// match. Whatever does not pass is named in Refused. Of that, what its author
// really signed for a place that another record has, or for a branch of such a
// record, or for a frozen feed, is kept as a refusal with its body, so that
// nothing of either branch is lost, within refusedKeptMax of one author; the rest
// changes nothing. from is for the log only: a peer is verified, not trusted.
func (s *Store) Ingest(ctx context.Context, from record.DeviceID, recs []record.Record) (Ingested, error) {
	var out Ingested
	if len(recs) > ingestRecordsMax {
		return out, fmt.Errorf("taking in records: %w: %d at once", ErrRefused, len(recs))
	}
	for len(recs) > 0 {
		n, bytes := 0, 0
		for n < len(recs) && (n == 0 || bytes+len(recs[n].Body) <= ingestBytesMax) && n < 1024 {
			bytes += len(recs[n].Body) + record.HeaderBytesMax
			n++
		}
		if err := s.ingestSome(ctx, recs[:n], &out); err != nil {
			return out, fmt.Errorf("taking in records from %s: %w", from.Short(), err)
		}
		recs = recs[n:]
	}
	return out, nil
}

func (s *Store) ingestSome(ctx context.Context, recs []record.Record, out *Ingested) error {
	var authors []*record.DeviceID
	err := s.read(func(l lookup) (err error) {
		authors, err = l.authors(recs)
		return err
	})
	if err != nil {
		return err
	}
	verdicts := s.checkRecords(recs, authors) // outside the write mutex
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	part, err := t.ingestAll(recs, authors, verdicts)
	if err != nil {
		t.drop()
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	out.New, out.Known = out.New+part.New, out.Known+part.Known
	out.Refused = append(out.Refused, part.Refused...)
	out.mergeHeads(part.Heads)
	return nil
}

// ingestAll judges and stores the records of one transaction.
func (t *tx) ingestAll(recs []record.Record, authors []*record.DeviceID, verdicts []record.Verdict) (part Ingested, err error) {
	var feeds []record.Feed
	touched := map[record.Feed]bool{}
	for i := range recs {
		o, err := t.ingest(&recs[i], authors[i], verdicts[i])
		if err != nil {
			return part, err
		}
		switch o.Verdict {
		case record.Ordered:
			part.New++
		case record.Duplicate:
			part.Known++
		default:
			part.Refused = append(part.Refused, o)
		}
		if f := recs[i].Position().Feed(); !touched[f] {
			touched[f] = true
			feeds = append(feeds, f)
		}
	}
	for _, f := range feeds {
		row, ok, err := t.lookup().feed(f)
		if err != nil {
			return part, err
		}
		if ok {
			part.Heads = append(part.Heads, record.FeedHead{Feed: f, N: row.Held.N})
		}
	}
	return part, nil
}

// mergeHeads takes in the heads of a later transaction.
func (i *Ingested) mergeHeads(heads []record.FeedHead) {
	for _, h := range heads {
		at := slices.IndexFunc(i.Heads, func(x record.FeedHead) bool { return x.Feed == h.Feed })
		if at < 0 {
			i.Heads = append(i.Heads, h)
		} else {
			i.Heads[at] = h
		}
	}
}

// ingest judges one record: Ordered stands for stored, Duplicate for known.
func (t *tx) ingest(r *record.Record, author *record.DeviceID, bytes record.Verdict) (record.Outcome, error) {
	out := record.Outcome{RID: r.RID(), Verdict: record.Ordered}
	refuse := func(v record.Verdict) (record.Outcome, error) {
		out.Verdict = v
		return out, nil
	}
	pos := r.Position()
	l := t.lookup()
	if r.Core.Kind == record.KindEpochOpen {
		if e, ok, err := l.epoch(pos.Epoch); err != nil || ok {
			if e.Opening != out.RID {
				return refuse(record.Equivocation)
			}
			out.Verdict = record.Duplicate
			return out, err
		}
		if author == nil {
			return refuse(record.NotAllowed)
		}
		if _, ok := t.next.members.byDevice[*author]; !ok {
			return refuse(record.UnknownDevice)
		}
	} else if v, want, err := l.standing(r); err != nil || v != record.Ordered {
		out.Verdict, out.Want = v, want
		if err != nil {
			return out, err
		}
		return t.ingestRefused(r, author, bytes, out)
	}
	if author == nil {
		return refuse(record.UnknownEpoch)
	}
	if bytes == 0 || r.Body == nil {
		bytes = t.s.checkRecord(r, *author)
	}
	if r.Body == nil {
		return refuse(record.BadBody) // pending goes on to others whole
	}
	if bytes != record.Ordered {
		return refuse(bytes)
	}
	t.seen(r.Core.HLC)
	return out, t.addPending(r, *author)
}

// ingestRefused keeps a record that cannot be pending here, where its author is to
// blame for that.
func (t *tx) ingestRefused(r *record.Record, author *record.DeviceID, bytes record.Verdict, out record.Outcome) (record.Outcome, error) {
	if out.Verdict == record.Gap {
		behind, err := t.has(keyRID(pRefused, r.Core.Prev))
		if err != nil || !behind {
			return out, err
		}
		out.Verdict = record.BadPrev // it continues a branch that lost
	}
	out.Want = 0
	if !ofAuthor(out.Verdict) && out.Verdict != record.Frozen {
		return out, nil
	}
	old, known, err := t.lookup().refusal(out.RID)
	if err != nil {
		return out, err
	}
	if known {
		out.Verdict = old.Verdict
		return out, nil
	}
	if author == nil {
		out.Verdict = record.UnknownEpoch
		return out, nil
	}
	if bytes == 0 || r.Body == nil {
		bytes = t.s.checkRecord(r, *author)
	}
	if r.Body == nil {
		bytes = record.BadBody
	}
	if bytes != record.Ordered {
		out.Verdict = bytes
		return out, nil
	}
	return out, t.keepRefused(r, *author, out)
}

// thawed is the verdict on a record that does or does not continue its feed, but
// Frozen where the ledger froze the feed before it.
func (l lookup) thawed(r *record.Record, v record.Verdict) (record.Verdict, error) {
	if v != record.Ordered && v != record.Gap && v != record.BadPrev {
		return v, nil
	}
	f := r.Position().Feed()
	_, frozen, err := l.Registry(append(append(record.FrozenPrefix(), f.Epoch[:]...), byte(f.Lane)))
	if err != nil || !frozen {
		return v, err
	}
	row, _, err := l.feed(f)
	if err == nil && r.Core.N > row.Ordered.N {
		v = record.Frozen
	}
	return v, err
}

// continues says whether a record is the next of its feed as held here.
func (l lookup) continues(r *record.Record) (v record.Verdict, want uint64, err error) {
	pos := r.Position()
	row, ok, err := l.feed(pos.Feed())
	switch {
	case err != nil:
		return 0, 0, err
	case !ok:
		return record.UnknownEpoch, 0, nil
	case pos.N > row.Held.N+1 && l.st.absent > 0 && row.Held == row.Ordered:
		return record.Ordered, 0, nil // what it continues is in a hole, by what its author signed
	case pos.N > row.Held.N+1:
		return record.Gap, row.Held.N + 1, nil
	case pos.N == row.Held.N+1 && r.Core.Prev != row.Held.RID:
		return record.BadPrev, 0, nil
	case pos.N == row.Held.N+1:
		return record.Ordered, 0, nil
	}
	have, _, _, ok, err := l.held(pos, false)
	if err == nil && !ok && l.st.absent > 0 {
		return record.Duplicate, 0, nil // its place is in a hole
	}
	if err == nil && !ok {
		err = &DamageError{What: fmt.Sprintf("record at n %d of a feed is missing", pos.N)}
	}
	if err != nil {
		return 0, 0, err
	}
	if have.RID() == r.RID() {
		return record.Duplicate, 0, nil
	}
	return record.Equivocation, 0, nil
}
