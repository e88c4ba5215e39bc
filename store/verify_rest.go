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

// rest reads under one snapshot what changes: the entries that came meanwhile, the
// rows that sum the ledger up, pending records, refusals.
func (v *verifier) rest(ctx context.Context, l lookup) error {
	for from := v.edge.Size; from < l.Size(); from = v.edge.Size {
		c := v.readChunk(l, from, min(l.Size(), from|(tileHashes-1)+1))
		if c.err != nil {
			return c.err
		}
		v.checkChunk(c)
		if err := v.judgeChunk(c); err != nil {
			return err
		}
		if err := v.lookUp(l, c); err != nil {
			return err
		}
	}
	v.rep.Head = v.edge.Head()
	steps := []func(lookup) error{v.ledgerRow, v.lasts, v.members, v.feeds, v.work, v.pendingRows, v.scopesOfPending, v.refused, v.meta, v.ends, v.missingRows, v.looseRows, v.awaitedRows}
	if v.rep.From == 0 {
		steps = append(steps, v.registry, v.epochs, v.otherRows, v.counted)
	}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(l); err != nil {
			return err
		}
	}
	return nil
}

// scan calls f for every row of a kind and notes damage, of a row or found by f.
func (v *verifier) scan(l lookup, prefix byte, f func(key, value []byte) error) error {
	var from []byte
	for {
		last, err := v.sweepSome(l, prefix, from, func(_ lookup, key, value []byte) error { return f(key, value) })
		if err != nil || last == nil {
			return err
		}
		from = append(last, 0)
	}
}

// ledgerRow compares what the entries say with the row that sums the ledger up,
// and with the checkpoints.
func (v *verifier) ledgerRow(l lookup) error {
	st := l.st
	if v.edge.Root() != st.ledger.Edge.Root() || v.edge.Size != st.ledger.Edge.Size {
		if err := v.note(&DamageError{What: fmt.Sprintf("entries of size %d have another root than the ledger", v.edge.Size)}); err != nil {
			return err
		}
	}
	if v.mem.time != st.ledger.Time && !v.broken {
		right := st.ledger
		right.Time = v.mem.time
		if err := v.note(lost(damagedRow(keyLedger, "ledger time"), keyLedger, right.encode())); err != nil {
			return err
		}
	}
	if err := v.inMemory(l); err != nil {
		return err
	}
	for _, h := range []struct {
		head record.TreeHead
		what string
	}{{st.final.head, "final checkpoint"}, {st.signed, "cosigned head"}} {
		if h.head.Size > l.Size() {
			if err := v.note(damagedEntry(l.Size(), fmt.Sprintf("entries up to the %s of size %d are lost", h.what, h.head.Size))); err != nil {
				return err
			}
			continue
		}
		root, err := l.rootAt(h.head.Size)
		if h.head == (record.TreeHead{}) || err == nil && root == h.head.Root {
			continue
		}
		if err == nil {
			err = damagedEntry(max(h.head.Size, 1)-1, "tree has another root than the "+h.what)
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	return nil
}

// inMemory compares rows with what the open store took from them.
func (v *verifier) inMemory(l lookup) error {
	st := l.st
	rows := []struct {
		key, value []byte
		there      bool
	}{
		{keyLedger, st.ledger.encode(), st.ledger.Edge.Size > 0 || st.ledger.Index > 0},
		{keyClock, binary.BigEndian.AppendUint64(nil, st.clock), st.clock > 0},
		{keyFinal, encodeHead(st.final.head, st.final.note), st.final.ok},
		{keySigned, encodeHead(st.signed, nil), st.signed != record.TreeHead{}},
		{keyFloor, encodeHead(st.floor.head, st.floor.note), st.floor.ok},
		{keyCounts, st.counts.encode(), !st.counts.missing && st.counts != rowCounts{}},
	}
	for _, r := range rows {
		if !r.there {
			continue
		}
		if err := v.note(l.sameRow(r.key, r.value, damagedRow(r.key, "row is not what the store wrote"))); err != nil {
			return err
		}
	}
	return nil
}

// lasts checks the last entry of each compartment.
func (v *verifier) lasts(l lookup) error {
	if v.broken {
		return nil // cannot be computed
	}
	for c, want := range v.mem.last {
		got, err := l.CompartmentLast(c)
		if err == nil && got != want {
			err = ErrDamaged
		}
		if errors.Is(err, ErrDamaged) {
			err = lost(damagedRow(keyScopeLast(c), "last entry of the compartment"), keyScopeLast(c), binary.BigEndian.AppendUint64(nil, want))
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	if v.rep.From > 0 {
		return nil
	}
	return v.scan(l, pScopeLast, func(key, _ []byte) error {
		if len(key) == 17 {
			if _, ok := v.mem.last[record.CompartmentID(key[1:])]; ok {
				return nil
			}
		}
		return strayRow(key)
	})
}

// members compares the member table with the replay, row by row.
func (v *verifier) members(l lookup) error {
	if v.broken {
		return nil
	}
	for d, want := range v.mem.members {
		key := keyMember(d)
		b, err := encodeMember(&want)
		if err == nil {
			err = l.sameRow(key, b, damagedRow(key, "member table"))
		}
		if err := v.note(withDevice(err, d)); err != nil {
			return err
		}
	}
	return v.scan(l, pMember, func(key, _ []byte) error {
		if len(key) == 33 {
			if _, ok := v.mem.members[record.DeviceID(key[1:])]; ok {
				return nil
			}
		}
		return strayRow(key)
	})
}

// sameRow is the damage d when a row is not what was computed.
func (l lookup) sameRow(key, want []byte, d *DamageError) error {
	got, ok, err := l.get(key)
	if errors.Is(err, ErrDamaged) || err == nil && (!ok || !bytes.Equal(got, want)) {
		return lost(d, key, want)
	}
	return err
}

// withDevice adds the author to damage.
func withDevice(err error, device record.DeviceID) error {
	var d *DamageError
	if !errors.As(err, &d) {
		return err
	}
	c := *d
	c.Device = device
	var f *fixable
	if errors.As(err, &f) {
		return &fixable{&c, f.key, f.value, f.arrive, f.aside}
	}
	return &c
}

func (v *verifier) registry(l lookup) error {
	if v.broken {
		return nil
	}
	for k, want := range v.mem.RegistryMap {
		key := keyRegistry([]byte(k))
		if err := v.note(l.sameRow(key, want, damagedRow(key, "registry of the ledger"))); err != nil {
			return err
		}
	}
	return v.scan(l, pRegistry, func(key, _ []byte) error {
		if _, ok := v.mem.RegistryMap[string(key[1:])]; !ok {
			return strayRow(key)
		}
		return nil
	})
}

// epochs compares the table of epochs with the replay.
func (v *verifier) epochs(l lookup) error {
	for id, e := range v.mem.epochs {
		seq, ordered := v.mem.openings[id]
		want := epochRow{Device: e.Device, Opening: e.Opening, Ordered: ordered, Loose: !ordered, Seq: seq}
		row, ok, err := l.epoch(id)
		row.Refused = false
		if errors.Is(err, ErrDamaged) || err == nil && (!ok || row != want) {
			d := damagedEntry(want.Seq, "table of epochs")
			d.Key, d.RID, d.Device = fmt.Sprintf("%q", keyEpoch(id)), e.Opening, e.Device
			err = lost(d, keyEpoch(id), want.encode())
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	return v.scan(l, pEpoch, func(key, value []byte) error {
		if len(key) != 17 {
			return strayRow(key)
		}
		id := record.EpochID(key[1:])
		if _, ok := v.mem.epochs[id]; ok || v.broken {
			return nil
		}
		row, err := decodeEpochRow(value)
		if err != nil {
			return damagedRow(key, err.Error())
		}
		if row.Loose {
			r, ok, err := l.loose(record.Position{Epoch: id})
			if err == nil && (!ok || r.RID() != row.Opening) {
				err = damagedRow(key, "opening record of the epoch is missing")
			}
			return err
		}
		p, ok, err := l.pending(record.Position{Epoch: id})
		if err != nil {
			return l.namedPending(err, record.Position{Epoch: id})
		}
		if row.Ordered || !ok || p.Record.RID() != row.Opening {
			return strayRow(key)
		}
		return nil
	})
}

// feeds compares the heads of feeds with the replay and with what is pending.
func (v *verifier) feeds(l lookup) error {
	if v.broken {
		return nil
	}
	for f, want := range v.mem.heads {
		row, ok, err := l.feed(f)
		further := l.st.absent > 0 && row.Ordered.N > want.N // in a hole, or its author says so
		if errors.Is(err, ErrDamaged) || err == nil && (!ok || row.Ordered != want && !further) {
			err = l.headless(f, want, "ordered head of the feed", v.mem.epochs[f.Epoch].Device)
		}
		if err := v.note(err); err != nil {
			return err
		}
	}
	if v.rep.From > 0 {
		return nil
	}
	return v.scan(l, pFeed, func(key, value []byte) error {
		if len(key) != 18 || key[17] >= record.LaneCount {
			return strayRow(key)
		}
		f := feedFrom(key[1:])
		e, known, err := l.epoch(f.Epoch)
		if err != nil {
			return err
		}
		want, ordered := v.mem.heads[f]
		if !ordered {
			want = record.Head{RID: e.Opening}
		}
		row, err := decodeFeedRow(value)
		switch {
		case !known:
			return strayRow(key)
		case err != nil || !ordered && row.Ordered != want && l.st.absent == 0:
			return l.headless(f, want, "feed", e.Device)
		case row.Held.N < row.Ordered.N || row.Held.N == row.Ordered.N && row.Held != row.Ordered:
			return l.headless(f, want, "held head of the feed", e.Device)
		case row.Held == row.Ordered:
			return nil
		}
		if _, ok, err := l.get(keyFeed(pWork, f)); err != nil || !ok {
			return lostWork(err, damagedRow(key, "work list misses the feed"), f, e.Device)
		}
		return nil
	})
}

func (v *verifier) refused(l lookup) error {
	return v.scan(l, pRefused, func(key, value []byte) error {
		if len(key) != 33 {
			return strayRow(key)
		}
		r, err := l.decodeRefusal(key, record.RID(key[1:]), value)
		var d *DamageError
		if errors.As(err, &d) {
			return &fixable{DamageError: d, key: key}
		}
		if err != nil {
			return err
		}
		e, known, err := l.epoch(r.Position.Epoch)
		if err != nil {
			return err
		}
		if r.Record.VerifyBody() != nil || r.Record.Position() != r.Position || known && r.Record.VerifySignature(e.Device) != nil {
			return &fixable{DamageError: &DamageError{Key: fmt.Sprintf("%q", key), What: "refused record does not verify", RID: r.RID, Device: e.Device}, key: key}
		}
		if row, ok, err := l.locate(r.RID); err == nil && ok && !row.Pending {
			return strayRow(key) // it was ordered after all
		}
		return nil
	})
}

// meta checks the rows that stand alone.
func (v *verifier) meta(l lookup) error {
	known := [][]byte{keyJournal, keyLedger, keyClock, keyFinal, keySigned, keyFloor, keyCounts, keyScoured}
	if err := v.note(l.regionRow()); err != nil {
		return err
	}
	return v.scan(l, pMeta, func(key, value []byte) error {
		switch {
		case bytes.Equal(key, keyRegion):
			if l.Size() < 2 {
				return strayRow(key)
			}
		case bytes.HasPrefix(key, ownPrefix) && len(key) == len(ownPrefix)+32:
			return l.ownRow(key, value)
		case bytes.Equal(key, keyClock) && len(value) != 8:
			return damagedRow(key, "clock")
		case !slices.ContainsFunc(known, func(k []byte) bool { return bytes.Equal(k, key) }):
			return strayRow(key)
		}
		return nil
	})
}

// regionRow compares the region with the ledger's second entry, which founded it.
func (l lookup) regionRow() error {
	if l.Size() < 2 {
		return nil
	}
	e, err := l.entry(1, true)
	if err != nil {
		return ignoreDamage(err) // reported
	}
	f, err := record.DecodeRegionFound(e.Record.Body)
	if err != nil {
		return nil // no entry of a region
	}
	rid := e.Record.RID()
	want, err := record.Marshal(regionArray{ID: rid[:], Name: f.Name})
	if err != nil {
		return err
	}
	return l.sameRow(keyRegion, want, damagedRow(keyRegion, "region"))
}

// ownRow checks that the last epoch of a device of this box is one of its epochs.
func (l lookup) ownRow(key, value []byte) error {
	if len(value) != 16 {
		return damagedRow(key, "last own epoch")
	}
	e, ok, err := l.epoch(record.EpochID(value))
	if err == nil && (!ok || !bytes.Equal(e.Device[:], key[4:])) {
		err = &fixable{DamageError: damagedRow(key, "last own epoch"), key: key}
	}
	return err
}

// ends looks for leaves, bodies and tiles that are past the ledger's end.
func (v *verifier) ends(l lookup) error {
	for _, prefix := range []byte{pEntry, pBody} {
		err := l.rows.(*view).scanRaw([]byte{prefix}, keySeq(prefix, l.Size()), false, func(key, _ []byte) (bool, error) {
			return true, v.note(strayRow(key))
		})
		if err := v.note(err); err != nil {
			return err
		}
	}
	return v.scan(l, pTile, func(key, value []byte) error {
		if len(key) != 10 || key[1] > tileLevelMax || len(value) != tileHashes*32 && l.st.absent == 0 {
			return strayRow(key)
		}
		if i := binary.BigEndian.Uint64(key[2:]); i >= l.Size()>>(tileHeight*(uint(key[1])+1)) {
			return strayRow(key)
		}
		return nil
	})
}

// otherRows reads the rows that only their own hash can be checked of, and looks
// for rows of no kind.
func (v *verifier) otherRows(l lookup) error {
	err := v.scan(l, pAck, func(key, value []byte) error {
		if len(key) != 1+17+32 || len(value) != 8 {
			return strayRow(key)
		}
		_, ok, err := l.epoch(feedFrom(key[1:]).Epoch)
		if err == nil && (!ok || feedFrom(key[1:]).Lane >= record.LaneCount) {
			err = strayRow(key)
		}
		return err
	})
	if err != nil {
		return err
	}
	for prefix := range 256 {
		f := func(key, _ []byte) error { return strayRow(key) }
		switch byte(prefix) {
		case pRow, pKV:
			f = func([]byte, []byte) error { return nil }
		case pEntry, pBody, pPosition, pRID, pPending, pFeed, pWork, pEpoch, pMember, pRegistry, pScope, pScopeOpen, pScopeLast, pTile, pAck, pRefused, pArrival, pMeta, pHole, pMissing, pLoose, pAwaited, pBlob, pBlobPart:
			continue
		}
		if err := v.scan(l, byte(prefix), f); err != nil {
			return err
		}
	}
	return nil
}
