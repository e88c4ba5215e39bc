package nemesis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is a kind of thing that Check finds.
type Fault string

const (
	Lost      Fault = "lost"      // acknowledged, and not on every replica in the end
	Doubled   Fault = "doubled"   // one record or form at two places
	Reordered Fault = "reordered" // against its feed, its base, or what was answered before it was asked
	Stale     Fault = "stale"     // shown as what it was not, or not shown though it was said to be there
	Diverged  Fault = "diverged"  // two replicas differ at one size
)

// Finding is one of them.
type Finding struct {
	Fault Fault
	Text  string
}

func (f Finding) String() string { return string(f.Fault) + ": " + f.Text }

// Placed is an entry of a replica.
type Placed struct {
	Seq    uint64
	Record uint64 // as in Op
	Feed   string
	N      uint64 // place in its feed
}

// Replica is what a box holds in the end.
type Replica struct {
	Box     string
	Size    uint64
	Root    string
	Entries []Placed // in order
}

// Check compares a history with what every replica holds after all faults have ended.
func Check(ops []Op, replicas []Replica) []Finding {
	c := &checking{ops: slices.Clone(ops), replicas: replicas}
	slices.SortFunc(c.ops, func(a, b Op) int { return cmp.Compare(a.Call, b.Call) })
	c.entries()
	c.acknowledged()
	c.order()
	c.forms()
	c.bases()
	c.shown()
	c.sessions()
	c.heads()
	return c.found
}

type checking struct {
	ops      []Op
	replicas []Replica
	found    []Finding
	places   map[string]map[uint64]uint64 // by box and record
}

// findingsMax is enough to see what is wrong.
const findingsMax = 40

func (c *checking) add(f Fault, format string, args ...any) {
	x := Finding{f, fmt.Sprintf(format, args...)}
	if len(c.found) < findingsMax && !slices.Contains(c.found, x) {
		c.found = append(c.found, x)
	}
}

// writes tells operations that make a record.
func (k Kind) writes() bool {
	switch k {
	case Append, Revoke, Assign, Withdraw, Save, Amend:
		return true
	}
	return false
}

// entries holds every replica to itself and to the first one.
func (c *checking) entries() {
	c.places = map[string]map[uint64]uint64{}
	for _, r := range c.replicas {
		places, heads := map[uint64]uint64{}, map[string]uint64{}
		c.places[r.Box] = places
		for _, e := range r.Entries {
			if at, ok := places[e.Record]; ok {
				c.add(Doubled, "%s holds record %x at %d and at %d", r.Box, e.Record, at, e.Seq)
			}
			places[e.Record] = e.Seq
			if e.Feed != "" && e.N <= heads[e.Feed] && e.N > 0 {
				c.add(Reordered, "%s holds n %d of feed %s at %d, after n %d", r.Box, e.N, e.Feed, e.Seq, heads[e.Feed])
			}
			heads[e.Feed] = e.N
		}
		if first := c.replicas[0]; r.Size == first.Size && r.Root != first.Root || r.Size != first.Size {
			c.add(Diverged, "%s ends at size %d with root %.12s, %s at %d with %.12s", first.Box, first.Size, first.Root, r.Box, r.Size, r.Root)
		}
	}
}

// acknowledged holds every replica to what clients were told.
func (c *checking) acknowledged() {
	for _, r := range c.replicas {
		for _, op := range c.ops {
			if !op.Kind.writes() || op.Return == 0 {
				continue
			}
			seq, ok := c.places[r.Box][op.Record]
			switch {
			case !ok:
				c.add(Lost, "%s does not hold record %x, acknowledged by %s", r.Box, op.Record, op.Box)
			case op.Seq != 0 && seq != op.Seq:
				c.add(Diverged, "%s holds record %x at %d, acknowledged by %s at %d", r.Box, op.Record, seq, op.Box, op.Seq)
			}
		}
	}
}

// order: what was answered with a place before another was asked for comes before it.
func (c *checking) order() {
	type answered struct {
		at  uint64 // event
		seq uint64
	}
	var done []answered
	for _, op := range c.ops {
		if op.Kind.writes() && op.Return != 0 && op.Seq != 0 {
			done = append(done, answered{op.Return, op.Seq})
		}
	}
	slices.SortFunc(done, func(a, b answered) int { return cmp.Compare(a.at, b.at) })
	i, highest := 0, uint64(0)
	for _, op := range c.ops { // by Call
		for ; i < len(done) && done[i].at < op.Call; i++ {
			highest = max(highest, done[i].seq)
		}
		if op.Kind.writes() && op.Seq != 0 && op.Seq < highest {
			c.add(Reordered, "record %x was asked for after place %d was answered, and has place %d", op.Record, highest, op.Seq)
		}
	}
}

// bases: an amendment comes after what it amends.
func (c *checking) bases() {
	for _, r := range c.replicas {
		for _, op := range c.ops {
			if op.Kind != Amend || op.Return == 0 {
				continue
			}
			base, ok := c.places[r.Box][op.Base]
			if seq, both := c.places[r.Box][op.Record]; ok && both && seq < base {
				c.add(Reordered, "%s holds the amendment %x at %d, before what it amends at %d", r.Box, op.Record, seq, base)
			}
		}
	}
}

// forms: one form is one record.
func (c *checking) forms() {
	records := map[string]uint64{}
	for _, op := range c.ops {
		if op.Form == "" || op.Return == 0 {
			continue
		}
		if first, ok := records[op.Form]; ok && first != op.Record {
			c.add(Doubled, "%s saved one form as record %x and as %x", op.Box, first, op.Record)
		}
		records[op.Form] = op.Record
	}
}

// shown: what a page called confirmed is on every replica at that place, and was under
// the checkpoint that the box said it had verified right after.
func (c *checking) shown() {
	for _, op := range c.ops {
		if op.Kind != Read || op.Return == 0 {
			continue
		}
		for _, s := range op.Seen {
			if !s.Confirmed {
				continue
			}
			for _, r := range c.replicas {
				seq, ok := c.places[r.Box][s.Record]
				switch {
				case !ok || s.Seq != 0 && seq != s.Seq:
					c.add(Stale, "%s showed record %x as confirmed at %d; %s has it at %d (%v)", op.Box, s.Record, s.Seq, r.Box, seq, ok)
				case op.Size > 0 && seq >= op.Confirmed:
					c.add(Stale, "%s showed record %x as confirmed, which has place %d, under a checkpoint of %d", op.Box, s.Record, seq, op.Confirmed)
				}
			}
		}
	}
}

// sessions: a box that said something is there goes on showing it, and its ledger
// never becomes shorter.
func (c *checking) sessions() {
	for i := range c.ops {
		op := &c.ops[i]
		if op.Return == 0 || op.Kind != Read && op.Kind != Ledger && op.Kind != Head {
			continue
		}
		for j := range c.ops[:i] {
			before := &c.ops[j]
			if before.Box == op.Box && before.Return != 0 && before.Return < op.Call {
				c.session(before, op)
			}
		}
	}
}

// session holds a later answer of a box to an earlier one.
func (c *checking) session(before, op *Op) {
	switch {
	case op.Kind == Ledger && before.Kind.writes() && op.Next <= before.Seq:
		c.add(Stale, "%s showed a ledger up to %d after it had answered with place %d", op.Box, op.Next, before.Seq)
	case op.Kind == Ledger && before.Kind == Ledger && op.Next < before.Next:
		c.add(Stale, "%s showed a ledger up to %d after one up to %d", op.Box, op.Next, before.Next)
	case op.Kind == Head && before.Kind == Head && (op.Size < before.Size && !c.endedBetween(before, op) || op.Confirmed < before.Confirmed):
		c.add(Stale, "%s was at size %d, confirmed %d, after %d and %d", op.Box, op.Size, op.Confirmed, before.Size, before.Confirmed)
	case op.Kind == Read && before.Kind == Read && op.Client == before.Client:
		c.stillSeen(before, op)
	case op.Kind == Read && (before.Kind == Save || before.Kind == Amend) && op.Device == before.Device:
		if !op.shows(before.Record) && !c.amended(before.Record, op) {
			c.add(Stale, "%s does not show record %x, which it had called saved", op.Box, before.Record)
		}
	}
}

// endedBetween tells whether the box's process was killed between two answers: what it
// had ordered and not yet flushed comes back through the others.
func (c *checking) endedBetween(before, op *Op) bool {
	return slices.ContainsFunc(c.ops, func(x Op) bool {
		return x.Kind == Ended && x.Box == op.Box && x.Call > before.Call && x.Call < op.Return
	})
}

// stillSeen: confirmed stays confirmed.
func (c *checking) stillSeen(before, op *Op) {
	for _, s := range before.Seen {
		if !s.Confirmed {
			continue
		}
		if !slices.ContainsFunc(op.Seen, func(x Seen) bool { return x.Record == s.Record && x.Confirmed }) && !c.amended(s.Record, op) {
			c.add(Stale, "%s showed record %x as confirmed, and later not", op.Box, s.Record)
		}
	}
}

// amended tells whether a newer version may stand in a record's place on a page.
func (c *checking) amended(record uint64, op *Op) bool {
	return slices.ContainsFunc(c.ops, func(x Op) bool { return x.Kind == Amend && x.Base == record && x.Call < op.Return })
}

func (op *Op) shows(record uint64) bool {
	return slices.ContainsFunc(op.Seen, func(s Seen) bool { return s.Record == record })
}

// heads: one size has one root, whoever showed it.
func (c *checking) heads() {
	roots := map[uint64]*Op{}
	for i := range c.ops {
		op := &c.ops[i]
		if op.Root == "" {
			continue
		}
		if first := roots[op.Size]; first == nil {
			roots[op.Size] = op
		} else if first.Root != op.Root {
			c.add(Diverged, "at size %d %s had root %.12s, %s %.12s", op.Size, first.Box, first.Root, op.Box, op.Root)
		}
	}
	for _, r := range c.replicas {
		if op := roots[r.Size]; op != nil && op.Root != r.Root {
			c.add(Diverged, "at size %d %s had root %.12s, %s has %.12s", r.Size, op.Box, op.Root, r.Box, r.Root)
		}
	}
}

// Words joins findings for people.
func Words(found []Finding) string {
	var lines []string
	for _, f := range found {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}
