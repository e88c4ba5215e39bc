package chart_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/healthpost/healthpost/chart"
	"pgregory.net/rapid"
)

// Boxes that each hold a part of a person's records give one another what they
// have, in any order, some of it many times over: all end with the same chart, to
// the byte.
func TestPartsMergeInAnyGrouping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := history(t)
		want := chart.Fold(slices.Clone(records))
		boxes := make([][]chart.Opened, rapid.IntRange(2, 4).Draw(t, "boxes"))
		for _, r := range records {
			some := rapid.IntRange(1, 1<<len(boxes)-1).Draw(t, "held by")
			for i := range boxes {
				if some>>i&1 == 1 {
					boxes[i] = append(boxes[i], r)
				}
			}
		}
		for len(boxes) > 1 { // two meet, and one of them goes on to the next
			i := rapid.IntRange(0, len(boxes)-2).Draw(t, "who meets")
			both := slices.Concat(boxes[i+1], boxes[i])
			if rapid.Bool().Draw(t, "the other way") {
				both = slices.Concat(boxes[i], boxes[i+1], boxes[i])
			}
			boxes = slices.Replace(boxes, i, i+2, both)
		}
		got := chart.Fold(boxes[0])
		row, err := chart.EncodeRow(got.Row())
		wanted, wantErr := chart.EncodeRow(want.Row())
		if got.Digest() != want.Digest() || !bytes.Equal(row, wanted) || err != nil || wantErr != nil {
			t.Fatalf("got chart %x with row %x, %v; want %x with %x, %v", got.Digest(), row, err, want.Digest(), wanted, wantErr)
		}
	})
}

// A version passes out of sight only because a record that was taken names it, or
// because another says the same: neither order nor clock nor a merge drops one.
func TestOnlyWhoSawAVersionPutsItAside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := history(t)
		named := map[chart.Ref]bool{}
		for _, r := range records {
			if r.State.Kind == chart.Refused {
				continue
			}
			for _, item := range r.Body.Items {
				for _, base := range item.Base {
					named[base] = true
				}
			}
		}
		for _, l := range chart.Fold(records).Lines {
			for _, v := range l.Past {
				same := slices.ContainsFunc(l.Heads, func(h chart.Version) bool { return h.Op == v.Op && bytes.Equal(h.Resource.JSON, v.Resource.JSON) })
				if !named[v.Ref] && !same && v.State.Kind != chart.Refused {
					t.Fatalf("%s: version %s is out of sight and nobody wrote over it", l.Key, v.Ref)
				}
			}
		}
	})
}
