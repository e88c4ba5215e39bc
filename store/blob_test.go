package store_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// sealedChunks stand for a sealed attachment of so many bytes.
func sealedChunks(t testing.TB, size int) [][]byte {
	b := body(size, rng(t))
	return slices.Collect(slices.Chunk(b, record.BlobChunkBytes))
}

// attach keeps an attachment and announces it in a visit.
func (b *box) attach(size int) record.Blob {
	b.t.Helper()
	blob, err := b.s.SaveBlob(ctx, sealedChunks(b.t, size), 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	b.announce(blob)
	return blob
}

func (b *box) announce(blobs ...record.Blob) {
	b.t.Helper()
	d := visit(1, 100, rng(b.t))
	d.Ext = map[uint64][]byte{record.ExtBlobs: record.EncodeBlobs(blobs)}
	b.append(d)
}

// send gives the parts of an attachment that another box lacks, first to last.
func (b *box) send(to *box, blob record.Blob) (fresh int) {
	b.t.Helper()
	have := to.blob(blob)
	for part := range blob.Parts() {
		if have.Holds(part) {
			continue
		}
		p, err := b.s.BlobPart(blob.ID(), part)
		if err != nil {
			b.t.Fatal(err)
		}
		isNew, whole, err := to.s.PutBlobPart(ctx, blob.ID(), part, p)
		if err != nil || !isNew {
			b.t.Fatalf("part %d: new %v, %v", part, isNew, err)
		}
		fresh++
		if now := to.blob(blob); whole != now.Whole() || !now.Holds(part) {
			b.t.Fatalf("part %d: whole %v, state %+v", part, whole, now.Have)
		}
	}
	return fresh
}

func (b *box) blob(blob record.Blob) store.BlobState {
	b.t.Helper()
	st, ok, err := b.s.Blob(blob.ID())
	if err != nil || !ok {
		b.t.Fatalf("attachment: %v, %v", ok, err)
	}
	return st
}

func (b *box) missing() (out []record.Blob) {
	b.t.Helper()
	if err := b.s.MissingBlobs(100, func(st store.BlobState) bool { out = append(out, st.Blob); return true }); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// An attachment goes from the box that made it to another one, whether its record
// came as pending or as an entry, survives both processes, and verify reads it.
func TestBlobTravels(t *testing.T) {
	hub, clinic := pair(t)
	large, small := clinic.attach(5*record.BlobChunkBytes+100), clinic.attach(900)
	if got := clinic.missing(); len(got) != 0 {
		t.Errorf("the author misses %v", got)
	}
	mark := hub.s.BlobMark()
	clinic.push(hub)
	if hub.s.BlobMark() == mark {
		t.Error("what was announced does not show in the mark")
	}
	if got, want := hub.missing(), []record.Blob{small, large}; !slices.Equal(got, want) {
		t.Errorf("missing: got %v, want %v", got, want)
	}
	mark = hub.s.BlobMark()
	if n := clinic.send(hub, large); n != large.Parts() {
		t.Errorf("took %d parts, want %d", n, large.Parts())
	}
	if hub.s.BlobMark() == mark {
		t.Error("what became whole does not show in the mark")
	}
	clinic.send(hub, small)
	hub.order()
	hub.reopen()
	hub.beginEpoch()
	clinic.pull(hub)
	third := newBox(t, 3, record.RoleClinic)
	hub.admit(third)
	third.pull(hub)
	if got, want := third.missing(), []record.Blob{small, large}; !slices.Equal(got, want) {
		t.Errorf("missing after an extension: got %v, want %v", got, want)
	}
	hub.send(third, small)
	third.reopen()
	hub.send(third, large)
	if got := third.missing(); len(got) != 0 {
		t.Errorf("still missing: %v", got)
	}
	if st := third.blob(large); st.Author != clinic.a.Device || st.Compartment != (record.CompartmentID{1, 1}) || st.Staged != 0 {
		t.Errorf("state: %+v", st)
	}
	if held, _, err := third.s.BlobCharge(clinic.a.Device); err != nil || held != uint64(large.Bytes)+uint64(large.PartLen(0))+uint64(small.Bytes) {
		t.Errorf("charged %d, %v", held, err)
	}
	if err := clinic.s.PutBlobHolder(ctx, hub.a.Device, []record.BlobID{{9}, large.ID()}); err != nil {
		t.Fatal(err)
	}
	clinic.reopen()
	if got, err := clinic.s.BlobHolders(large.ID()); err != nil || !slices.Equal(got, []record.DeviceID{hub.a.Device}) {
		t.Errorf("holders: got %v, %v", got, err)
	}
	if got, err := clinic.s.BlobsOnlyHere(9); err != nil || !slices.Equal(got, []record.BlobID{small.ID()}) {
		t.Errorf("only here: got %v, %v", got, err)
	}
}

// Nothing is kept that no record announces, that is not what was announced, or that
// is more than one device may fill a box with.
func TestBlobRefused(t *testing.T) {
	hub, clinic := pair(t)
	chunks := sealedChunks(t, 3*record.BlobChunkBytes)
	blob, err := clinic.s.SaveBlob(ctx, chunks, 1000)
	if err != nil {
		t.Fatal(err)
	}
	list, err := clinic.s.BlobPart(blob.ID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, part int, b []byte, want error) {
		t.Helper()
		if _, _, err := hub.s.PutBlobPart(ctx, blob.ID(), part, b); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	}
	refused("not announced", 0, list, store.ErrRefused)
	clinic.announce(blob)
	clinic.push(hub)
	refused("before its list", 1, chunks[0], store.ErrRefused)
	other := bytes.Clone(list)
	other[40] ^= 1
	refused("a changed list", 0, other, store.ErrRefused)
	refused("a list that is cut", 0, list[:32], store.ErrRefused)
	if _, _, err := hub.s.PutBlobPart(ctx, blob.ID(), 0, list); err != nil {
		t.Fatal(err)
	}
	refused("another chunk", 1, chunks[1], store.ErrRefused)
	refused("past the end", 4, chunks[2], store.ErrRefused)
	refused("before the beginning", -1, chunks[2], store.ErrRefused)
	if _, _, err := hub.s.PutBlobPart(ctx, blob.ID(), 1, chunks[0]); err != nil {
		t.Fatal(err)
	}
	if fresh, whole, err := hub.s.PutBlobPart(ctx, blob.ID(), 1, chunks[0]); fresh || whole || err != nil {
		t.Errorf("a second time: fresh %v, whole %v, %v", fresh, whole, err)
	}
	hub.o.BlobBytesPerAuthor = 2 * record.BlobChunkBytes
	hub.reopen()
	refused("over the quota", 2, chunks[1], store.ErrBlobQuota)
}

// What was staged and never announced goes; what a record announces stays.
func TestStagedBlob(t *testing.T) {
	_, clinic := pair(t)
	kept := clinic.attach(20_000)
	staged, err := clinic.s.SaveBlob(ctx, sealedChunks(t, 40_000), 2000)
	if err != nil {
		t.Fatal(err)
	}
	clinic.reopen()
	for before, want := range map[int64][]record.BlobID{1999: nil, 2000: {staged.ID()}} {
		if got, err := clinic.s.StagedBlobs(before, 9); err != nil || !slices.Equal(got, want) {
			t.Errorf("staged at %d: got %v, %v, want %v", before, got, err, want)
		}
	}
	if err := clinic.s.DropBlob(ctx, kept.ID()); !errors.Is(err, store.ErrRefused) {
		t.Errorf("dropping what a record announces: got %v, want %v", err, store.ErrRefused)
	}
	if err := clinic.s.DropBlob(ctx, staged.ID()); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := clinic.s.Blob(staged.ID()); ok || err != nil {
		t.Errorf("after it was dropped: %v, %v", ok, err)
	}
	if _, err := clinic.s.BlobPart(staged.ID(), 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a part: got %v, want %v", err, store.ErrNotFound)
	}
}

// Verify names a damaged part, DropStray notes it as missing, and a peer gives it
// again. A rebuilt store holds what was sound.
func TestBlobDamage(t *testing.T) {
	hub, clinic := pair(t)
	blob, other := clinic.attach(5*record.BlobChunkBytes), clinic.attach(3*record.BlobChunkBytes)
	clinic.push(hub)
	clinic.send(hub, blob)
	clinic.send(hub, other)
	hub.order()
	if err := hub.s.Settle(); err != nil {
		t.Fatal(err)
	}
	id := blob.ID()
	key := append(append([]byte{'c'}, id[:]...), 0, 0, 0, 2)
	spoilt := store.SealRow(key, bytes.Repeat([]byte{7}, record.BlobChunkBytes))
	if err := hub.s.Index().Update(func(txn *badger.Txn) error { return txn.Set(key, spoilt) }); err != nil {
		t.Fatal(err)
	}
	spoil := func(part byte) {
		key := append(append([]byte{'c'}, id[:]...), 0, 0, 0, part)
		if err := hub.s.Index().Update(func(txn *badger.Txn) error { return txn.Set(key, []byte("not what was there")) }); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := hub.s.Verify(ctx, store.VerifyOptions{}, nil)
	if err != nil || len(rep.Damage) != 1 || !strings.Contains(rep.Damage[0].What, "part 2 of an attachment") || rep.Damage[0].Device != clinic.a.Device {
		t.Fatalf("verify found %v, %v", rep.Damage, err)
	}
	if n, err := hub.s.DropStray(ctx); n == 0 || err != nil {
		t.Fatalf("put right: %d, %v", n, err)
	}
	if got := hub.missing(); !slices.Equal(got, []record.Blob{blob}) {
		t.Errorf("missing: got %v, want %v", got, []record.Blob{blob})
	}
	if st := hub.blob(blob); st.Holds(2) || st.Held() != st.Parts()-1 {
		t.Errorf("holds %d of %d", st.Held(), st.Parts())
	}
	hub.close()
	hub.rebuilt()
	if st := hub.blob(other); !st.Whole() {
		t.Errorf("after a rebuild: holds %d of %d", st.Held(), st.Parts())
	}
	if n := clinic.send(hub, blob); n != 1 {
		t.Errorf("a peer gave %d parts, want 1", n)
	}
	if err := hub.s.Settle(); err != nil {
		t.Fatal(err)
	}
	spoil(4)
	held, _, err := hub.s.BlobCharge(clinic.a.Device)
	if err != nil {
		t.Fatal(err)
	}
	if lost, err := hub.s.MendBlob(ctx, id); lost != 1 || err != nil {
		t.Errorf("mended: %d lost, %v", lost, err)
	}
	if lost, err := hub.s.MendBlob(ctx, id); lost != 0 || err != nil {
		t.Errorf("mended again: %d lost, %v", lost, err)
	}
	if now, _, err := hub.s.BlobCharge(clinic.a.Device); err != nil || now != held-record.BlobChunkBytes {
		t.Errorf("charged %d after %d, %v", now, held, err)
	}
	if n := clinic.send(hub, blob); n != 1 {
		t.Errorf("a peer gave %d parts after mending, want 1", n)
	}
	if err := hub.s.Settle(); err != nil {
		t.Fatal(err)
	}
	spoil(0)
	if lost, err := hub.s.MendBlob(ctx, id); lost != 0 || err != nil {
		t.Errorf("a list that follows from the chunks: %d lost, %v", lost, err)
	}
	if p, err := hub.s.BlobPart(id, 0); err != nil || len(p) != blob.PartLen(0) {
		t.Errorf("the list made anew: %d bytes, %v", len(p), err)
	}
}
