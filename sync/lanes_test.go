package peersync_test

import (
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// said is what one side sent, in its order: a lane, or entries.
type said struct {
	lane  int
	bytes int
}

const saidEntries = 100

// outOf has a clinic with something in every lane, and a ledger that its neighbour
// lacks, meet that neighbour, and gives what it sends.
func outOf(t *testing.T, aged bool) []said {
	t.Helper()
	w := newWorld(t, 61, 2)
	a, b := w.clinics[0], w.clinics[1]
	w.save(a, record.LaneClinical, 200)
	if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.orderAll()
	if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil || a.Head() != w.hub.Head() {
		t.Fatal("the ledger did not come", err)
	}
	a.author, a.opened = newAuthor(a.key, 99), false // an epoch that the ledger does not hold
	for lane, n := range []int{1, 120, 60, 20} {
		w.save(a, record.Lane(lane), n)
	}
	w.tweak = func(_ *memory, o *peersync.Options) {
		o.Window = 16 << 10
		o.Aged = func(r *record.Record) bool { return aged && r.Core.Lane == record.LaneBulk }
	}
	sa, sb := w.pair(a.memory, b.memory)
	defer sa.Close()
	defer sb.Close()
	var out []said
	x := &exchange{a: sa, b: sb, tap: func(toA bool, f peersync.Frame) []peersync.Frame {
		switch {
		case toA:
		case f.Type == peersync.TypePending:
			if first, opening, _, err := record.RunHead(f.Payload); err == nil && !opening {
				out = append(out, said{int(first.Lane), len(f.Payload)})
			}
		case f.Type == peersync.TypeSegment:
			out = append(out, said{saidEntries, len(f.Payload)})
		}
		return []peersync.Frame{f}
	}}
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	if b.Head() != a.Head() || len(b.allPending()) != 202 {
		t.Fatalf("the neighbour has %d entries of %d and %d pending records, want 202", b.Head().Size, a.Head().Size, len(b.allPending()))
	}
	return out
}

// TestLanesShareTheLink: urgent records go first, bulk last, and what is between by
// its shares, so that nothing of it waits for all of another.
func TestLanesShareTheLink(t *testing.T) {
	list := outOf(t, false)
	first, last, bytes := map[int]int{}, map[int]int{}, map[int]int{}
	for i, s := range list {
		if _, ok := first[s.lane]; !ok {
			first[s.lane] = i
		}
		last[s.lane] = i
	}
	for i, s := range list {
		if i > first[saidEntries] && i <= min(last[1], last[saidEntries], last[2]) {
			bytes[s.lane] += s.bytes
		}
	}
	if first[int(record.LaneControl)] != 0 {
		t.Errorf("the urgent record went at place %d", first[int(record.LaneControl)])
	}
	if first[int(record.LaneBulk)] < max(last[1], last[saidEntries], last[2]) {
		t.Errorf("bulk went at place %d, before the others had ended", first[3])
	}
	clinical, entries, audit := bytes[1], bytes[saidEntries], bytes[2]
	t.Logf("%d bytes clinical, %d entries, %d audit while all had something", clinical, entries, audit)
	if entries == 0 || audit == 0 || clinical < entries*3/2 || clinical > entries*3 || entries < 2*audit {
		t.Errorf("%d bytes clinical, %d entries, %d audit; want about 6 : 3 : 1", clinical, entries, audit)
	}
}

// TestAgedRecordsMoveUp: bulk that waited for long goes with audit, before the rest
// has ended.
func TestAgedRecordsMoveUp(t *testing.T) {
	bulk, end := -1, 0
	for i, s := range outOf(t, true) {
		switch {
		case s.lane == int(record.LaneBulk) && bulk < 0:
			bulk = i
		case s.lane != int(record.LaneBulk):
			end = i
		}
	}
	if bulk < 0 || bulk > end {
		t.Errorf("bulk of long ago went at place %d, after all else had ended at %d", bulk, end)
	}
}
