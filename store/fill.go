package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/healthpost/healthpost/record"
)

// Fill puts entries into holes, in one transaction, durable on return. They follow
// each other from one on and may overlap what is held. left and right prove them in
// the tree of head, a size and root of the ledger held here that reaches past the
// holes: see RangeProof. With neither, and no head, the entries must make up whole
// subtrees of a hole, whose hashes are known here. openings are what SpanFor
// gives. n is how many entries are new. Whatever of the rest of the ledger can be
// compared is: feeds, previous entries, signatures. ErrRefused otherwise, and
// nothing changed. What is filled arrives: see Arrivals. A replica whose last hole
// is filled is full.
func (s *Store) Fill(ctx context.Context, from uint64, entries []record.Entry, openings []record.Record, left, right []record.Hash, head record.TreeHead) (n int, err error) {
	if len(entries) == 0 {
		return 0, nil
	}
	recs := append([]record.Record(nil), openings...)
	for i := range entries {
		if entries[i].Seq != from+uint64(i) {
			return 0, fmt.Errorf("filling a hole: %w: entry %d where %d is due", ErrRefused, entries[i].Seq, from+uint64(i))
		}
		recs = append(recs, entries[i].Record)
	}
	if err := s.read(func(l lookup) error { return s.checkAhead(l, recs) }); err != nil {
		return 0, fmt.Errorf("filling a hole: %w", err)
	}
	t, err := s.begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("filling a hole: %w", err)
	}
	f := filling{t: t, l: lookup{t.view, t.state}, from: from, to: from + uint64(len(entries)), entries: entries, nodes: record.Nodes{}}
	if err := f.run(openings, left, right, head); err != nil || f.fresh == 0 {
		t.drop()
		if err != nil {
			err = fmt.Errorf("filling a hole: %w", err)
		}
		return 0, err
	}
	if err := t.commit(); err != nil {
		return 0, fmt.Errorf("filling a hole: %w", err)
	}
	s.interests.again(from)
	return f.fresh, nil
}

// filling is one transaction of Fill. It reads holes and tiles as they were before.
type filling struct {
	t        *tx
	l        lookup
	from, to uint64
	entries  []record.Entry
	nodes    record.Nodes // hashes that are known now
	holes    []holeRow    // that the entries reach into
	fresh    int
	late     bool // one of the new entries is held by all
}

func (f *filling) run(openings []record.Record, left, right []record.Hash, head record.TreeHead) error {
	if f.l.st.absent == 0 {
		return nil
	}
	if f.to > f.l.Size() {
		return fmt.Errorf("%w: entries up to %d of %d", ErrRefused, f.to, f.l.Size())
	}
	err := f.l.eachHole(f.from, func(h *holeRow) (bool, error) {
		if h.From < f.to {
			f.holes = append(f.holes, *h)
		}
		return h.From < f.to, nil
	})
	if err != nil || len(f.holes) == 0 {
		return err
	}
	leaves := make([]record.Hash, len(f.entries))
	for i := range f.entries {
		leaves[i] = record.LeafHash(f.entries[i].EncodeLeaf())
		f.nodes[record.Subtree{Index: f.from + uint64(i)}] = leaves[i]
	}
	if head == (record.TreeHead{}) && len(left)+len(right) == 0 {
		err = f.byHoles()
	} else {
		err = f.byRoot(leaves, left, right, head)
	}
	if err != nil {
		return err
	}
	if err := f.t.addOpenings(f.entries, openings); err != nil {
		return err
	}
	for i := range f.holes {
		if err := f.fill(&f.holes[i]); err != nil {
			return err
		}
	}
	if f.late {
		if err := f.t.judgeAuthority(); err != nil {
			return err
		}
	}
	return f.full()
}

// byRoot proves the entries in the tree of a root that is held.
func (f *filling) byRoot(leaves, left, right []record.Hash, head record.TreeHead) error {
	root, err := f.l.rootAt(head.Size)
	if err != nil {
		return err
	}
	if last := f.holes[len(f.holes)-1]; root != head.Root || head.Size < last.To {
		return fmt.Errorf("%w: root of size %d, for holes up to %d", ErrRefused, head.Size, last.To)
	}
	if err := record.VerifyRange(head, f.from, leaves, left, right); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	f.nodes.AddGap(0, f.from, left)
	f.nodes.AddGap(f.to, head.Size, right)
	return nil
}

// byHoles proves the entries by the subtrees of the holes.
func (f *filling) byHoles() error {
	for i := range f.holes {
		h := &f.holes[i]
		for j, s := range record.GapShape(h.From, h.To) {
			if s.To() <= f.from || s.From() >= f.to {
				continue
			}
			if s.From() < f.from || s.To() > f.to {
				return fmt.Errorf("%w: entries %d to %d are a part of the subtree %d to %d", ErrRefused, f.from, f.to, s.From(), s.To())
			}
			if got, ok := f.nodes.Hash(s); !ok || got != h.Hashes[j] {
				return fmt.Errorf("%w: entries %d to %d are not those of the ledger", ErrRefused, s.From(), s.To())
			}
		}
	}
	for i := range f.entries { // those that are held must be the same
		e := &f.entries[i]
		if slices.ContainsFunc(f.holes, func(h holeRow) bool { return e.Seq >= h.From && e.Seq < h.To }) {
			continue
		}
		leaf, ok, err := f.l.get(keySeq(pEntry, e.Seq))
		if err == nil && (!ok || !bytes.Equal(leaf, e.EncodeLeaf())) {
			err = fmt.Errorf("%w: entry %d is not that of the ledger", ErrRefused, e.Seq)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fill replaces a hole by the entries in it and by what is left of it.
func (f *filling) fill(h *holeRow) error {
	from, to := max(h.From, f.from), min(h.To, f.to)
	f.nodes.AddGap(h.From, h.To, h.Hashes)
	f.t.unset(keyHole(h.From))
	for _, rest := range []Hole{{From: h.From, To: from}, {From: to, To: h.To}} {
		if rest.From < rest.To {
			if err := f.leave(rest); err != nil {
				return err
			}
		}
	}
	if err := f.tiles(h, from, to); err != nil {
		return err
	}
	for i := from; i < to; i++ {
		e := &f.entries[i-f.from]
		if err := f.t.fillEntry(e); err != nil {
			return err
		}
		f.fresh++
		f.late = f.late || e.HeldByAll()
	}
	f.t.next.absent -= to - from
	return nil
}

// leave keeps a part of a hole as a hole.
func (f *filling) leave(rest Hole) error {
	row := holeRow{record.GapHashes{From: rest.From, To: rest.To}}
	for _, s := range record.GapShape(rest.From, rest.To) {
		hash, ok := f.nodes.Hash(s)
		if !ok {
			return fmt.Errorf("%w: the hash of entries %d to %d is not among those given", ErrRefused, s.From(), s.To())
		}
		row.Hashes = append(row.Hashes, hash)
	}
	f.t.put(keyHole(rest.From), row.encode())
	return nil
}

// tiles puts the hashes at the levels of the tiles into them that are known now:
// those above the entries, and those of what is left of the hole.
func (f *filling) tiles(h *holeRow, from, to uint64) error {
	edit := map[record.Subtree][]record.Hash{} // a tile's level and index; its hashes
	known := func(level int, at uint64) error {
		if (at+1)<<(tileHeight*level) > f.l.Size() {
			return nil
		}
		hash, ok := f.nodes.Hash(record.Subtree{Level: tileHeight * level, Index: at})
		if !ok {
			return nil // reaches past the hole, and is known
		}
		return f.set(edit, level, at, hash)
	}
	for level := 0; level <= tileLevelMax; level++ {
		width := uint64(1) << (tileHeight * level)
		if width > h.To-h.From {
			break
		}
		for at := from / width; at <= (to-1)/width; at++ {
			if at*width < h.From || (at+1)*width > h.To {
				continue
			}
			if err := known(level, at); err != nil {
				return err
			}
		}
	}
	for _, rest := range []Hole{{From: h.From, To: from}, {From: to, To: h.To}} {
		for _, s := range record.GapShape(rest.From, rest.To) {
			if s.Level%tileHeight == 0 {
				if err := known(s.Level/tileHeight, s.Index); err != nil {
					return err
				}
			}
		}
	}
	return f.write(edit)
}

// set changes a hash of a tile.
func (f *filling) set(edit map[record.Subtree][]record.Hash, level int, at uint64, hash record.Hash) error {
	tile := record.Subtree{Level: level, Index: at / tileHashes}
	hashes, ok := edit[tile]
	if !ok {
		var err error
		if hashes, err = f.t.tileNow(level, tile.Index); err != nil {
			return err
		}
		hashes = append(make([]record.Hash, 0, tileHashes), hashes...)
		edit[tile] = hashes
	}
	if i := at % tileHashes; i < uint64(len(hashes)) {
		hashes[i] = hash
	}
	return nil
}

// tileNow is a tile as this transaction has it.
func (t *tx) tileNow(level int, index uint64) ([]record.Hash, error) {
	b, ok, err := t.get(keyTile(level, index))
	if err == nil && ok && t.rows[string(keyTile(level, index))] != nil {
		if hashes, ok := decodeTile(b); ok {
			return hashes, nil
		}
	}
	if index == t.next.ledger.Edge.Size>>(tileHeight*(level+1)) && level < len(t.next.partial) {
		return t.next.partial[level], nil
	}
	return lookup{t.view, t.state}.tile(level, index)
}

func (f *filling) write(edit map[record.Subtree][]record.Hash) error {
	for tile, hashes := range edit {
		if len(hashes) == tileHashes {
			f.t.put(keyTile(tile.Level, tile.Index), encodeTile(hashes))
			continue
		}
		f.t.next.partial = slices.Clone(f.t.next.partial)
		f.t.next.partial[tile.Level] = hashes
	}
	return nil
}

// fillEntry checks an entry against what is held around it and stores it.
func (t *tx) fillEntry(e *record.Entry) error {
	r := &e.Record
	pos := r.Position()
	device := record.DeviceID{}
	if r.Core.Kind == record.KindEpochOpen {
		open, err := record.DecodeEpochOpen(r.Body)
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrRefused, e.Seq, err)
		}
		device = record.DeviceID(open.Device)
	} else {
		epoch, ok, err := t.lookup().epoch(pos.Epoch)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: entry %d: %s", ErrRefused, e.Seq, record.UnknownEpoch)
		}
		device = epoch.Device
	}
	if _, ok := t.next.members.byDevice[device]; !ok {
		return fmt.Errorf("%w: entry %d: %s", ErrRefused, e.Seq, record.UnknownDevice)
	}
	v := t.s.checkRecord(r, device)
	if v == record.BadBody && r.Body == nil && r.Core.Erasable() && r.VerifySignature(device) == nil {
		v = record.Ordered
	}
	if v != record.Ordered {
		return fmt.Errorf("%w: entry %d: %s", ErrRefused, e.Seq, v)
	}
	if err := t.between(e); err != nil {
		return err
	}
	t.seen(r.Core.HLC)
	t.put(keySeq(pEntry, e.Seq), e.EncodeLeaf())
	if e.Time > t.next.ledger.Time { // it is the last one held
		t.next.ledger.Time = e.Time
		t.put(keyLedger, t.next.ledger.encode())
	}
	if pos.N == 0 {
		row := epochRow{Device: device, Opening: r.RID(), Ordered: true, Seq: e.Seq}
		t.put(keyEpoch(pos.Epoch), row.encode())
	}
	return t.indexEntry(e)
}

// between compares an entry with those before and behind it in its feed.
func (t *tx) between(e *record.Entry) error {
	l := t.lookup()
	pos := e.Record.Position()
	refuse := func(what string) error {
		return fmt.Errorf("%w: entry %d: %s", ErrRefused, e.Seq, what)
	}
	if pos.N == 0 {
		return nil
	}
	if seq, ok, err := l.seqAt(pos); err != nil || ok {
		if err == nil {
			err = refuse(fmt.Sprintf("entry %d has its position", seq))
		}
		return err
	}
	before := pos
	before.N--
	if epoch, _, err := l.epoch(pos.Epoch); err != nil {
		return err
	} else if before.N == 0 && e.Record.Core.Prev != epoch.Opening {
		return refuse(record.BadPrev.String())
	}
	if seq, ok, err := l.seqAt(before); err != nil {
		return err
	} else if ok && before.N > 0 {
		x, err := l.entry(seq, false)
		if err != nil {
			return err
		}
		if x.Record.RID() != e.Record.Core.Prev || seq > e.Seq {
			return refuse(record.BadPrev.String())
		}
	}
	behind := pos
	behind.N++
	seq, ok, err := l.seqAt(behind)
	if err != nil || !ok {
		return err
	}
	x, err := l.entry(seq, false)
	if err == nil && (x.Record.Core.Prev != e.Record.RID() || seq < e.Seq) {
		err = refuse("the next of its feed does not continue it")
	}
	return err
}

// full ends the time of being partial when the last hole is gone.
func (f *filling) full() error {
	if f.t.next.absent > 0 {
		return nil
	}
	for _, prefix := range []byte{pMissing, pLoose} {
		err := f.t.view.scanRaw([]byte{prefix}, nil, false, func(key, _ []byte) (bool, error) {
			f.t.unset(key)
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	for key := range f.t.rows {
		if key[0] == pMissing || key[0] == pLoose {
			f.t.unset([]byte(key))
		}
	}
	for _, w := range f.t.state.work {
		if err := f.t.setBack(w.Feed); err != nil {
			return err
		}
	}
	return nil
}

// setBack ends a feed where the ledger does, when its pending records were taken in
// behind some that it does not have: those stay as refused until the ones before
// them come.
func (t *tx) setBack(feed record.Feed) error {
	l := t.lookup()
	row, ok, err := l.feed(feed)
	if err != nil || !ok || row.Ordered.N == 0 {
		return err
	}
	at := func(n uint64) bool {
		known, herr := t.has(keyPosition(pPosition, record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: n}))
		err = errors.Join(err, herr)
		return known
	}
	n := uint64(sort.Search(int(row.Ordered.N), func(i int) bool { return !at(uint64(i) + 1) }))
	if err != nil || n == row.Ordered.N {
		return err
	}
	for behind := row.Ordered.N + 1; behind <= row.Held.N; behind++ {
		p, ok, err := l.pending(record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: behind})
		if err == nil && ok {
			err = t.moveRefused(p, record.BadPrev)
		}
		if err != nil {
			return err
		}
	}
	e, _, err := l.epoch(feed.Epoch)
	if err != nil {
		return err
	}
	head := record.Head{RID: e.Opening}
	if n > 0 {
		seq, _, err := l.seqAt(record.Position{Epoch: feed.Epoch, Lane: feed.Lane, N: n})
		if err != nil {
			return err
		}
		last, err := l.entry(seq, false)
		if err != nil {
			return err
		}
		head = record.Head{N: n, RID: last.Record.RID()}
	}
	row.Ordered, row.Held = head, head
	if n == 0 {
		t.unset(keyFeed(pFeed, feed))
	} else {
		t.put(keyFeed(pFeed, feed), row.encode())
	}
	return t.trimFeed(record.Position{Epoch: feed.Epoch, Lane: feed.Lane}, row)
}
