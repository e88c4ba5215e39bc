package store

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

func sampleRecord() record.Record {
	return record.Sign(record.Core{Epoch: record.EpochID{1}, Lane: 1, N: 1, HLC: 1, Kind: record.KindClinical}, []byte("body"), ed25519.NewKeyFromSeed(make([]byte, 32)))
}

func FuzzRows(f *testing.F) {
	r := sampleRecord()
	p := pendingRow{Arrival: 3, Record: r}
	feed := feedRow{Ordered: record.Head{N: 1}, Held: record.Head{N: 2}, Refused: 2}
	epoch := epochRow{Ordered: true, Seq: 4}
	pending, ordered := ridRow{Pending: true, Position: r.Position()}, ridRow{Seq: 9}
	arrival := arrivalRow{Pending: true, Seq: 1}
	ledger := ledgerRow{Time: 1, Index: 2, Edge: record.Range{Size: 3, Hashes: []record.Hash{{1}, {2}}}}
	for _, b := range [][]byte{p.encode(), feed.encode(), epoch.encode(), pending.encode(), ordered.encode(), arrival.encode(), ledger.encode(), encodeHead(record.TreeHead{Size: 1}, []byte("note")), sealRow([]byte("k"), []byte("v")), {}} {
		f.Add(b)
	}
	hole := holeRow{record.GapHashes{From: 7, To: 10, Hashes: []record.Hash{{1}, {2}}}}
	f.Add(hole.encode())
	f.Add(encodeTile(append(make([]record.Hash, tileHashes-2), record.Hash{1}, record.Hash{2})))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, again []byte, err error) {
			if err == nil && !bytes.Equal(again, b) {
				t.Errorf("%s does not encode back to itself", what)
			}
		}
		x, err := decodePendingRow(b)
		if err == nil {
			same("pending", x.encode(), nil)
		}
		feed, err := decodeFeedRow(b)
		same("feed", feed.encode(), err)
		epoch, err := decodeEpochRow(b)
		same("epoch", epoch.encode(), err)
		rid, err := decodeRIDRow(b)
		same("record index", rid.encode(), err)
		arrival, err := decodeArrivalRow(b)
		same("arrival", arrival.encode(), err)
		ledger, err := decodeLedgerRow(b)
		same("ledger", ledger.encode(), err)
		head, rest, err := decodeHead(b)
		same("head", encodeHead(head, rest), err)
		if v, err := openRow([]byte("k"), b); err == nil {
			same("row", sealRow([]byte("k"), v), nil)
		}
		decodeMember(b)
		counts, err := decodeRowCounts(b)
		same("counts", counts.encode(), err)
		decodeCheckpointNote(b)
		hole, err := decodeHoleRow(keyHole(7), b)
		same("hole", hole.encode(), err)
		if tile, ok := decodeTile(b); ok && len(b) != tileHashes*32 {
			same("tile", encodeTile(tile), nil)
		}
		blob, err := decodeBlobState(b)
		if err == nil {
			same("attachment", blob.encode(), nil)
		}
	})
}

// FuzzMendTable: whatever a table's bytes are, taking it apart ends.
func FuzzMendTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 0, 0, 0, 0})
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.BoundedBy(t, 8<<20+64*uint64(len(b)), func() { mendTable(b) }) // a whole table is made anew
		mendTable(b)
		soundBlocks(b)
	})
}

// TestNoteOfTheFirstRelease: a checkpoint that does not know the ledger's end.
func TestNoteOfTheFirstRelease(t *testing.T) {
	short, err := record.Marshal(checkpointNoteShort{Clean: true, Files: []digest{{Name: "MANIFEST", Length: 3, Sum: []byte{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := decodeCheckpointNote(short)
	if err != nil || !n.Clean || len(n.Files) != 1 || n.Size != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := decodeCheckpointNote(append(short, 0)); err == nil {
		t.Error("a note with a byte behind it is read")
	}
}

func FuzzDecodeGroup(f *testing.F) {
	l := &layer{rows: map[string][]byte{"a": []byte("1"), "b": nil, "c": {}}, keys: []string{"a", "b", "c"}}
	f.Add(encodeGroup([]*layer{l}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { decodeGroup(b, func(_, _ []byte) error { return nil }) })
		decodeGroup(b, func(key, _ []byte) error {
			if len(key) == 0 {
				t.Error("empty key")
			}
			return nil
		})
	})
}

func FuzzVerifyTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 0, 0, 0, 0})
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { verifyTable(b) })
		if verifyTable(b) == nil {
			t.Error("bytes made up by a fuzzer verify as a table")
		}
	})
}

func TestGroupRoundTrip(t *testing.T) {
	l := &layer{rows: map[string][]byte{"a": []byte("1"), "b": nil, "c": {}}, keys: []string{"a", "b", "c"}}
	got := map[string]string{}
	err := decodeGroup(encodeGroup([]*layer{l}), func(k, row []byte) error {
		got[string(k)] = string(row)
		if row == nil {
			got[string(k)] = "deleted"
		}
		return nil
	})
	if err != nil || got["a"] != "1" || got["b"] != "deleted" || got["c"] != "" || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRecordDataIsNeverJustDeleted: the one function that deletes a pending record
// refuses when the record is kept nowhere else.
func TestRecordDataIsNeverJustDeleted(t *testing.T) {
	s, err := Open(t.TempDir(), Options{FreeBytesMin: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tr, err := s.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tr.drop()
	r := sampleRecord()
	epoch := epochRow{}
	tr.put(keyEpoch(r.Core.Epoch), epoch.encode())
	if err := tr.addPending(&r, record.DeviceID{}); err != nil {
		t.Fatal(err)
	}
	p, ok, err := tr.lookup().pending(r.Position())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := tr.removePending(&p); err == nil {
		t.Error("a pending record that is kept nowhere else was deleted")
	}
	if err := tr.moveRefused(p, record.Equivocation); err != nil {
		t.Errorf("a record kept as refused cannot be taken out of pending: %v", err)
	}
}

func TestMovedRowIsNoRow(t *testing.T) {
	row := sealRow([]byte("a"), []byte("value"))
	if _, err := openRow([]byte("b"), row); err == nil {
		t.Error("a row under another key verifies")
	}
	for i := range row {
		row[i] ^= 4
		if _, err := openRow([]byte("a"), row); err == nil {
			t.Errorf("row with byte %d changed verifies", i)
		}
		row[i] ^= 4
	}
}
