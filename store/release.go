package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Released is what Release did.
type Released struct {
	Entries uint64 // whose bytes are gone
	Bytes   uint64 // of leaves and bodies
	Kept    uint64 // entries of compartments to release that stay: see Release
}

// releaseBatch is how many entries one transaction lets go.
const releaseBatch = 500

// Release removes the bytes of the entries of compartments that this replica need
// not hold any more: keep says false for them. It is the only function of this
// program that removes a record's bytes, and it refuses to remove
//
//   - what is not under a final checkpoint kept here, and so whatever is pending
//   - what the device self wrote
//   - what a pending record or a refusal of the compartment stands beside
//   - what is in no compartment: members, votes, assignments
//
// Attachments go with the last of their compartment, unless no other device is
// known to hold them. Every entry that goes leaves a hole of its own with its leaf hash: roots and
// proofs stand, and Fill brings it back. It is done some at a time; a crash in
// between leaves the rest.
func (s *Store) Release(ctx context.Context, self record.DeviceID, keep func(record.CompartmentID) bool) (rep Released, err error) {
	list, err := s.Compartments()
	if err != nil {
		return rep, fmt.Errorf("releasing entries: %w", err)
	}
	going := map[record.CompartmentID][]uint64{}
	arrived := map[uint64]uint64{}
	for _, c := range list {
		if keep(c) || c.IsZero() {
			continue
		}
		if going[c], err = s.CompartmentSeqs(c, 0, compartmentMax); err != nil {
			return rep, fmt.Errorf("releasing entries: %w", err)
		}
		for _, seq := range going[c] {
			arrived[seq] = 0
		}
	}
	if err := s.arrivalsOf(arrived); err != nil {
		return rep, fmt.Errorf("releasing entries: %w", err)
	}
	for c, seqs := range going {
		wrote, err := s.wroteIn(self, c)
		if err != nil {
			return rep, fmt.Errorf("releasing entries: %w", err)
		}
		_, head, _ := s.Final()
		whole := !wrote && len(seqs) > 0 && seqs[len(seqs)-1] < head.Size
		for len(seqs) > 0 {
			n := min(len(seqs), releaseBatch)
			if err := s.releaseSome(ctx, c, self, seqs[:n], arrived, whole, &rep); err != nil {
				return rep, fmt.Errorf("releasing entries: %w", err)
			}
			seqs = seqs[n:]
		}
	}
	return rep, nil
}

// arrivalsOf looks up the arrival numbers of entries.
func (s *Store) arrivalsOf(seqs map[uint64]uint64) error {
	if len(seqs) == 0 {
		return nil
	}
	return s.pages([]byte{pArrival}, nil, 1, int(^uint(0)>>1), func(key, value []byte) bool {
		a, err := decodeArrivalRow(value)
		if _, wanted := seqs[a.Seq]; err == nil && wanted && !a.Pending && len(key) == 8 {
			seqs[a.Seq] = binary.BigEndian.Uint64(key)
		}
		return true
	})
}

// releaseSome releases entries of one compartment in one transaction.
func (s *Store) releaseSome(ctx context.Context, c record.CompartmentID, self record.DeviceID, seqs []uint64, arrived map[uint64]uint64, whole bool, rep *Released) error {
	t, err := s.begin(ctx)
	if err != nil {
		return err
	}
	blocked, err := t.unfinished(c)
	var done Released
	for _, seq := range seqs {
		if err != nil {
			break
		}
		// The last number of the list of arrivals is where those who follow it go on.
		if n := arrived[seq]; blocked || !t.state.final.ok || seq >= t.state.final.head.Size || n == 0 || n == t.next.arrived {
			done.Kept++
			continue
		}
		err = t.release(c, self, seq, arrived[seq], whole, &done)
	}
	if err == nil && done.Entries > 0 {
		err = t.scopeAfterRelease(c)
	}
	if err != nil || done.Entries == 0 {
		t.drop()
		rep.Kept += done.Kept
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	rep.Entries, rep.Bytes, rep.Kept = rep.Entries+done.Entries, rep.Bytes+done.Bytes, rep.Kept+done.Kept
	return nil
}

// wroteIn says whether a device wrote in a compartment.
func (s *Store) wroteIn(d record.DeviceID, c record.CompartmentID) (wrote bool, err error) {
	err = s.read(func(l lookup) error {
		_, err := s.profileOf(l, d, nil)
		wrote = s.interests.has(d, c)
		return err
	})
	return wrote, err
}

// releaseBlobs removes the attachments that a record announced, when all of its
// compartment goes, so that no record is left that announces them too. gone is
// false when they stay, and the record with them.
func (t *tx) releaseBlobs(r *record.Record, whole bool) (gone bool, err error) {
	if !whole {
		return false, nil
	}
	for _, b := range r.Core.Blobs() {
		id := b.ID()
		st, ok, err := t.lookup().blob(id)
		if err != nil {
			return false, err
		}
		only, err := t.has(keyBlob(blobOnly, id))
		if err != nil || only {
			return false, err
		}
		if !ok || st.Compartment != r.Core.Compartment {
			continue
		}
		if err := t.removeBlob(&st); err != nil {
			return false, err
		}
	}
	return true, nil
}

// removeBlob removes every row of an attachment.
func (t *tx) removeBlob(st *BlobState) error {
	id := st.ID()
	if err := t.chargeBlob(st.Author, -t.lookup().blobBytes(st)); err != nil {
		return err
	}
	for part := range st.Parts() {
		t.unset(keyBlobPart(id, part))
	}
	t.unset(keyBlob(blobState, id))
	t.unset(keyBlob(blobOnly, id))
	t.unset(keyBlobMissing(st.Blob))
	return t.view.scanRaw(keyBlob(blobHolder, id), nil, false, func(key, _ []byte) (bool, error) {
		t.unset(key)
		return true, nil
	})
}

// unfinished says whether something of a compartment waits: a pending record, or
// a refused one that staff see.
func (t *tx) unfinished(c record.CompartmentID) (found bool, err error) {
	err = t.view.scan(append([]byte{pScopeOpen}, c[:]...), nil, false, func([]byte, []byte) (bool, error) {
		found = true
		return false, nil
	})
	if err != nil || found {
		return found, err
	}
	l := lookup{t.view, t.state}
	err = t.view.scan([]byte{pRefused}, nil, false, func(key, value []byte) (bool, error) {
		if len(key) != 33 {
			return true, nil
		}
		r, err := l.decodeRefusal(key, record.RID(key[1:]), value)
		found = err == nil && r.Record.Core.Compartment == c
		return !found, ignoreDamage(err)
	})
	return found, err
}

// release removes one entry and makes its hole.
func (t *tx) release(c record.CompartmentID, self record.DeviceID, seq, arrival uint64, whole bool, done *Released) error {
	e, err := lookup{t.view, t.state}.entry(seq, true)
	if err != nil {
		return err
	}
	r := &e.Record
	author, ok, err := t.lookup().epoch(r.Position().Epoch)
	if err != nil {
		return err
	}
	if !ok || author.Device == self || r.Core.Compartment != c || c.IsZero() {
		done.Kept++
		return nil
	}
	if len(r.Core.Blobs()) > 0 {
		if gone, err := t.releaseBlobs(r, whole); err != nil || !gone {
			done.Kept++
			return err
		}
	}
	leaf := e.EncodeLeaf()
	row := holeRow{record.GapHashes{From: seq, To: seq + 1, Hashes: []record.Hash{record.LeafHash(leaf)}}}
	t.put(keyHole(seq), row.encode())
	for _, key := range [][]byte{keySeq(pEntry, seq), keySeq(pBody, seq), keyAwaited(seq), keyPosition(pPosition, r.Position()), keyIndexRID(r.RID()), keyScope(c, seq), keySeq(pArrival, arrival)} {
		t.unset(key)
	}
	t.next.absent++
	done.Entries++
	done.Bytes += uint64(len(leaf) + len(r.Body))
	return nil
}

// scopeAfterRelease sets the last entry of a compartment to the last one that
// stays, and the notes of what is missing to what the ones that stay point back to.
func (t *tx) scopeAfterRelease(c record.CompartmentID) error {
	err := t.view.scanRaw(append([]byte{pMissing}, c[:]...), nil, false, func(key, _ []byte) (bool, error) {
		t.unset(key)
		return true, nil
	})
	if err != nil {
		return err
	}
	last := uint64(0)
	err = t.view.scan(append([]byte{pScope}, c[:]...), nil, false, func(key, _ []byte) (bool, error) {
		if len(key) != 25 {
			return false, damagedRow(key, "compartment index")
		}
		seq := binary.BigEndian.Uint64(key[17:])
		if gone, ok := t.rows[string(key)]; ok && gone == nil {
			return true, nil
		}
		e, err := lookup{t.view, t.state}.entry(seq, false)
		if err != nil {
			return false, err
		}
		last = seq + 1
		if e.PrevSeq == 0 {
			return true, nil
		}
		held, err := t.has(keyScope(c, e.PrevSeq-1))
		if err == nil && !held {
			t.put(keyMissing(c, e.PrevSeq-1), nil)
		}
		return true, err
	})
	if err != nil {
		return err
	}
	if last == 0 {
		t.unset(keyScopeLast(c))
		return nil
	}
	t.put(keyScopeLast(c), binary.BigEndian.AppendUint64(nil, last))
	return nil
}
