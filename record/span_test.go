package record_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/test/fuzz"
)

// spanOf cuts a span out of a ledger: held says which entries it carries.
func spanOf(t testing.TB, entries []record.Entry, from, to uint64, held func(*record.Entry) bool) record.Span {
	t.Helper()
	s := record.Span{From: from, To: to}
	for at := from; at < to; {
		if held(&entries[at]) {
			s.Entries = append(s.Entries, entries[at])
			at++
			continue
		}
		end := at
		for end < to && !held(&entries[end]) {
			end++
		}
		g := record.GapHashes{From: at, To: end}
		for _, x := range record.GapShape(at, end) {
			var r record.Range
			for i := x.From(); i < x.To(); i++ {
				r.Append(record.LeafHash(entries[i].EncodeLeaf()))
			}
			g.Hashes = append(g.Hashes, r.Root())
		}
		s.Gaps, at = append(s.Gaps, g), end
	}
	if err := s.Tiles(); err != nil {
		t.Fatalf("span %d to %d: %v", from, to, err)
	}
	return s
}

func TestSpanRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 7))
	g, batches := history(t, rng, 12)
	for _, b := range batches {
		g.order(t, b.millis, b.records...)
	}
	size := uint64(len(g.entries))
	for range 40 {
		from := rng.Uint64N(size)
		to := from + 1 + rng.Uint64N(size-from)
		share, drawn := rng.IntN(5), make([]bool, size)
		for i := range drawn {
			drawn[i] = rng.IntN(4) < share
		}
		want := spanOf(t, g.entries, from, to, func(e *record.Entry) bool { return drawn[e.Seq] })
		for i := range want.Entries {
			if c := &want.Entries[i].Record.Core; rng.IntN(4) == 0 && len(want.Openings) < 5 && c.Kind < record.KindSealed {
				want.Openings = append(want.Openings, want.Entries[i].Record)
			}
		}
		known := map[record.Position]record.Record{}
		for i := range want.Entries {
			if r := want.Entries[i].Record; rng.IntN(3) == 0 {
				known[r.Position()] = r
			}
		}
		b := record.AppendSpan(nil, &want, func(p record.Position) bool { _, ok := known[p]; return ok })
		got, err := record.ReadSpan(b, func(p record.Position) (record.Record, bool, error) { r, ok := known[p]; return r, ok, nil })
		if err != nil {
			t.Fatal(err)
		}
		same := got.From == want.From && got.To == want.To && slices.EqualFunc(got.Openings, want.Openings, sameRecord) &&
			slices.EqualFunc(got.Entries, want.Entries, func(a, b record.Entry) bool {
				return a.Seq == b.Seq && bytes.Equal(a.EncodeLeaf(), b.EncodeLeaf()) && sameRecord(a.Record, b.Record)
			}) && slices.EqualFunc(got.Gaps, want.Gaps, func(a, b record.GapHashes) bool {
			return a.From == b.From && a.To == b.To && slices.Equal(a.Hashes, b.Hashes)
		})
		if !same {
			t.Fatalf("got another span than was sent, %d to %d with %d entries", from, to, len(want.Entries))
		}
		if from2, to2, err := record.SpanBounds(b); err != nil || from2 != from || to2 != to {
			t.Fatalf("got bounds %d %d %v, want %d %d", from2, to2, err, from, to)
		}
		_, err = record.ReadSpan(b, func(record.Position) (record.Record, bool, error) { return record.Record{}, false, nil })
		if want := len(known) > 0; errors.Is(err, record.ErrGap) != want {
			t.Fatalf("with %d known records that are not held: %v", len(known), err)
		}
	}
}

func FuzzReadSpan(f *testing.F) {
	g := seedLedger(f)
	held := map[record.Position]record.Record{}
	for _, e := range g.entries[5:8] {
		held[e.Record.Position()] = e.Record
	}
	for _, share := range []int{1, 2, 3} {
		s := spanOf(f, g.entries, 2, uint64(len(g.entries)), func(e *record.Entry) bool { return e.Seq%uint64(share+1) != 0 })
		s.Openings = []record.Record{g.entries[0].Record, g.entries[3].Record}
		f.Add(record.AppendSpan(nil, &s, func(record.Position) bool { return false }))
		f.Add(record.AppendSpan(nil, &s, func(p record.Position) bool { _, ok := held[p]; return ok }))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzz.Bounded(t, len(b), func() {
			record.ReadSpan(b, func(p record.Position) (record.Record, bool, error) { r, ok := held[p]; return r, ok, nil })
		})
		s, err := record.ReadSpan(b, func(p record.Position) (record.Record, bool, error) { r, ok := held[p]; return r, ok, nil })
		if err != nil {
			if !errors.Is(err, record.ErrGap) {
				wantMalformed(t, err)
			}
			return
		}
		if err := s.Tiles(); err != nil {
			t.Fatalf("what was read is no span: %v", err)
		}
		for i := range s.Entries {
			if e := &s.Entries[i]; e.PrevSeq > e.Seq {
				t.Fatalf("entry %d after entry %d", e.Seq, e.PrevSeq)
			}
		}
		again := record.AppendSpan(nil, &s, func(record.Position) bool { return false })
		if got, err := record.ReadSpan(again, nil); err != nil || len(got.Entries) != len(s.Entries) {
			t.Fatalf("read back %d of %d entries, %v", len(got.Entries), len(s.Entries), err)
		}
	})
}
