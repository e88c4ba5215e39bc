package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// load reads the state into memory and checks what the store promised before.
func (s *Store) load() error {
	v := &view{txn: s.db.NewTransaction(false)}
	defer v.txn.Discard()
	st := &state{members: newMembers(nil)}
	l := lookup{v, st}
	for _, step := range []func(lookup) error{loadLedger, loadMembers, loadMeta, loadErased, s.checkEnd, s.loadAcks, s.loadKept, s.loadCounts, checkHeld, loadWork} {
		if err := s.excuse(step(l)); err != nil {
			return fmt.Errorf("reading state: %w", err)
		}
	}
	s.end = st.ledger.Edge.Head()
	first := &shown{state: st}
	s.accepted.Store(first)
	s.shown.Store(first)
	return nil
}

// loadLedger reads the ledger's end, computes the tiles that are not full from
// leaves and full tiles, and compares the root of both.
func loadLedger(l lookup) error {
	st := l.st
	lost, err := loadEnd(l)
	if err != nil {
		return err
	}
	size := st.ledger.Edge.Size
	if err := loadHoles(l); err != nil {
		return err
	}
	damage, err := loadLeaves(l)
	if err != nil {
		return err
	}
	damage = errors.Join(lost, damage)
	for level := 1; size>>(tileHeight*level) > 0; level++ {
		n := size >> (tileHeight * level)
		for i := n &^ (tileHashes - 1); i < n; i++ {
			h, err := l.below(level, i)
			if errors.Is(err, ErrDamaged) { // neither the tile nor what is below can be read
				damage = errors.Join(damage, err)
				st.partial.grow(level, record.Hash{})
				continue
			}
			if err != nil {
				return err
			}
			st.partial.grow(level, h)
		}
	}
	root, err := l.rootAt(size)
	if err != nil {
		return err
	}
	if damage == nil && root != st.ledger.Edge.Root() {
		return &DamageError{What: fmt.Sprintf("tree of size %d has another root than its entries", size)}
	}
	return damage
}

// loadEnd reads the ledger's end. Where its row is damaged or gone, which comes
// back as lost, the entries that follow each other say where it was.
func loadEnd(l lookup) (lost, err error) {
	b, ok, err := l.get(keyLedger)
	if err == nil && ok {
		if l.st.ledger, err = decodeLedgerRow(b); err != nil {
			err = damagedRow(keyLedger, err.Error())
		}
	}
	if err != nil && !errors.Is(err, ErrDamaged) || err == nil && ok {
		return nil, err
	}
	lost = err
	var end ledgerRow
	err = l.rows.(*view).scanRaw([]byte{pEntry}, nil, false, func(key, row []byte) (bool, error) {
		if err := l.pastHoles(&end.Edge); err != nil {
			return false, err
		}
		leaf, err := openRow(key, row)
		if err != nil || !bytes.Equal(key, keySeq(pEntry, end.Edge.Size)) {
			return false, nil
		}
		e, err := record.DecodeLeaf(end.Edge.Size, leaf)
		if err != nil {
			return false, nil
		}
		end.Edge.Append(record.LeafHash(leaf))
		end.Time = e.Time
		return true, nil
	})
	if err == nil {
		err = l.pastHoles(&end.Edge)
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	if lost == nil && end.Edge.Size > 0 {
		lost = damagedRow(keyLedger, "row of the ledger's end is missing")
	}
	l.st.ledger = end
	return lost, nil
}

// loadLeaves hashes the leaves of the tile that is not full. One that is damaged
// gets a hash of zeros, so that a store that is opened for reading can go on, and
// comes back as damage.
func loadLeaves(l lookup) (damage, err error) {
	st := l.st
	size := st.ledger.Edge.Size
	for seq := size &^ (tileHashes - 1); seq < size; seq++ {
		hash, err := l.below(0, seq)
		if errors.Is(err, ErrDamaged) {
			damage, hash = errors.Join(damage, fmt.Errorf("entry %d: %w", seq, err)), record.Hash{}
		} else if err != nil {
			return nil, fmt.Errorf("entry %d: %w", seq, err)
		}
		st.partial.grow(0, hash)
	}
	return damage, nil
}

func (t *tiles) grow(level int, h ...record.Hash) {
	for len(*t) <= level {
		*t = append(*t, nil)
	}
	if (*t)[level] == nil {
		(*t)[level] = make([]record.Hash, 0, tileHashes)
	}
	(*t)[level] = append((*t)[level], h...)
}

func loadMembers(l lookup) error {
	byDevice := map[record.DeviceID]record.Member{}
	err := l.rows.(*view).scan([]byte{pMember}, nil, false, func(key, value []byte) (bool, error) {
		m, err := decodeMember(value)
		if err != nil {
			return false, damagedRow(key, err.Error())
		}
		byDevice[m.Device] = m
		return true, nil
	})
	l.st.members = newMembers(byDevice)
	return err
}

func loadMeta(l lookup) error {
	st := l.st
	if b, ok, err := l.get(keyClock); err != nil {
		return err
	} else if ok && len(b) == 8 {
		st.clock = binary.BigEndian.Uint64(b)
	}
	if b, ok, err := l.get(keyRegion); err != nil {
		return err
	} else if ok {
		var a regionArray
		if err := record.Unmarshal(b, &a); err != nil || len(a.ID) != 32 {
			return damagedRow(keyRegion, "region row")
		}
		st.region = region{record.RegionID(a.ID), a.Name, true}
	}
	if err := loadHeads(l); err != nil {
		return err
	}
	return l.rows.(*view).scan([]byte{pArrival}, nil, true, func(key, _ []byte) (bool, error) {
		if len(key) != 9 {
			return false, damagedRow(key, "arrival")
		}
		st.arrived = binary.BigEndian.Uint64(key[1:])
		return false, nil
	})
}

// loadHeads reads the checkpoints and checks that the ledger still reaches them.
func loadHeads(l lookup) error {
	st := l.st
	b, ok, err := l.get(keyFinal)
	if err != nil {
		return err
	}
	if ok {
		head, note, err := decodeHead(b)
		if err != nil {
			return damagedRow(keyFinal, err.Error())
		}
		st.final = final{note, head, true}
	}
	if b, ok, err = l.get(keySigned); err != nil {
		return err
	}
	if ok {
		if st.signed, _, err = decodeHead(b); err != nil {
			return damagedRow(keySigned, err.Error())
		}
	}
	if b, ok, err = l.get(keyFloor); err != nil {
		return err
	}
	if ok {
		if st.floor.head, st.floor.note, err = decodeHead(b); err != nil {
			return damagedRow(keyFloor, err.Error())
		}
		st.floor.ok = true
	}
	for _, h := range []record.TreeHead{st.final.head, st.signed} {
		if h == (record.TreeHead{}) {
			continue
		}
		if h.Size > st.ledger.Edge.Size {
			return &DamageError{What: fmt.Sprintf("checkpoint of size %d, ledger of size %d: entries are lost", h.Size, st.ledger.Edge.Size)}
		}
		root, err := l.rootAt(h.Size)
		if err != nil {
			return err
		}
		if root != h.Root {
			return &DamageError{What: fmt.Sprintf("ledger has another root than the checkpoint of size %d", h.Size)}
		}
	}
	return nil
}

// checkEnd checks that the ledger still reaches what the last checkpoint of the
// journal saw.
func (s *Store) checkEnd(l lookup) error {
	size := l.st.ledger.Edge.Size
	switch {
	case s.end.Size == 0:
		return nil
	case s.end.Size > size:
		d := damagedEntry(size, "entries were taken away")
		d.End = s.end.Size
		return d
	}
	root, err := l.rootAt(s.end.Size)
	if err == nil && root != s.end.Root {
		err = damagedEntry(s.end.Size-1, "ledger has another root than it had when it was last checkpointed")
	}
	return err
}

// checkHeld checks the end of every feed that holds something pending.
func checkHeld(l lookup) error {
	return l.rows.(*view).scan([]byte{pWork}, nil, false, func(key, _ []byte) (bool, error) {
		if len(key) != 18 {
			return false, damagedRow(key, "work list")
		}
		f := feedFrom(key[1:])
		row, ok, err := l.feed(f)
		if err == nil && !ok {
			err = damagedRow(key, "feed of a pending record is missing")
		}
		if err != nil {
			return false, err
		}
		if row.Held.N == row.Ordered.N {
			return true, nil
		}
		p, ok, err := l.pending(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: row.Held.N})
		if err == nil && (!ok || p.Record.RID() != row.Held.RID) {
			err = &DamageError{Key: fmt.Sprintf("%q", key), What: fmt.Sprintf("pending record at n %d is missing", row.Held.N), RID: row.Held.RID}
		}
		return err == nil, err
	})
}
