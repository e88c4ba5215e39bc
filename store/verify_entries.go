package store

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// chunk is entries of one tile on their way: read, checked by themselves on any
// core, judged in order.
type chunk struct {
	from uint64
	rows []entryRows
	hole *holeRow      // instead of entries
	tile []record.Hash // of the entries, nil when it cannot be read: grow reports it
	err  error         // of reading
	done chan struct{}

	erased *erased // as of the snapshot

	made []checked
	sums indexSums
}

// chunkBytesMax bounds the bodies in one chunk, which holds at least one entry.
const chunkBytesMax = 1 << 20

type entryRows struct {
	leaf, body rawRow
	awaited    bool // the body did not come with the entry
}

// rawRow is a row as stored, or what reading it gave.
type rawRow struct {
	sealed []byte
	err    error
}

func (r *rawRow) open(prefix byte, seq uint64) ([]byte, error) {
	if r.err != nil || r.sealed == nil {
		return nil, r.err
	}
	return openRow(keySeq(prefix, seq), r.sealed)
}

// checked is an entry after all that can be said of it alone.
type checked struct {
	entry  record.Entry
	read   bool // the leaf is readable
	whole  bool // body and all
	hash   record.Hash
	signer record.DeviceID // meaningful when signed
	signed bool
	err    error
}

// entries reads up to size in one goroutine, checks in some, judges in this one.
func (v *verifier) entries(ctx context.Context, size uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	jobs, ordered := make(chan *chunk), make(chan *chunk, v.o.Workers)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer close(ordered)
		defer close(jobs)
		v.readEntries(ctx, v.edge.Size, size, jobs, ordered)
	}()
	for range v.o.Workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for c := range jobs {
				v.checkChunk(c)
				close(c.done)
			}
		}()
	}
	defer wg.Wait()
	defer cancel()
	for c := range ordered {
		<-c.done
		if err := errors.Join(c.err, ctx.Err()); err != nil {
			return err
		}
		if err := v.judgeChunk(c); err != nil {
			return err
		}
		v.progress(v.rep.Entries+v.rep.Absent, size-v.rep.From)
	}
	return ctx.Err()
}

// readEntries sends chunks to the workers and, in order, to the judge.
func (v *verifier) readEntries(ctx context.Context, from, to uint64, jobs, ordered chan<- *chunk) {
	for from < to {
		err := v.see(func(l lookup) error {
			for read := v.read; from < to && v.read-read < verifyViewBytes; {
				c := v.readPiece(l, from, to)
				if c.hole != nil {
					from = c.hole.To
				}
				from += uint64(len(c.rows))
				if !v.send(ctx, c, jobs, ordered) {
					return ctx.Err()
				}
				if c.err != nil {
					return c.err
				}
			}
			return nil
		})
		if err != nil {
			if ctx.Err() == nil {
				c := &chunk{err: err, done: make(chan struct{})}
				close(c.done)
				select {
				case ordered <- c:
				case <-ctx.Done():
				}
			}
			return
		}
		v.pause()
	}
}

func (v *verifier) send(ctx context.Context, c *chunk, jobs, ordered chan<- *chunk) bool {
	select {
	case ordered <- c:
	case <-ctx.Done():
		return false
	}
	select { // the judge waits for it now
	case jobs <- c:
		return true
	case <-ctx.Done():
		close(c.done)
		return false
	}
}

// readPiece reads the hole or the chunk of entries at a place.
func (v *verifier) readPiece(l lookup, from, to uint64) *chunk {
	to = min(to, from|(tileHashes-1)+1)
	if l.st.absent > 0 {
		h, ok, err := l.holeAt(from)
		if err != nil || ok {
			return &chunk{from: from, hole: &h, err: err, done: make(chan struct{})}
		}
		h, ok, err = l.holeFrom(from)
		if err != nil {
			return &chunk{from: from, err: err, done: make(chan struct{})}
		}
		if ok {
			to = min(to, h.From)
		}
	}
	return v.readChunk(l, from, to)
}

// readChunk reads leaves, bodies and hashes of entries [from, to) of one tile, or
// of the first of them.
func (v *verifier) readChunk(l lookup, from, to uint64) *chunk {
	c := &chunk{from: from, rows: make([]entryRows, to-from), done: make(chan struct{}), erased: l.st.erased}
	c.err = v.readRows(l, pEntry, from, to, func(i uint64) *rawRow { return &c.rows[i].leaf })
	if c.err != nil {
		return c
	}
	bytes := 0
	c.err = v.readRows(l, pBody, from, to, func(i uint64) *rawRow {
		if i > 0 {
			bytes += len(c.rows[i-1].body.sealed)
		}
		if bytes > chunkBytesMax {
			return nil
		}
		return &c.rows[i].body
	})
	c.cut(v)
	for i := range c.rows {
		if len(c.rows[i].body.sealed) == tagBytes && c.err == nil { // no body: erased, awaited, or of length 0
			_, c.rows[i].awaited, c.err = l.get(keyAwaited(from + uint64(i)))
			c.err = ignoreDamage(c.err)
		}
	}
	hashes, err := l.storedTile(0, from/tileHashes)
	if first := from % tileHashes; err == nil && first+uint64(len(c.rows)) <= uint64(len(hashes)) {
		c.tile = hashes[first:]
	} else if err != nil && !errors.Is(err, ErrDamaged) && c.err == nil {
		c.err = err
	}
	return c
}

// cut drops the entries whose bodies were not read, and counts the others.
func (c *chunk) cut(v *verifier) {
	n, bytes := 0, 0
	for n < len(c.rows) && bytes <= chunkBytesMax {
		bytes += len(c.rows[n].body.sealed)
		v.read += len(c.rows[n].leaf.sealed) + len(c.rows[n].body.sealed)
		n++
	}
	c.rows = c.rows[:n]
}

// readRows reads the rows of entries [from, to) under a prefix in one scan. What
// the scan misses, because a block does not verify, is asked for by itself. at
// gives the place for a row, nil to read no further.
func (v *verifier) readRows(l lookup, prefix byte, from, to uint64, at func(i uint64) *rawRow) error {
	next := from
	var stop bool
	fill := func(upTo uint64) error { // ask for what the scan went past
		for ; next < upTo && !stop; next++ {
			r := at(next - from)
			if r == nil {
				stop = true
				break
			}
			key := keySeq(prefix, next)
			value, ok, err := l.get(key)
			if err != nil && !errors.Is(err, ErrDamaged) {
				return err
			}
			if r.err = err; ok {
				r.sealed = sealRow(key, value)
			}
		}
		return nil
	}
	err := l.rows.(*view).scanRaw([]byte{prefix}, keySeq(prefix, from), false, func(key, row []byte) (bool, error) {
		if len(key) != 9 {
			return true, v.note(strayRow(key))
		}
		seq := binary.BigEndian.Uint64(key[1:])
		if err := fill(min(seq, to)); err != nil || stop || seq >= to {
			return false, err
		}
		r := at(seq - from)
		if r == nil {
			stop = true
			return false, nil
		}
		r.sealed = row
		next = seq + 1
		v.rep.Rows++
		return true, nil
	})
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	return fill(to)
}

// fixable is damage of a row that can be computed: what it should be, nil when it
// should not be there. With arrive the record gets a new arrival instead; with
// aside a pending record that has no place goes to the refused ones.
type fixable struct {
	*DamageError
	key, value []byte
	arrive     *arrivalRow
	aside      bool
}

// Unwrap makes it the damage that it is about.
func (f *fixable) Unwrap() error { return f.DamageError }

func strayRow(key []byte) error {
	return &fixable{DamageError: damagedRow(key, "row that no record accounts for"), key: key}
}

// lost is damage of a record's row that should be there.
func lost(d *DamageError, key, value []byte) error {
	if value == nil {
		value = []byte{}
	}
	return &fixable{DamageError: d, key: key, value: value}
}

func (v *verifier) checkChunk(c *chunk) {
	c.made = make([]checked, len(c.rows))
	opened := map[record.EpochID]record.DeviceID{}
	for i := range c.rows {
		m := &c.made[i]
		v.checkEntry(c.from+uint64(i), &c.rows[i], m, opened, c.erased)
		if m.read {
			c.sums.addEntry(v.seeds, &m.entry)
			if !c.erased.covers(&m.entry.Record) {
				v.announces(m)
			}
		}
	}
	c.rows = nil
}

// checkEntry checks bytes, hashes and the signature.
func (v *verifier) checkEntry(seq uint64, rows *entryRows, c *checked, opened map[record.EpochID]record.DeviceID, erased *erased) {
	leaf, err := rows.leaf.open(pEntry, seq)
	if err == nil && leaf == nil {
		err = damagedEntry(seq, "entry is missing")
	}
	if err == nil {
		if c.entry, err = record.DecodeLeaf(seq, leaf); err != nil {
			err = damagedEntry(seq, err.Error())
		}
	}
	if c.err = err; err != nil {
		return
	}
	c.read, c.hash = true, record.LeafHash(leaf)
	body, err := rows.body.open(pBody, seq)
	switch {
	case err != nil:
		c.err = annotate(err, seq, &c.entry)
		return
	case body == nil:
		c.err = entryDamage(&c.entry, "body is missing")
		return
	}
	r := c.entry.Record
	switch gone := erased.covers(&r); {
	case gone && len(body) > 0:
		c.err = entryDamage(&c.entry, "body is here though it is erased")
		return
	case len(body) > 0 || r.Core.BodyLen == 0 || !r.Core.Erasable():
		r = r.WithBody(body)
	case !gone && !rows.awaited:
		c.err = entryDamage(&c.entry, "body is missing")
		return
	}
	if c.entry.Record = r; r.Body != nil && r.VerifyBody() != nil {
		c.err = entryDamage(&c.entry, "body does not match its hash")
		return
	}
	c.whole = true
	var known bool
	if v.trusting {
		c.signed = true
		c.signer, _ = v.signer(&r, opened) // a name for reports: one that is unknown stays zero, and the judge compares
	} else if c.signer, known = v.signer(&r, opened); known {
		c.signed = r.VerifySignature(c.signer) == nil
	}
}

// signer is who probably signed a record. The judge compares.
func (v *verifier) signer(r *record.Record, opened map[record.EpochID]record.DeviceID) (d record.DeviceID, ok bool) {
	id := r.Position().Epoch
	if r.Core.Kind == record.KindEpochOpen {
		e, err := record.DecodeEpochOpen(r.Body)
		if err != nil {
			return d, false
		}
		opened[id] = record.DeviceID(e.Device)
		return opened[id], true
	}
	if d, ok = opened[id]; !ok {
		d, ok = v.hints[id]
	}
	return d, ok
}

// judgeChunk goes entry by entry through tree and rules.
func (v *verifier) judgeChunk(c *chunk) error {
	if c.hole != nil {
		return v.passHole(c.hole)
	}
	clear(v.opened)
	var now *checked
	verified := func(rid record.RID, sig [64]byte) bool {
		return now.signed && now.entry.Record.RID() == rid && now.entry.Record.Sig == sig && (v.trusting || v.signerHolds(now))
	}
	o := v.orderer(verified)
	for i := range c.made {
		now = &c.made[i]
		seq := c.from + uint64(i)
		if err := v.place(c, i); err != nil {
			return err
		}
		if !now.whole {
			v.broken = true
			v.mem.skip(o)
			v.mem.size = seq + 1
			o = v.orderer(verified)
			continue
		}
		if err := v.judge(o, &now.entry); err != nil {
			return err
		}
		if o.Size() != seq+1 { // not ordered: go on behind it
			v.mem.skip(o)
			v.mem.force(&now.entry)
			o = v.orderer(verified)
		} else if now.entry.Record.Core.Kind == record.KindEpochOpen {
			v.opened[now.entry.Record.OpenedEpoch()] = now.signer
		}
	}
	v.mem.skip(o)
	v.rep.Entries += uint64(len(c.made))
	if v.rep.From > 0 { // the rows of old entries are not read again: look these up
		return v.see(func(l lookup) error { return v.lookUp(l, c) })
	}
	v.want.merge(&c.sums)
	return nil
}

// lookUp finds the entries of a chunk by their index rows.
func (v *verifier) lookUp(l lookup, c *chunk) error {
	for i := range c.made {
		if c.made[i].read {
			if err := v.entryIndex(l, &c.made[i].entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// signerHolds says whether the key that a signature was checked with is the
// author's by the ledger.
func (v *verifier) signerHolds(c *checked) bool {
	r := &c.entry.Record
	if r.Core.Kind == record.KindEpochOpen {
		return true // it came from the record itself
	}
	if d, ok := v.opened[r.Core.Epoch]; ok {
		return d == c.signer
	}
	e, ok, err := v.mem.Epoch(r.Core.Epoch)
	return err == nil && ok && e.Device == c.signer
}

// place compares an entry with the tree and adds it to the computed one. Where an
// entry is damaged the tree goes on with the hash that it was given then.
func (v *verifier) place(c *chunk, i int) error {
	m, seq := &c.made[i], c.from+uint64(i)
	if m.err != nil {
		err := m.err
		if !m.read {
			err = v.namedEntry(err, seq)
		}
		if err := v.note(v.authored(err, m)); err != nil {
			return err
		}
	}
	hash := m.hash
	if c.tile != nil {
		hash = c.tile[i]
	}
	if m.read && hash != m.hash {
		if err := v.note(v.authored(entryDamage(&m.entry, "entry is not the one in the tree"), m)); err != nil {
			return err
		}
	}
	return v.grow(seq, hash)
}

// authored adds the author to damage of an entry.
func (v *verifier) authored(err error, m *checked) error {
	var d *DamageError
	if !errors.As(err, &d) || d.Device != (record.DeviceID{}) || !m.read {
		return err
	}
	c := *d
	c.Device = v.hints[m.entry.Record.Position().Epoch]
	return &c
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

// grow adds a leaf to the tree being computed and compares the tiles that got full.
func (v *verifier) grow(seq uint64, h record.Hash) error {
	return v.sameTiles(v.tiles.add(seq, 0, v.edge.Append(h)))
}

// sameTiles compares tiles that got full with those that are there.
func (v *verifier) sameTiles(full []tileRow) error {
	for _, t := range full {
		err := v.see(func(l lookup) error {
			key := keyTile(t.level, t.index)
			d := damagedRow(key, "tile of the tree")
			d.Seq, d.End, d.HasSeq = t.index<<(tileHeight*(t.level+1)), (t.index+1)<<(tileHeight*(t.level+1)), true
			d.Until = v.mem.time
			return l.sameRow(key, t.data, d)
		})
		if err := v.note(err); err != nil {
			return err
		}
	}
	return nil
}

// entryIndex checks that every index finds the entry; of arrivals, which cannot be
// looked up, only indexes knows.
func (v *verifier) entryIndex(l lookup, e *record.Entry) error {
	for _, ix := range indexes() {
		key, ok := ix.expects(e)
		if !ok || key == nil {
			continue
		}
		if err := v.note(v.missing(l, &ix, e.Seq)); err != nil {
			return err
		}
	}
	return nil
}

// judge runs the ordering rules over one entry.
func (v *verifier) judge(o *record.Orderer, e *record.Entry) error {
	out, err := v.judged(o, e)
	if err != nil {
		return v.note(err)
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
	id := e.Record.Position().Epoch
	if ep, ok := v.mem.epochs[id]; ok {
		d.Device = ep.Device
	} else {
		d.Device = v.hints[id]
	}
	return d
}

// rangeOf says which entries a damaged table of the index holds, as far as its
// blocks say.
func (v *verifier) rangeOf(err error) error {
	var d *DamageError
	var b *blockError
	if !errors.As(err, &d) || !errors.As(err, &b) {
		return err
	}
	from, to, ok := b.entries()
	if !ok {
		return err
	}
	c := *d
	c.Seq, c.End, c.HasSeq = from, to, true
	lookErr := v.see(func(l lookup) error {
		c.End = min(c.End, l.Size())
		if from > 0 {
			if e, err := l.entry(from-1, false); err == nil {
				c.Time = e.Time
			}
		}
		if e, err := l.entry(c.End, false); err == nil {
			c.Until = e.Time
		}
		return nil
	})
	if lookErr != nil && !errors.Is(lookErr, ErrDamaged) {
		return lookErr
	}
	return &c
}
