package node

import (
	"slices"
	"testing"

	"github.com/healthpost/healthpost/store"
)

func TestDamagedRanges(t *testing.T) {
	one := func(seq uint64) store.DamageError { return store.DamageError{Seq: seq, HasSeq: true} }
	many := func(seq, end uint64) store.DamageError { return store.DamageError{Seq: seq, End: end, HasSeq: true} }
	for name, x := range map[string]struct {
		found []store.DamageError
		want  []seqRange
	}{
		"nothing":               {nil, nil},
		"not of an entry":       {[]store.DamageError{{Key: "arrivals"}}, nil},
		"one":                   {[]store.DamageError{one(7)}, []seqRange{{7, 8}}},
		"the first":             {[]store.DamageError{one(0)}, []seqRange{{0, 1}}},
		"near ones, any order":  {[]store.DamageError{one(70), one(7), one(8)}, []seqRange{{7, 71}}},
		"far ones":              {[]store.DamageError{one(7), one(500)}, []seqRange{{7, 8}, {500, 501}}},
		"a table":               {[]store.DamageError{many(100, 300), one(250)}, []seqRange{{100, 300}}},
		"past the end":          {[]store.DamageError{many(19_990, 30_000), one(20_000), one(99_999)}, []seqRange{{19_990, 20_000}}},
		"more than one request": {[]store.DamageError{many(0, 5000)}, []seqRange{{0, 4096}, {4096, 5000}}},
	} {
		if got := damagedRanges(x.found, 20_000); !slices.Equal(got, x.want) {
			t.Errorf("%s: got %v, want %v", name, got, x.want)
		}
	}
	var all []store.DamageError
	for seq := uint64(0); seq < 20_000; seq += 10 * mendGapMax {
		all = append(all, one(seq))
	}
	if got := damagedRanges(all, 1<<40); len(got) > mendRangesMax {
		t.Errorf("got %d ranges, want at most %d", len(got), mendRangesMax)
	}
}
