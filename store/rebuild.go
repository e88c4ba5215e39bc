package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/healthpost/healthpost/record"
)

// A damaged store is not written to. What is sound in it goes into a new one:
//
//  1. the entries of the ledger from 0 to the first one that cannot be read or that
//     the damaged store's own tree does not prove, at their places
//  2. every record behind that, and everything that was pending, as pending; a
//     record whose feed misses the one before it as refused, where it stays until
//     a peer gives the missing one or the entry
//  3. refusals, acknowledgements, rows of others
//
// Raft's rows go over with the whole ledger only, and when no table is left out: a
// hub that lost entries, or remembers older votes, has no business voting.

// RebuildReport says what became of a damaged store's data.
type RebuildReport struct {
	Size    uint64 // of the damaged ledger
	Entries uint64 // the sound ones at its beginning, kept as they were
	Again   int    // sound records behind them, pending now
	Pending int    // records that were pending
	Aside   int    // sound records that continue nothing that is left, kept as refused
	Refused int    // refusals
	Rows    int    // of others: projections, raft
	Lost    int    // entries and pending records that cannot be read; peers may have them
}

// Whole says that no entry is lost.
func (r *RebuildReport) Whole() bool { return r.Entries == r.Size }

// rebuildingFile marks a folder that Rebuild makes, until it is done.
const rebuildingFile = "REBUILDING"

// Rebuild makes a new store in the folder dst from what is sound in src, which is
// open for Salvage and stays as it is. It leaves dst closed and durable. A folder
// that an interrupted Rebuild left is begun again; any other that is there is
// ErrRefused.
func Rebuild(ctx context.Context, dst string, o Options, src *Store) (RebuildReport, error) {
	limit := src.shown.Load().state.ledger.Edge.Size
	for {
		rep, sound, err := rebuildOnce(ctx, dst, o, src, limit)
		if err != nil {
			return rep, fmt.Errorf("rebuilding the store: %w", err)
		}
		if sound == rep.Entries {
			return rep, nil
		}
		limit = sound // the tree proves no more than that
	}
}

// rebuildOnce copies up to limit entries and says how many of them the tree
// proves. Only when that is all of them the rest is copied as well.
func rebuildOnce(ctx context.Context, dst string, o Options, src *Store, limit uint64) (rep RebuildReport, sound uint64, err error) {
	if err := freshFolder(dst); err != nil {
		return rep, 0, err
	}
	o.Salvage, o.BallastBytes = false, 0
	s, err := Open(dst, o)
	if err != nil {
		return rep, 0, err
	}
	b := &rebuild{src: src, dst: s}
	err = b.run(ctx, limit, &sound)
	s.arrivalOf = nil
	if err = errors.Join(err, s.Close()); err != nil {
		return b.rep, 0, err
	}
	if sound < b.rep.Entries {
		return b.rep, sound, nil
	}
	return b.rep, sound, os.Remove(filepath.Join(dst, rebuildingFile))
}

func freshFolder(dst string) error {
	marker := filepath.Join(dst, rebuildingFile)
	names, err := os.ReadDir(dst)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(names) > 0 {
		if _, err := os.Stat(marker); err != nil {
			return fmt.Errorf("%w: %s is not empty", ErrRefused, dst)
		}
		if err := os.RemoveAll(dst); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dst, 0o700); err != nil {
		return err
	}
	return writeFileSynced(dst, rebuildingFile, nil)
}

type rebuild struct {
	src, dst *Store
	rep      RebuildReport
}

func (b *rebuild) run(ctx context.Context, limit uint64, sound *uint64) error {
	b.rep.Size = b.src.shown.Load().state.ledger.Edge.Size
	if err := b.keepNumbers(); err != nil {
		return err
	}
	if err := b.ledger(ctx, limit); err != nil {
		return err
	}
	var err error
	if *sound, err = b.proven(); err != nil || *sound < b.rep.Entries {
		return err
	}
	for _, step := range []func(context.Context) error{b.entriesBehind, b.pending, b.refusals, b.acks, b.blobs, b.others, b.heads, b.lastNumber} {
		if err := errors.Join(step(ctx), ctx.Err()); err != nil {
			return err
		}
	}
	return b.dst.Barrier(ctx)
}

// recentArrivals is how many of the last arrivals keep their numbers: who follows
// the list of arrivals has seen all but a few of them.
const recentArrivals = 20_000

// keepNumbers lets records keep their places in the list of arrivals, the last
// ones exactly, so that nobody who follows it misses one or takes an old one for new.
func (b *rebuild) keepNumbers() error {
	recent := map[record.RID]uint64{}
	from := b.src.Arrived()
	from -= min(from, recentArrivals)
	err := b.src.read(func(l lookup) error {
		return l.rows.(*view).scanRaw([]byte{pArrival}, keySeq(pArrival, from+1), false, func(key, row []byte) (bool, error) {
			if value, err := openRow(key, row); err == nil && len(key) == 9 {
				if a, err := decodeArrivalRow(value); err == nil {
					recent[a.RID] = binary.BigEndian.Uint64(key[1:])
				}
			}
			return true, nil
		})
	})
	next := uint64(0)
	b.dst.arrivalOf = func(rid record.RID) (uint64, bool) {
		if n, ok := recent[rid]; ok {
			return n, true
		}
		if next < from {
			next++
			return next, true
		}
		return 0, false
	}
	return ignoreDamage(err)
}

func ignoreDamage(err error) error {
	if errors.Is(err, ErrDamaged) {
		return nil
	}
	return err
}

// lastNumber makes the next arrival come after every one that the damaged store
// gave.
func (b *rebuild) lastNumber(context.Context) error {
	last := b.src.Arrived()
	return b.write(func(t *tx) error {
		if t.next.arrived >= last {
			return nil
		}
		t.s.arrivalOf = nil
		t.next.arrived = last
		var err error
		found := false
		scanErr := t.view.scan([]byte{pArrival}, nil, true, func(key, value []byte) (bool, error) {
			var a arrivalRow
			if a, err = decodeArrivalRow(value); err != nil {
				return false, err
			}
			found = true
			t.unset(key)
			f := &fixable{arrive: &a}
			if row, ok, lerr := t.lookup().locate(a.RID); lerr == nil && ok && row.Pending {
				f.key = keyPosition(pPending, row.Position)
			}
			err = t.arriveAgain(f)
			return false, err
		})
		if !found {
			t.next.arrived = 0
		}
		return errors.Join(err, scanErr)
	})
}

// write runs one transaction that nobody waits for; Close makes it durable.
func (b *rebuild) write(f func(*tx) error) error {
	t, err := b.dst.begin(nil)
	if err != nil {
		return err
	}
	if err := f(t); err != nil || len(t.rows) == 0 {
		t.drop()
		return err
	}
	l, err := t.accept(false)
	if err != nil {
		return err
	}
	<-l.visible
	if b.dst.crowded() {
		<-l.done
	}
	return l.err
}

const rebuildBytesMax = 512 << 10

// entriesBehind takes in the records of the entries that are not at their places.
func (b *rebuild) entriesBehind(ctx context.Context) error {
	if err := b.each(ctx, b.rep.Entries, b.rep.Size); err != nil {
		return err
	}
	var past []uint64 // a row of the ledger's end that was set back
	err := b.src.read(func(l lookup) error {
		return l.rows.(*view).scanRaw([]byte{pEntry}, keySeq(pEntry, b.rep.Size), false, func(key, _ []byte) (bool, error) {
			if len(key) == 9 {
				past = append(past, binary.BigEndian.Uint64(key[1:]))
			}
			return len(past) < pastMax, nil
		})
	})
	for _, seq := range past {
		err = errors.Join(ignoreDamage(err), b.each(ctx, seq, seq+1))
	}
	return ignoreDamage(err)
}

// pastMax bounds the rows behind the ledger's end that are looked at.
const pastMax = 100_000

// each takes in the records of entries [from, to).
func (b *rebuild) each(ctx context.Context, from, to uint64) error {
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := b.write(func(t *tx) error {
			return b.src.read(func(l lookup) error {
				for ; from < to && t.bytes < rebuildBytesMax; from++ {
					e, err := l.entry(from, true)
					if errors.Is(err, ErrHole) {
						continue
					}
					if errors.Is(err, ErrDamaged) {
						b.rep.Lost++
						continue
					}
					if err == nil && e.Record.Body == nil && e.Record.Core.BodyLen > 0 {
						continue // peers give it again, without its body
					}
					if err == nil {
						err = b.takeIn(t, l, &e.Record, &b.rep.Again)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeIn makes a record pending, or keeps it as refused when it continues nothing
// that is left. One that nobody signed is lost.
func (b *rebuild) takeIn(t *tx, src lookup, r *record.Record, count *int) error {
	l := t.lookup()
	if _, ok, err := l.locate(r.RID()); err != nil || ok {
		return err
	}
	author, ok, err := b.author(l, src, r)
	if err != nil {
		return err
	}
	if !ok || r.Body == nil || t.s.checkRecord(r, author) != record.Ordered {
		b.rep.Lost++
		return nil
	}
	v := record.Ordered
	if r.Core.Kind != record.KindEpochOpen {
		if v, _, err = l.continues(r); err != nil {
			return err
		}
	}
	switch v {
	case record.Ordered:
		*count++
		return t.addPending(r, author)
	case record.Duplicate:
		return nil
	case record.Equivocation:
	default:
		v = record.BadPrev
	}
	if known, err := t.has(keyRID(pRefused, r.RID())); err != nil || known {
		return err
	}
	b.rep.Aside++
	return t.putRefusal(record.Outcome{RID: r.RID(), Verdict: v}, r.Position(), record.DeviceID{}, r)
}

// author is who must have signed a record, by either store.
func (b *rebuild) author(dst, src lookup, r *record.Record) (record.DeviceID, bool, error) {
	if r.Core.Kind == record.KindEpochOpen {
		open, err := record.DecodeEpochOpen(r.Body)
		if err != nil {
			return record.DeviceID{}, false, nil
		}
		return record.DeviceID(open.Device), true, nil
	}
	e, ok, err := dst.epoch(r.Core.Epoch)
	if err != nil || ok {
		return e.Device, ok, err
	}
	e, ok, err = src.epoch(r.Core.Epoch)
	return e.Device, ok, ignoreDamage(err)
}

// copyRows calls f for the rows of a kind that can be read, some in a transaction.
func (b *rebuild) copyRows(ctx context.Context, prefix byte, f func(t *tx, src lookup, key, value []byte) error) error {
	from := []byte{prefix}
	for from != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := b.write(func(t *tx) error {
			return b.src.read(func(l lookup) error {
				var last []byte
				full := false
				err := l.rows.(*view).scanRaw([]byte{prefix}, from, false, func(key, row []byte) (bool, error) {
					last = key
					value, err := openRow(key, row)
					if err != nil && (prefix == pPending || prefix == pRefused) {
						b.rep.Lost++
					}
					if err != nil {
						return true, nil
					}
					if err := f(t, l, key, value); err != nil && !errors.Is(err, errSkip) {
						return false, fmt.Errorf("%w: %w", errStop, err)
					}
					full = t.bytes > rebuildBytesMax
					return !full, nil
				})
				if from = append(last, 0); last == nil || err == nil && !full {
					from = nil
				}
				if errors.Is(err, errStop) {
					return err
				}
				return ignoreDamage(err)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var (
	errStop = errors.New("copying rows")
	errSkip = errors.New("row is left out")
)

// pending takes in what was pending: opening records come first in their epoch.
func (b *rebuild) pending(ctx context.Context) error {
	return b.copyRows(ctx, pPending, func(t *tx, src lookup, _, value []byte) error {
		p, err := decodePendingRow(value)
		if err != nil {
			b.rep.Lost++
			return errSkip
		}
		return b.takeIn(t, src, &p.Record, &b.rep.Pending)
	})
}

// refusals come over where the record is not ordered now.
func (b *rebuild) refusals(ctx context.Context) error {
	return b.copyRows(ctx, pRefused, func(t *tx, src lookup, key, value []byte) error {
		if len(key) != 33 {
			return errSkip
		}
		r, err := src.decodeRefusal(key, record.RID(key[1:]), value)
		if err != nil || r.Record.VerifyBody() != nil {
			b.rep.Lost++
			return errSkip
		}
		at, ok, err := t.lookup().locate(r.RID)
		if err != nil || ok && !at.Pending {
			return err
		}
		known, err := t.has(key)
		if err != nil {
			return err
		}
		b.rep.Refused++
		if ok {
			return t.putRefusal(r.Outcome, r.Position, r.By, nil)
		}
		if known {
			return nil
		}
		return t.putRefusal(r.Outcome, r.Position, r.By, &r.Record)
	})
}

func (b *rebuild) acks(context.Context) error {
	peers := map[record.DeviceID][]record.FeedHead{}
	err := b.src.read(func(l lookup) error {
		return l.rows.(*view).scanRaw([]byte{pAck}, nil, false, func(key, row []byte) (bool, error) {
			if value, err := openRow(key, row); err == nil && len(key) == 1+17+32 && len(value) == 8 && feedFrom(key[1:]).Lane < record.LaneCount {
				d := record.DeviceID(key[18:])
				peers[d] = append(peers[d], record.FeedHead{Feed: feedFrom(key[1:]), N: binary.BigEndian.Uint64(value)})
			}
			return true, nil
		})
	})
	if err = ignoreDamage(err); err != nil {
		return err
	}
	for d, heads := range peers {
		if err := b.dst.PutAck(d, heads); err != nil {
			return err
		}
	}
	return nil
}

// others copies projection rows, and raft's when the ledger is whole.
func (b *rebuild) others(ctx context.Context) error {
	for _, prefix := range []byte{pRow, pKV} {
		if prefix == pKV && (!b.rep.Whole() || b.src.excluded) {
			continue
		}
		err := b.copyRows(ctx, prefix, func(t *tx, _ lookup, key, value []byte) error {
			b.rep.Rows++
			t.put(key, value)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// heads copies what is known beyond the ledger: checkpoints, cosigned heads, the
// clock, raft's position, own epochs.
func (b *rebuild) heads(ctx context.Context) error {
	st := b.src.shown.Load().state
	err := b.write(func(t *tx) error {
		t.setClock(max(t.next.clock, st.clock))
		if b.rep.Whole() && st.ledger.Index > t.next.ledger.Index {
			t.next.ledger.Index, t.next.ledger.Term = st.ledger.Index, st.ledger.Term
			t.put(keyLedger, t.next.ledger.encode())
		}
		if st.final.ok && st.final.head.Size <= b.rep.Entries {
			t.next.final = st.final
			t.put(keyFinal, encodeHead(st.final.head, st.final.note))
		}
		if st.signed != (record.TreeHead{}) && st.signed.Size <= b.rep.Entries {
			t.next.signed = st.signed
			t.put(keySigned, encodeHead(st.signed, nil))
		}
		for _, f := range []final{{head: st.signed, ok: st.signed != record.TreeHead{}}, st.final, st.floor} {
			if f.ok && f.head.Size > b.rep.Entries && (!t.next.floor.ok || f.head.Size > t.next.floor.head.Size) {
				t.next.floor = f
				t.put(keyFloor, encodeHead(f.head, f.note))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.copyRows(ctx, pMeta, func(t *tx, _ lookup, key, value []byte) error {
		if bytes.HasPrefix(key, ownPrefix) && len(key) == len(ownPrefix)+32 && t.lookup().ownRow(key, value) == nil {
			t.put(key, value)
		}
		return nil
	})
}
