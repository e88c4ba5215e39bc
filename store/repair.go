package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// repairBytesMax is what one transaction of Repair takes in.
const repairBytesMax = 1 << 20

// Repair takes entries of this ledger from a peer again and rewrites the rows that
// are damaged here: leaf, body, tiles, and the indexes that find the entry. Each
// entry must have the leaf hash that the tree held here says; where the tree's own
// tiles are damaged, the entries together with what is sound must make the hash
// above come out right. ErrRefused otherwise, and nothing of that transaction of
// about 1 MiB changed. fixed counts rows; it is durable on return.
func (s *Store) Repair(ctx context.Context, entries []record.Entry) (fixed int, err error) {
	for len(entries) > 0 {
		n, bytes := 0, 0
		for n < len(entries) && (n == 0 || bytes < repairBytesMax) {
			bytes += len(entries[n].Record.Body) + record.HeaderBytesMax
			n++
		}
		some, err := s.repairSome(ctx, entries[:n])
		fixed += some
		if err != nil {
			return fixed, fmt.Errorf("repairing entries from %d: %w", entries[0].Seq, err)
		}
		entries = entries[n:]
	}
	return fixed, nil
}

func (s *Store) repairSome(ctx context.Context, entries []record.Entry) (fixed int, err error) {
	t, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	r := repair{tx: t, l: t.lookup(), given: map[uint64][]byte{}, proven: map[uint64]record.Hash{}}
	if err := r.run(entries); err != nil || r.fixed == 0 {
		t.drop()
		return 0, err
	}
	return r.fixed, t.commit()
}

// repair is one transaction of Repair.
type repair struct {
	tx     *tx
	l      lookup
	given  map[uint64][]byte      // leaves that a peer gave
	proven map[uint64]record.Hash // leaf hashes under tiles that had to be made again
	fixed  int
}

func (r *repair) run(entries []record.Entry) error {
	for i := range entries {
		e := &entries[i]
		if r.l.st.erased.covers(&e.Record) && e.Seq < r.l.Size() {
			e.Record = e.Record.WithBody(nil)
		} else if e.Seq >= r.l.Size() || e.Record.Body == nil || e.Record.VerifyBody() != nil {
			return fmt.Errorf("%w: entry %d of %d, or its body", ErrRefused, e.Seq, r.l.Size())
		}
		r.given[e.Seq] = e.EncodeLeaf()
	}
	for i := range entries {
		e := &entries[i]
		if r.l.st.absent > 0 { // what is in a hole is not damaged
			if _, hole, err := r.l.holeAt(e.Seq); err != nil || hole {
				if err != nil {
					return err
				}
				continue
			}
		}
		want, err := r.hashOf(e.Seq)
		if err == nil && want != record.LeafHash(r.given[e.Seq]) {
			err = fmt.Errorf("%w: entry %d is not the one in the tree", ErrRefused, e.Seq)
		}
		if err == nil {
			err = r.rewrite(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rewrite puts the rows of an entry right that differ.
func (r *repair) rewrite(e *record.Entry) error {
	if err := r.put(keySeq(pEntry, e.Seq), r.given[e.Seq]); err != nil {
		return err
	}
	if err := r.put(keySeq(pBody, e.Seq), e.Record.Body); err != nil {
		return err
	}
	r.tx.unset(keyAwaited(e.Seq))
	for _, ix := range indexes() {
		if key, ok := ix.expects(e); ok && key != nil {
			if err := r.put(key, ix.value(e)); err != nil {
				return err
			}
		}
	}
	if e.Record.Core.Kind != record.KindEpochOpen {
		return nil
	}
	open, err := record.DecodeEpochOpen(e.Record.Body)
	if err != nil {
		return fmt.Errorf("%w: entry %d: %w", ErrRefused, e.Seq, err)
	}
	row, ok, err := r.l.epoch(e.Record.OpenedEpoch())
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	if want := (epochRow{Device: record.DeviceID(open.Device), Opening: e.Record.RID(), Ordered: true, Seq: e.Seq, Refused: row.Refused && ok}); err != nil || row != want {
		return r.put(keyEpoch(e.Record.OpenedEpoch()), want.encode())
	}
	return nil
}

func (r *repair) put(key, value []byte) error {
	have, ok, err := r.tx.get(key)
	if err == nil && ok && bytes.Equal(have, value) {
		return nil
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	r.tx.put(key, value)
	r.fixed++
	return nil
}

// hashOf is the leaf hash of an entry as the tree proves it.
func (r *repair) hashOf(seq uint64) (record.Hash, error) {
	if h, ok := r.proven[seq]; ok {
		return h, nil
	}
	level, index := 0, seq/tileHashes
	hashes, err := r.soundTile(0, index)
	if err == nil {
		return hashes[seq%tileHashes], nil
	}
	for errors.Is(err, ErrDamaged) { // the lowest tile above that can be trusted
		level, index = level+1, index/tileHashes
		hashes, err = r.soundTile(level, index)
	}
	if err != nil {
		return record.Hash{}, err
	}
	below := seq >> (tileHeight * level)
	rows := map[string][]byte{}
	h, err := r.makeTile(level-1, below, rows)
	if err == nil && h != hashes[below%tileHashes] {
		err = fmt.Errorf("%w: entries %d to %d do not make the hash above them", ErrRefused, below<<(tileHeight*level), (below+1)<<(tileHeight*level)-1)
	}
	if err != nil {
		return record.Hash{}, err
	}
	for key, row := range rows {
		if err := r.put([]byte(key), row); err != nil {
			return record.Hash{}, err
		}
	}
	return r.proven[seq], nil
}

// soundTile gives a tile that the tiles above it prove. What is in memory was
// proven by the root when the store was opened.
func (r *repair) soundTile(level int, index uint64) ([]record.Hash, error) {
	hashes, err := r.l.storedTile(level, index)
	if err != nil {
		return nil, err
	}
	if index >= r.l.Size()>>(tileHeight*(level+1)) {
		return hashes, nil
	}
	above, err := r.soundTile(level+1, index/tileHashes)
	if err != nil {
		return nil, err
	}
	whole := subtree(hashes)
	if r.l.st.absent > 0 && slices.Contains(hashes, record.Hash{}) {
		if whole, err = r.l.sparseBelow(tileHeight*(level+1), index); errors.Is(err, ErrHole) {
			return hashes, nil
		} else if err != nil {
			return nil, err
		}
	}
	if whole != above[index%tileHashes] {
		return nil, damagedRow(keyTile(level, index), "tile is not the one in the tree")
	}
	return hashes, nil
}

// makeTile computes a full tile and those below it from leaves: the given ones,
// and what is here. It gives their hash.
func (r *repair) makeTile(level int, index uint64, rows map[string][]byte) (record.Hash, error) {
	hashes, data := make([]record.Hash, tileHashes), make([]byte, 0, tileHashes*32)
	for i := range hashes {
		at := index*tileHashes + uint64(i)
		var err error
		if level > 0 {
			hashes[i], err = r.makeTile(level-1, at, rows)
		} else {
			hashes[i], err = r.leafHash(at)
		}
		if err != nil {
			return record.Hash{}, err
		}
		data = append(data, hashes[i][:]...)
	}
	rows[string(keyTile(level, index))] = data
	return subtree(hashes), nil
}

func (r *repair) leafHash(seq uint64) (h record.Hash, err error) {
	leaf, ok := r.given[seq]
	if !ok {
		leaf, ok, err = r.l.get(keySeq(pEntry, seq))
		if err == nil && !ok {
			err = damagedEntry(seq, "entry is missing")
		}
	}
	if err != nil {
		return h, fmt.Errorf("%w: entry %d is needed as well: %w", ErrRefused, seq, err)
	}
	h = record.LeafHash(leaf)
	r.proven[seq] = h
	return h, nil
}

const (
	straysMax   = 20_000 // rows put right in one transaction
	strayRounds = 8
)

// DropStray puts right what can be computed from entries and pending records:
// rows that none of them accounts for go, those that differ are written again. A
// record that its author signed is never dropped. Entries that are damaged are
// Repair's: while there are any, what depends on them stays as it is. fixed counts
// rows.
func (s *Store) DropStray(ctx context.Context) (fixed int, err error) {
	for range strayRounds {
		n, err := s.dropSome(ctx)
		fixed += n
		if err != nil {
			return fixed, fmt.Errorf("putting rows right: %w", err)
		}
		if n == 0 {
			break
		}
	}
	return fixed, nil
}

// dropSome verifies. Rows of entries never change, so what is found of them is
// fixed afterwards; what can change is looked at with the write mutex held.
func (s *Store) dropSome(ctx context.Context) (fixed int, err error) {
	v := newVerifier(s, VerifyOptions{}, nil)
	v.trusting = true
	var found []*fixable
	v.fix = func(f *fixable) {
		if len(found) < straysMax {
			found = append(found, f)
		}
	}
	var t *tx
	if s.HasHoles() { // they may be filled: nothing may move meanwhile
		if t, err = s.begin(ctx); err != nil {
			return 0, err
		}
		v.snapshot = &lookup{t.view, t.state}
	}
	if err := v.immutable(ctx); err != nil {
		if t != nil {
			t.drop()
		}
		return 0, err
	}
	if t == nil {
		if t, err = s.begin(ctx); err != nil {
			return 0, err
		}
	}
	l := lookup{t.view, t.state}
	if err = v.rest(ctx, l); err == nil {
		err = t.setRight(found, v.edge.Root() == l.st.ledger.Edge.Root())
	}
	if err == nil {
		err = t.setCounts(l)
	}
	if err != nil || len(t.rows) == 0 {
		t.drop()
		return 0, err
	}
	return len(t.rows), t.commit()
}

// setRight writes what was found: first what goes, then what comes, so that a row
// that is spoiled and needed is there in the end. Tiles only when the tree that
// was computed is the ledger's.
func (t *tx) setRight(found []*fixable, tree bool) error {
	for _, f := range found {
		if f.value == nil && f.arrive == nil && !f.aside && t.mayDrop(f.key) {
			t.unset(f.key)
		}
	}
	members := false
	for _, f := range found {
		var err error
		switch {
		case f.arrive != nil:
			err = t.arriveAgain(f)
		case f.aside:
			err = t.setAside(f.key)
		case f.value != nil && (tree || f.key[0] != pTile):
			t.put(f.key, f.value)
		}
		if err == nil && string(f.key) == string(keyLedger) && f.value != nil {
			var end ledgerRow
			end, err = decodeLedgerRow(f.value)
			t.next.ledger.Time = end.Time
		}
		if err != nil {
			return err
		}
		members = members || len(f.key) > 0 && f.key[0] == pMember
		if t.bytes > groupBytesMax/2 {
			break
		}
	}
	if !members {
		return nil
	}
	byDevice := map[record.DeviceID]record.Member{}
	err := t.view.scanRaw([]byte{pMember}, nil, false, func(key, _ []byte) (bool, error) { return true, t.memberRow(key, byDevice) })
	for key := range t.rows {
		if err == nil && key[0] == pMember {
			err = t.memberRow([]byte(key), byDevice)
		}
	}
	t.next.members = newMembers(byDevice)
	return err
}

func (t *tx) memberRow(key []byte, byDevice map[record.DeviceID]record.Member) error {
	b, ok, err := t.get(key)
	if err != nil || !ok {
		return err
	}
	m, err := decodeMember(b)
	if err == nil && bytes.Equal(key, keyMember(m.Device)) {
		byDevice[m.Device] = m
	}
	return err
}

// arriveAgain gives a record that the list of arrivals misses a new number.
func (t *tx) arriveAgain(f *fixable) error {
	n := t.arrive(f.arrive.RID, f.arrive.Pending, f.arrive.Seq)
	if !f.arrive.Pending {
		return nil
	}
	b, ok, err := t.get(f.key)
	if err != nil || !ok {
		return err
	}
	p, err := decodePendingRow(b)
	if err != nil {
		return nil // reported
	}
	p.Arrival = n
	t.put(f.key, p.encode())
	return nil
}

// setAside takes a record out of pending that is an entry too, or notes that it is
// refused when it has no place.
func (t *tx) setAside(key []byte) error {
	b, ok, err := t.get(key)
	if err != nil || !ok {
		return err
	}
	p, err := decodePendingRow(b)
	if err != nil {
		return nil // reported
	}
	rid, pos := p.Record.RID(), p.Record.Position()
	at, ok, err := t.lookup().locate(rid)
	if err != nil {
		return err
	}
	if !ok || at.Pending {
		return t.putRefusal(record.Outcome{RID: rid, Verdict: record.BadPrev}, pos, record.DeviceID{}, nil)
	}
	if e, err := t.lookup().entry(at.Seq, true); err != nil || e.Record.RID() != rid {
		return err
	}
	t.unset(key)
	return nil
}

// mayDrop says whether a row may go: not when it holds a record that its author
// signed, whatever place that has.
func (t *tx) mayDrop(key []byte) bool {
	l := t.lookup()
	signed := func(r *record.Record) bool {
		e, ok, err := l.epoch(r.Position().Epoch)
		return err != nil || ok && r.VerifySignature(e.Device) == nil
	}
	switch key[0] {
	case pPending:
		b, ok, err := t.get(key)
		p, derr := decodePendingRow(b)
		return err != nil || !ok || derr != nil || !signed(&p.Record)
	case pRefused:
		if len(key) != 33 {
			return true
		}
		r, ok, err := l.refusal(record.RID(key[1:]))
		if err != nil || !ok || !signed(&r.Record) || r.Record.VerifyBody() != nil {
			return true
		}
		at, ok, err := l.locate(r.RID)
		return err == nil && ok && !at.Pending
	case pEntry, pBody:
		if len(key) != 9 {
			return true
		}
		leaf, ok, err := t.get(keySeq(pEntry, binary.BigEndian.Uint64(key[1:])))
		e, derr := record.DecodeLeaf(0, leaf)
		if err != nil || !ok || derr != nil || !signed(&e.Record) {
			return true
		}
		_, held, err := l.locate(e.Record.RID())
		return err == nil && held
	}
	return true
}

// setCounts counts the rows anew where the counts are wrong.
func (t *tx) setCounts(l lookup) error {
	have, err := l.countRows()
	if err != nil || have == t.next.counts {
		return err
	}
	t.next.counts = have
	t.put(keyCounts, have.encode())
	return nil
}
