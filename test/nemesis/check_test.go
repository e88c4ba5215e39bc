package nemesis_test

import (
	"testing"

	"github.com/healthpost/healthpost/test/nemesis"
)

// sound is a history without faults: two saves, one amended, read on the page, and
// what two boxes hold in the end. Records are named 1 to 3, at places 10 to 12.
func sound() ([]nemesis.Op, []nemesis.Replica) {
	ops := []nemesis.Op{
		{Client: 1, Box: "a", Kind: nemesis.Save, Device: 1, Form: "f1", Record: 1, Call: 1, Return: 2},
		{Client: 1, Box: "a", Kind: nemesis.Save, Device: 1, Form: "f2", Record: 2, Call: 3, Return: 4},
		{Client: 1, Box: "a", Kind: nemesis.Amend, Device: 1, Form: "f3", Record: 3, Base: 2, Call: 5, Return: 6},
		{Client: 1, Box: "a", Kind: nemesis.Read, Device: 1, Call: 7, Return: 8, Size: 12, Confirmed: 11, Seen: []nemesis.Seen{{Record: 1, Confirmed: true}, {Record: 3}}},
		{Client: 2, Box: "a", Kind: nemesis.Head, Call: 9, Return: 10, Size: 12, Root: "r12", Confirmed: 11},
		{Client: 1, Box: "a", Kind: nemesis.Read, Device: 1, Call: 11, Return: 12, Size: 13, Confirmed: 13, Seen: []nemesis.Seen{{Record: 1, Confirmed: true}, {Record: 3, Confirmed: true}}},
		{Client: 2, Box: "a", Kind: nemesis.Head, Call: 13, Return: 14, Size: 13, Root: "r13", Confirmed: 13},
		{Client: 2, Box: "b", Kind: nemesis.Head, Call: 15, Return: 16, Size: 12, Root: "r12", Confirmed: 12},
		{Client: 3, Box: "b", Kind: nemesis.Append, Device: 2, Record: 4, Seq: 8, Call: 17, Return: 18},
		{Client: 3, Box: "b", Kind: nemesis.Append, Device: 2, Record: 5, Seq: 9, Call: 19, Return: 20},
	}
	entries := []nemesis.Placed{{Seq: 8, Record: 4, Feed: "y", N: 1}, {Seq: 9, Record: 5, Feed: "y", N: 2},
		{Seq: 10, Record: 1, Feed: "x", N: 1}, {Seq: 11, Record: 2, Feed: "x", N: 2}, {Seq: 12, Record: 3, Feed: "x", N: 3}}
	var replicas []nemesis.Replica
	for _, box := range []string{"a", "b"} {
		replicas = append(replicas, nemesis.Replica{Box: box, Size: 13, Root: "r13", Entries: append([]nemesis.Placed(nil), entries...)})
	}
	return ops, replicas
}

func TestCheckOfASoundHistory(t *testing.T) {
	if found := nemesis.Check(sound()); len(found) > 0 {
		t.Errorf("found:\n%s", nemesis.Words(found))
	}
}

// TestCheckFinds plants each fault in a sound history.
func TestCheckFinds(t *testing.T) {
	for _, c := range []struct {
		name  string
		want  nemesis.Fault
		plant func(ops []nemesis.Op, r []nemesis.Replica)
	}{
		{"an acknowledged record is nowhere", nemesis.Lost, func(_ []nemesis.Op, r []nemesis.Replica) {
			r[0].Entries, r[1].Entries = r[0].Entries[:4], r[1].Entries[:4]
		}},
		{"an acknowledged record is not on one replica", nemesis.Lost, func(_ []nemesis.Op, r []nemesis.Replica) { r[1].Entries[3].Record = 99 }},
		{"one record at two places", nemesis.Doubled, func(_ []nemesis.Op, r []nemesis.Replica) {
			r[1].Entries = append(r[1].Entries, nemesis.Placed{Seq: 13, Record: 1, Feed: "z", N: 1})
		}},
		{"one form saved twice", nemesis.Doubled, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[1].Form = "f1" }},
		{"a feed out of order", nemesis.Reordered, func(_ []nemesis.Op, r []nemesis.Replica) {
			r[1].Entries[2].N, r[1].Entries[3].N = 2, 1
		}},
		{"an amendment before its base", nemesis.Reordered, func(_ []nemesis.Op, r []nemesis.Replica) {
			e := r[1].Entries
			e[3].Record, e[4].Record = e[4].Record, e[3].Record
		}},
		{"asked for later, placed earlier", nemesis.Reordered, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[8].Seq, ops[9].Seq = 9, 8 }},
		{"another place than was answered", nemesis.Diverged, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[9].Seq = 20 }},
		{"confirmed and nowhere", nemesis.Stale, func(ops []nemesis.Op, _ []nemesis.Replica) {
			ops[3].Seen[1] = nemesis.Seen{Record: 77, Confirmed: true}
		}},
		{"confirmed under no final checkpoint", nemesis.Stale, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[3].Confirmed = 10 }},
		{"saved and not shown", nemesis.Stale, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[5].Seen = ops[5].Seen[1:] }},
		{"confirmed and later not", nemesis.Stale, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[5].Seen[0].Confirmed = false }},
		{"a ledger that becomes shorter", nemesis.Stale, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[6].Size, ops[6].Root = 11, "" }},
		{"a checkpoint that is forgotten", nemesis.Stale, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[6].Confirmed = 9 }},
		{"another root at one size", nemesis.Diverged, func(ops []nemesis.Op, _ []nemesis.Replica) { ops[7].Root = "other" }},
		{"another root in the end", nemesis.Diverged, func(_ []nemesis.Op, r []nemesis.Replica) { r[1].Root = "other" }},
		{"another size in the end", nemesis.Diverged, func(_ []nemesis.Op, r []nemesis.Replica) { r[1].Size = 12 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ops, replicas := sound()
			c.plant(ops, replicas)
			found := nemesis.Check(ops, replicas)
			for _, f := range found {
				if f.Fault == c.want {
					return
				}
			}
			t.Errorf("found %v, want %s", found, c.want)
		})
	}
}
