package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// VerifyOptions say how much Verify reads and how fast. The zero value is
// everything, on all cores.
type VerifyOptions struct {
	// From is the size that an earlier verification reached without damage, and
	// State its Report.State: entries before From are then not read again. When
	// State is not that of From, or the tree had another root then, Verify
	// starts at 0.
	From  uint64
	State []byte
	// Workers is how many goroutines check signatures; 0 takes all cores.
	Workers int
	// Pause is called between reads, with no snapshot held, and gets the bytes
	// read since it was last called. It may sleep to keep a pace.
	Pause func(read int)
}

// Report is what Verify found.
type Report struct {
	From    uint64 // first entry that was read
	Entries uint64 // read
	Pending uint64 // records read
	Rows    uint64 // of any kind
	Damage  []DamageError
	More    bool // damage past the first 10,000 is not listed
	// Head is the ledger as it was verified. State continues from there in a
	// later call; nil when there is damage.
	Head  record.TreeHead
	State []byte
}

const (
	damageMax   = 10_000
	verifyBatch = 512
)

// verifier checks a snapshot. It judges every entry again from an empty ledger.
type verifier struct {
	s   *Store
	l   lookup
	rep *Report
	mu  sync.Mutex // guards rep.Damage and rep.More

	mem   *replayState
	edge  record.Range
	tiles tiles
	// broken is set after an entry that cannot be read: what follows may miss it.
	broken  bool
	lookups int // entries that were looked up backwards
}

// Verify reads everything: each entry's bytes, hashes, signature, place in its
// feed and verdict; tree and root; checkpoints; pending records and their chains;
// indexes; every other row; and the index's tables. progress may be nil and gets
// entries done and in all. The error is about reading, not about damage.
func (s *Store) Verify(ctx context.Context, o VerifyOptions, progress func(done, total uint64)) (Report, error) {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	rep := Report{Damage: []DamageError{}}
	err := s.read(func(l lookup) error {
		v := verifier{s: s, l: l, rep: &rep, mem: newReplayState()}
		for _, err := range s.salvaged {
			if err := v.note(err); err != nil {
				return err
			}
		}
		if err := v.tables(ctx); err != nil {
			return err
		}
		if err := v.entries(ctx, progress); err != nil {
			return err
		}
		for _, step := range []func() error{v.heads, v.pendingFeeds, v.pendingRows, v.refused, v.arrivals, v.otherRows} {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return rep, fmt.Errorf("verifying: %w", err)
	}
	return rep, nil
}

// note keeps damage; any other error ends the verification.
func (v *verifier) note(err error) error {
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.rep.Damage) >= damageMax {
		v.rep.More = true
		return nil
	}
	v.rep.Damage = append(v.rep.Damage, *d)
	return nil
}

// tables reads the tables that the index uses now; one that is being written is
// not among them.
func (v *verifier) tables(ctx context.Context) error {
	var buf []byte
	for _, info := range v.s.db.Tables() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.note(v.s.checkOpenTable(tableFile(info.ID), &buf)); err != nil {
			return err
		}
	}
	return nil
}

// readBatch is entries that were read, before signatures and rules.
type readBatch struct {
	entries  []record.Entry
	readable []bool
	err      error
}

// entries reads in one goroutine and judges in this one.
func (v *verifier) entries(ctx context.Context, progress func(done, total uint64)) error {
	size := v.l.Size()
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan readBatch, 1)
	go func() {
		defer close(batches)
		for from := uint64(0); from < size; from += verifyBatch {
			b := v.readBatch(from, min(from+verifyBatch, size))
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() { // the reader uses the snapshot: wait for it
		cancel()
		for range batches {
		}
	}()
	for b := range batches {
		if err := errors.Join(b.err, ctx.Err()); err != nil {
			return err
		}
		if err := v.batch(b.entries, b.readable); err != nil {
			return err
		}
		v.rep.Entries += uint64(len(b.entries))
		progress(v.rep.Entries, size)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	progress(size, size)
	return nil
}

func (v *verifier) readBatch(from, to uint64) readBatch {
	var b readBatch
	for seq := from; seq < to; seq++ {
		e, ok, err := v.readEntry(seq)
		if err != nil {
			b.err = err
			return b
		}
		b.entries, b.readable = append(b.entries, e), append(b.readable, ok)
	}
	return b
}

// batch verifies signatures on all cores, then goes entry by entry through the
// rules.
func (v *verifier) batch(entries []record.Entry, readable []bool) error {
	recs := make([]record.Record, len(entries))
	authors := make([]*record.DeviceID, len(entries))
	opened := map[record.EpochID]*record.DeviceID{}
	for i := range entries {
		recs[i] = entries[i].Record
		if readable[i] {
			authors[i] = v.author(&recs[i], opened)
		}
	}
	fresh := &Store{verified: newVerifiedCache(2 * verifyBatch)} // nothing that was checked before counts
	fresh.checkRecords(recs, authors)
	o := record.NewOrderer(v.mem, fresh.verified.has)
	for i := range entries {
		if !readable[i] {
			v.broken = true
			v.mem.skip(o)
			v.mem.size++
			o = record.NewOrderer(v.mem, fresh.verified.has)
			continue
		}
		if err := v.judge(o, &entries[i]); err != nil {
			return err
		}
		if o.Size() != entries[i].Seq+1 { // not ordered: go on behind it
			v.mem.skip(o)
			v.mem.force(&entries[i])
			o = record.NewOrderer(v.mem, fresh.verified.has)
		}
	}
	v.mem.skip(o)
	return nil
}

func (v *verifier) author(r *record.Record, opened map[record.EpochID]*record.DeviceID) *record.DeviceID {
	id := r.Position().Epoch
	if r.Core.Kind == record.KindEpochOpen {
		if e, err := record.DecodeEpochOpen(r.Body); err == nil {
			d := record.DeviceID(e.Device)
			opened[id] = &d
			return &d
		}
		return nil
	}
	if d := opened[id]; d != nil {
		return d
	}
	if e, ok := v.mem.epochs[id]; ok {
		return &e.Device
	}
	return nil
}

// readEntry reads an entry with its leaf hash and its tile, and its index rows.
func (v *verifier) readEntry(seq uint64) (e record.Entry, ok bool, err error) {
	e, err = v.l.entry(seq, true)
	leafRead := e.Record.RID() != (record.RID{})
	if err != nil && leafRead {
		err = annotate(err, seq, &e)
	} else if err != nil {
		err = v.namedEntry(err, seq)
	}
	if err := v.note(err); err != nil {
		return e, false, err
	}
	var hash record.Hash
	if leafRead {
		hash = record.LeafHash(e.EncodeLeaf())
	}
	stored, terr := v.l.hash(0, seq)
	switch {
	case terr != nil:
		if err := v.note(annotate(terr, seq, &e)); err != nil {
			return e, false, err
		}
		stored = hash
	case leafRead && stored != hash:
		if err := v.note(entryDamage(&e, "entry is not the one in the tree")); err != nil {
			return e, false, err
		}
	}
	if err := v.grow(seq, stored); err != nil {
		return e, false, err
	}
	if !leafRead {
		return e, false, nil
	}
	return e, err == nil, v.entryIndex(&e)
}

// annotate names the entry in an error about one of its rows.
func annotate(err error, seq uint64, e *record.Entry) error {
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	c := *d
	c.Seq, c.HasSeq = seq, true
	if rid := e.Record.RID(); rid != (record.RID{}) {
		c.RID, c.Time = rid, e.Time
	}
	return &c
}

// grow adds a leaf to the tree being computed and compares tiles that got full.
func (v *verifier) grow(seq uint64, h record.Hash) error {
	for _, full := range v.tiles.add(seq, h) {
		key := keyTile(full.level, full.index)
		b, ok, err := v.l.get(key)
		if err == nil && (!ok || !bytes.Equal(b, full.data)) {
			err = damagedRow(key, fmt.Sprintf("tile of the tree over entries up to %d", seq))
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	v.edge.Append(h)
	for _, h := range []struct {
		head record.TreeHead
		what string
	}{{v.l.st.final.head, "final checkpoint"}, {v.l.st.signed, "cosigned head"}} {
		if h.head.Size == v.edge.Size && h.head.Root != v.edge.Root() {
			if err := v.note(damagedEntry(seq, "tree has another root than the "+h.what)); err != nil {
				return err
			}
		}
	}
	return nil
}

// entryIndex checks that every index finds the entry.
func (v *verifier) entryIndex(e *record.Entry) error {
	r := &e.Record
	pos := r.Position()
	row, ok, err := v.l.locate(r.RID())
	if err == nil && (!ok || row.Pending || row.Seq != e.Seq) {
		err = entryDamage(e, "index of record ids does not find it")
	}
	if err := v.note(annotate(err, e.Seq, e)); err != nil {
		return err
	}
	seq, ok, err := v.l.seqAt(pos)
	if err == nil && (!ok || seq != e.Seq) {
		err = entryDamage(e, "index of positions does not find it")
	}
	if err := v.note(annotate(err, e.Seq, e)); err != nil {
		return err
	}
	if c := r.Core.Compartment; !c.IsZero() {
		_, ok, err := v.l.get(keyScope(c, e.Seq))
		if err == nil && !ok {
			err = entryDamage(e, "index of its compartment misses it")
		}
		if err := v.note(annotate(err, e.Seq, e)); err != nil {
			return err
		}
	}
	if p, ok, err := v.l.pending(pos); err == nil && ok && p.Record.RID() == r.RID() {
		return v.note(entryDamage(e, "it is still pending as well"))
	}
	return nil
}

// judge runs the ordering rules over one entry.
func (v *verifier) judge(o *record.Orderer, e *record.Entry) error {
	out, err := o.Add(e.Time, e.Record)
	if err != nil {
		return err
	}
	if out.Verdict != record.Ordered {
		excused := v.broken && (out.Verdict == record.Gap || out.Verdict == record.UnknownEpoch || out.Verdict == record.UnknownDevice || out.Verdict == record.NotAllowed)
		if excused {
			return nil
		}
		return v.note(v.named(e, "by the rules it is not ordered: "+out.Verdict.String()))
	}
	made := o.Changes.Entries[len(o.Changes.Entries)-1]
	if made.Time != e.Time || made.PrevSeq != e.PrevSeq && !v.broken {
		return v.note(v.named(e, "time or previous entry breaks the rules"))
	}
	return nil
}

func (v *verifier) named(e *record.Entry, what string) *DamageError {
	d := entryDamage(e, what)
	if ep, ok := v.mem.epochs[e.Record.Position().Epoch]; ok {
		d.Device = ep.Device
	}
	return d
}

// heads compares what the ledger says with the rows that sum it up.
func (v *verifier) heads() error {
	st := v.l.st
	if v.edge.Root() != st.ledger.Edge.Root() || v.edge.Size != st.ledger.Edge.Size {
		if err := v.note(&DamageError{What: fmt.Sprintf("entries of size %d have another root than the ledger", v.edge.Size)}); err != nil {
			return err
		}
	}
	if v.broken {
		return nil // members, feeds and epochs cannot be computed again
	}
	for c, last := range v.mem.last {
		got, err := v.l.CompartmentLast(c)
		if err == nil && got != last {
			err = damagedRow(keyScopeLast(c), "last entry of the compartment")
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	for d, want := range v.mem.members {
		got, ok := st.members.byDevice[d]
		a, _ := encodeMember(&want)
		b, _ := encodeMember(&got)
		if !ok || !bytes.Equal(a, b) {
			if err := v.note(&DamageError{Key: "members", What: "member table", Device: d}); err != nil {
				return err
			}
		}
	}
	for f, want := range v.mem.heads {
		row, ok, err := v.l.feed(f)
		if err == nil && (!ok || row.Ordered != want) {
			err = damagedRow(keyFeed(pFeed, f), "ordered head of the feed")
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	return nil
}

// pendingFeeds checks that every feed on the work list holds an unbroken chain.
func (v *verifier) pendingFeeds() error {
	return v.scan(pWork, func(key, _ []byte) error {
		f := feedFrom(key[1:])
		row, ok, err := v.l.feed(f)
		if err != nil || !ok {
			return errors.Join(err, damagedRow(key, "feed is missing"))
		}
		last := row.Ordered
		for n := row.Ordered.N + 1; n <= row.Held.N; n++ {
			p, ok, err := v.l.pending(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
			if err == nil && !ok {
				err = damagedRow(key, fmt.Sprintf("pending record at n %d is missing", n))
			}
			if err == nil && p.Record.Core.Prev != last.RID {
				err = &DamageError{What: "pending record does not continue its feed", RID: p.Record.RID()}
			}
			if err != nil {
				return v.namedPending(err, record.Position{Epoch: f.Epoch, Lane: f.Lane, N: n})
			}
			last = record.Head{N: n, RID: p.Record.RID()}
		}
		if last != row.Held {
			return damagedRow(key, "held head of the feed")
		}
		return nil
	})
}

// pendingRows checks every pending record by itself.
func (v *verifier) pendingRows() error {
	return v.scan(pPending, func(key, value []byte) error {
		v.rep.Pending++
		p, err := decodePendingRow(value)
		if err == nil && !bytes.Equal(keyPosition(pPending, p.Record.Position()), key) {
			err = fmt.Errorf("%w: another position", record.ErrMalformed)
		}
		if err != nil {
			return damagedRow(key, err.Error())
		}
		r := &p.Record
		e, ok, err := v.l.epoch(r.Position().Epoch)
		if err == nil && (!ok || r.VerifySignature(e.Device) != nil) {
			err = &DamageError{What: "pending record's signature does not match", RID: r.RID(), Device: e.Device}
		}
		if err != nil {
			return err
		}
		row, ok, err := v.l.locate(r.RID())
		if err == nil && (!ok || !row.Pending || row.Position != r.Position()) {
			err = &DamageError{What: "index of record ids does not find a pending record", RID: r.RID(), Device: e.Device}
		}
		if err != nil {
			return err
		}
		if c := r.Core.Compartment; !c.IsZero() {
			if _, ok, err := v.l.get(keyScopePending(c, r.Position())); err != nil || !ok {
				return errors.Join(err, &DamageError{What: "index of its compartment misses a pending record", RID: r.RID(), Device: e.Device})
			}
		}
		f, _, err := v.l.feed(r.Position().Feed())
		if err == nil && (r.Core.N > f.Ordered.N || r.Core.N == 0) && r.Core.N <= f.Held.N {
			if _, ok, werr := v.l.get(keyFeed(pWork, r.Position().Feed())); werr != nil || !ok {
				return errors.Join(werr, &DamageError{What: "work list misses a pending record", RID: r.RID(), Device: e.Device})
			}
		}
		return err
	})
}

func (v *verifier) refused() error {
	return v.scan(pRefused, func(key, value []byte) error {
		r, err := v.l.decodeRefusal(key, record.RID(key[1:]), value)
		if err == nil && r.Record.VerifyBody() != nil {
			err = &DamageError{What: "refused record's body does not match", RID: r.RID}
		}
		return err
	})
}

// arrivals checks that each arrival leads to its record.
func (v *verifier) arrivals() error {
	var entries uint64
	err := v.scan(pArrival, func(key, value []byte) error {
		a, err := decodeArrivalRow(value)
		if err != nil {
			return damagedRow(key, err.Error())
		}
		row, ok, err := v.l.locate(a.RID)
		if err == nil && (!ok || row.Pending != a.Pending || !row.Pending && row.Seq != a.Seq) {
			err = damagedRow(key, "arrival leads nowhere")
		}
		if !a.Pending {
			entries++
		}
		return err
	})
	if err == nil && entries != v.l.Size() {
		return v.note(&DamageError{Key: "arrivals", What: fmt.Sprintf("%d arrivals for %d entries", entries, v.l.Size())})
	}
	return err
}

// otherRows reads every row of every kind, the tag included.
func (v *verifier) otherRows() error {
	for _, prefix := range []byte{pEntry, pBody, pPosition, pRID, pFeed, pEpoch, pMember, pRegistry, pScope, pScopeOpen, pScopeLast, pTile, pAck, pMeta, pRow, pKV} {
		if err := v.scan(prefix, func(_, _ []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// scan calls f for every row of a kind and notes damage, of a row or found by f.
func (v *verifier) scan(prefix byte, f func(key, value []byte) error) error {
	var from []byte
	for {
		var last []byte
		err := v.l.rows.(*view).scanRaw([]byte{prefix}, from, false, func(key, row []byte) (bool, error) {
			last = key
			v.rep.Rows++
			value, err := openRow(key, row)
			if err == nil {
				err = f(key, value)
			}
			return true, v.note(err)
		})
		var d *DamageError
		if err == nil || !errors.As(err, &d) || last == nil || bytes.Equal(last, from) {
			return v.note(err)
		}
		if err := v.note(err); err != nil {
			return err
		}
		from = append(bytes.Clone(last), 0)
	}
}
