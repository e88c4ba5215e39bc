package peersync

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

func someEntries(n int) []record.Entry {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	var out []record.Entry
	for i := range n {
		r := record.Sign(record.Core{Epoch: record.EpochID{1}, Lane: 1, N: uint64(i + 1), Kind: record.KindClinical, Compartment: record.CompartmentID{2}}, bytes.Repeat([]byte{byte(i)}, i*40), key)
		e := record.Entry{Seq: uint64(7 + i), Time: 100, Record: r}
		if i%3 == 2 {
			e.Record = e.Record.WithBody(nil) // erased here
		}
		out = append(out, e)
	}
	return out
}

func TestEntriesWhole(t *testing.T) {
	list := someEntries(20)
	b := appendEntries(nil, list, 1<<20)
	got, err := readEntries(b)
	if err != nil || len(got) != len(list) {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for i := range got {
		if got[i].Seq != list[i].Seq || !bytes.Equal(got[i].EncodeLeaf(), list[i].EncodeLeaf()) || !bytes.Equal(got[i].Record.Body, list[i].Record.Body) ||
			(got[i].Record.Body == nil) != (list[i].Record.Body == nil) {
			t.Errorf("entry %d differs", i)
		}
	}
	for n := range b {
		if _, err := readEntries(b[:n]); !errors.Is(err, ErrMisbehaved) {
			t.Fatalf("cut at %d: %v, want ErrMisbehaved", n, err)
		}
	}
	if _, err := readEntries(append(bytes.Clone(b), 0)); !errors.Is(err, ErrMisbehaved) {
		t.Errorf("a byte too many: %v", err)
	}
	body := bytes.LastIndexByte(b, 19) // of the last entry
	b[body] ^= 1
	if _, err := readEntries(b); !errors.Is(err, ErrMisbehaved) {
		t.Errorf("another body: %v", err)
	}
	if got, err := readEntries(appendEntries(nil, list, 1)); err != nil || len(got) != 1 {
		t.Errorf("%d entries in a small frame, %v; one always fits", len(got), err)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add(appendEntries(nil, someEntries(3), 1<<20))
	f.Add([]byte{0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() { readEntries(b) })
		list, err := readEntries(b)
		if err != nil {
			if !errors.Is(err, ErrMisbehaved) {
				t.Fatal(err)
			}
			return
		}
		if again, err := readEntries(appendEntries(nil, list, len(b)+1<<20)); err != nil || len(again) != len(list) {
			t.Fatalf("entries do not read back: %v", err)
		}
	})
}

// FuzzMessages holds the decoders of receipts and evidence to their bounds, and
// noteHead to what it reads.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("healthpost/00/g1\n12\n" + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" + "\n\n"))
	f.Add([]byte{0x83, 0x80, 0x80, 0x40})
	f.Add([]byte{0x84, 1, 2, 0x80, 0x40})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeReceipt(b); err == nil && (len(m.Heads) == 0 || len(m.Heads) > record.ReceiptHeadsMax) {
			t.Fatalf("receipt of %d heads", len(m.Heads))
		}
		if m, err := decodeEvidence(b); err == nil && (len(m.Held) > 8 || len(m.Wanted) > 8 || len(m.Piece) > evidenceBytesMax) {
			t.Fatal("evidence out of bounds")
		}
		if h, ok := noteHead(b); ok && h.Size >= 1<<62 {
			t.Fatalf("size %d", h.Size)
		}
		if m, err := decodePull(b); err == nil && m.Flags > 31 {
			t.Fatalf("pull %+v", m)
		}
	})
}
