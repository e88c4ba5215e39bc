package chart

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// Opened is one record as the fold sees it: its header, its place and state on this box, and what it says.
type Opened struct {
	Record  record.Record // only the header is used
	RID     record.RID
	Seq     uint64 // when Ordered
	Ordered bool
	State   State
	Author  string // name of the staff member
	Body    Body
}

// Version is one item as a chart shows it.
type Version struct {
	Ref      Ref
	RID      record.RID
	Op       Op
	Base     []Ref
	Resource fhir.Resource // without JSON when Op is OpRetract
	Blobs    []Blob        // of its record: content that is kept apart
	Reason   string        // of its record
	Author   string
	At       time.Time // when its author's box says it was written; for display only
	Clock    uint8     // trust in At: 0 none to 4 verified
	Bulk     bool      // taken in from a file
	Seq      uint64
	Ordered  bool
	State    State
}

// inOrder gives the records in the order of the fold, each once.
func inOrder(records []Opened) []Opened {
	byRID := make(map[record.RID]int, len(records))
	var ordered, pending, refused []Opened
	for _, r := range once(records, byRID) {
		switch {
		case r.Ordered:
			ordered = append(ordered, r)
		case r.State.Kind == Refused:
			refused = append(refused, r)
		default:
			pending = append(pending, r)
		}
	}
	slices.SortFunc(ordered, func(a, b Opened) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), bytes.Compare(a.RID[:], b.RID[:]))
	})
	slices.SortFunc(pending, byClock)
	slices.SortFunc(refused, byClock)
	return slices.Concat(ordered, topological(pending), refused)
}

// once drops repeats of a record; an ordered one is kept before one that is not.
func once(records []Opened, byRID map[record.RID]int) []Opened {
	var out []Opened
	for _, r := range records {
		i, known := byRID[r.RID]
		if !known {
			byRID[r.RID] = len(out)
			out = append(out, r)
		} else if r.Ordered && !out[i].Ordered {
			out[i] = r
		}
	}
	return out
}

func byClock(a, b Opened) int {
	ca, cb := &a.Record.Core, &b.Record.Core
	return cmp.Or(cmp.Compare(ca.HLC, cb.HLC), bytes.Compare(ca.Epoch[:], cb.Epoch[:]), cmp.Compare(ca.Lane, cb.Lane),
		cmp.Compare(ca.N, cb.N), bytes.Compare(a.RID[:], b.RID[:]))
}

// topological moves each record behind those of the list that its items amend and otherwise keeps the order.
func topological(records []Opened) []Opened {
	index := make(map[[8]byte][]int, len(records))
	for i := range records {
		p := [8]byte(records[i].RID[:8])
		index[p] = append(index[p], i)
	}
	w := topoWalk{in: records, index: index, state: make([]uint8, len(records)), out: make([]Opened, 0, len(records))}
	for i := range records {
		w.visit(i)
	}
	return w.out
}

// topoWalk is a depth-first walk that keeps its own stack: a chain of amendments can be as long as the chart.
type topoWalk struct {
	in    []Opened
	index map[[8]byte][]int
	state []uint8 // 0 new, 1 on the stack, 2 out
	out   []Opened
}

func (w *topoWalk) visit(start int) {
	stack := []int{start}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		if w.state[i] == 2 {
			stack = stack[:len(stack)-1]
			continue
		}
		before := w.state[i] == 0
		w.state[i] = 1
		if before {
			if next := w.needs(i); len(next) > 0 {
				stack = append(stack, next...)
				continue
			}
		}
		w.state[i] = 2
		w.out = append(w.out, w.in[i])
		stack = stack[:len(stack)-1]
	}
}

// needs lists the records that i amends and that have not been reached, the first to go out last.
func (w *topoWalk) needs(i int) []int {
	var next []int
	for _, it := range w.in[i].Body.Items {
		for _, ref := range it.Base {
			for _, j := range w.index[ref.RID] {
				if w.state[j] == 0 {
					next = append(next, j)
				}
			}
		}
	}
	slices.Sort(next)
	next = slices.Compact(next)
	slices.Reverse(next)
	return next
}

func (o *Opened) version(i int) Version {
	it := &o.Body.Items[i]
	core := &o.Record.Core
	return Version{Ref: RefOf(o.RID, i), RID: o.RID, Op: it.Op, Base: it.Base, Resource: it.Resource(), Blobs: o.Body.Blobs, Reason: o.Body.Reason,
		Author: o.Author, At: time.UnixMilli(int64(core.HLC >> 16)).UTC(), Clock: core.Clock, Bulk: core.Lane == record.LaneBulk, Seq: o.Seq, Ordered: o.Ordered, State: o.State}
}
