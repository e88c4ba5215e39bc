package node

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
)

// decidedAt is one decision of a box at a place of the ledger, whose time is the place.
type decidedAt struct {
	by, id, to byte
	what       chart.Decision
	until      int64
	refs       []byte
	refused    bool
}

func (x decidedAt) put(d *directives, seq int) {
	one := chart.Decided{Directive: chart.Directive{ID: chart.DirectiveID{x.id}, Decision: x.what, Until: x.until}, By: record.DeviceID{x.by}, Refused: x.refused}
	if x.to != 0 {
		one.Grantee = record.DeviceID{x.to}
	}
	if x.what == chart.DecisionGrant {
		one.Purposes = []string{policy.Treatment}
	}
	for _, r := range x.refs {
		one.Refs = append(one.Refs, chart.DirectiveID{r})
	}
	d.all = append(d.all, one)
	d.places = append(d.places, stand{by: one.By, seq: uint64(seq), ordered: !x.refused, at: time.Unix(int64(seq), 0), hlc: uint64(seq)})
}

// TestCustodyIsTheSameEverywhere: whom keys are for, whatever the order in which the records came. Box 'a' is where
// the person was registered.
func TestCustodyIsTheSameEverywhere(t *testing.T) {
	order := rand.New(rand.NewPCG(1, 2))
	limit, grant, end := chart.DecisionLimit, chart.DecisionGrant, chart.DecisionEnd
	for name, x := range map[string]struct {
		at   int64
		want string // of the boxes a, b, c
		list []decidedAt
	}{
		"nothing decided":                        {10, "abc", nil},
		"a limit":                                {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}}},
		"a limit by whom it was open to":         {10, "ab", []decidedAt{{by: 'b', id: 1, what: limit}}},
		"a permission":                           {9, "ab", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b', until: 10}}},
		"a permission that is over":              {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b', until: 10}}},
		"a permission to all":                    {10, "abc", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant}}},
		"one's own permission":                   {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'b', id: 2, what: grant, to: 'b'}}},
		"by one with a permission":               {10, "abc", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b'}, {by: 'b', id: 3, what: grant, to: 'c'}}},
		"by one whose permission was over":       {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b', until: 2}, {by: 'b', id: 3, what: grant, to: 'c'}}},
		"recalled, then passed on":               {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b'}, {by: 'a', id: 3, what: end, to: 'b', refs: []byte{2}}, {by: 'b', id: 4, what: grant, to: 'c'}}},
		"granted again by who knew of no recall": {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b'}, {by: 'b', id: 4, what: grant, to: 'b'}, {by: 'a', id: 3, what: end, to: 'b', refs: []byte{2}}}},
		"the same in the other order":            {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b'}, {by: 'a', id: 3, what: end, to: 'b', refs: []byte{2}}, {by: 'b', id: 4, what: grant, to: 'b'}}},
		"a limit by whom it was closed to":       {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'b', id: 2, what: limit}}},
		"opened by whom it was closed to":        {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'b', id: 2, what: end, refs: []byte{1}}}},
		"opened by a home":                       {10, "abc", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: end, refs: []byte{1}}}},
		"recalled by whom it was closed to":      {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b'}, {by: 'c', id: 3, what: end, refs: []byte{1, 2}}}},
		"a permission that the region refused":   {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: grant, to: 'b', refused: true}}},
		"an end that the region refused":         {10, "a", []decidedAt{{by: 'a', id: 1, what: limit}, {by: 'a', id: 2, what: end, refs: []byte{1}, refused: true}}},
		"a limit that the region refused":        {10, "a", []decidedAt{{by: 'b', id: 1, what: limit, refused: true}}},
	} {
		d := directives{first: stand{by: record.DeviceID{'a'}}}
		for seq, one := range x.list {
			one.put(&d, seq)
		}
		for range 20 {
			order.Shuffle(len(d.all), func(i, j int) {
				d.all[i], d.all[j] = d.all[j], d.all[i]
				d.places[i], d.places[j] = d.places[j], d.places[i]
			})
			k, got := d.custody(), ""
			for _, box := range []byte("abc") {
				if k.allows(record.DeviceID{box}, time.Unix(x.at, 0)) {
					got += string(box)
				}
			}
			if got != x.want || k.everybody(time.Unix(x.at, 0)) != (x.want == "abc" && !slices.ContainsFunc(x.list, func(o decidedAt) bool { return o.to == 'c' })) {
				t.Fatalf("%s: for %s, want %s", name, got, x.want)
			}
		}
	}
}

// TestWhenARecordWaitsIsNotItsAuthorsWord: what is in no ledger yet counts as written now, so that who sets a
// clock back stays within no permission that is over.
func TestWhenARecordWaitsIsNotItsAuthorsWord(t *testing.T) {
	now, long := time.Unix(2_000_000_000, 0), time.Unix(1_500_000_000, 0)
	x := store.Placed{Time: long.Unix()}
	x.Record.Core.HLC = hlcFrom(long)
	if got := standOf(&x, record.DeviceID{1}, now); !got.at.Equal(now) {
		t.Errorf("waiting: %v, want %v", got.at, now)
	}
	x.Ordered = true
	if got := standOf(&x, record.DeviceID{1}, now); !got.at.Equal(long) {
		t.Errorf("in the ledger: %v, want its time %v", got.at, long)
	}
}
