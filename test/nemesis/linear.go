package nemesis

import (
	"cmp"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// state is the ledger as far as the model knows it: its tracked records in order, and
// what they grant.
type state struct {
	next, chain       uint64
	revoked, assigned uint64 // devices, one bit each
}

// after is the state with one more record, if that is its place.
func (s state) after(op *Op) (state, bool) {
	if op.Seq < s.next {
		return s, false
	}
	return state{op.Seq + 1, Link(s.chain, op.Seq, op.Record), s.revoked, s.assigned}, true
}

// step is one operation taking effect: whether its answer is the one that this state
// gives, and the state then.
func step(s state, op *Op) (bool, state) {
	bit := uint64(1) << op.Device
	switch op.Kind {
	case Denied:
		return s.revoked&bit != 0, s
	case Ledger, Final:
		return s == state{op.Next, op.Chain, op.Revoked, op.Assigned}, s
	}
	n, ok := s.after(op)
	if !ok || op.Chain != 0 && op.Chain != n.chain {
		return false, s
	}
	switch op.Kind {
	case Append:
		return s.revoked&bit == 0, n
	case Revoke:
		n.revoked |= bit
	case Assign:
		n.assigned |= bit
	case Withdraw:
		n.assigned &^= bit
	}
	return true, n
}

var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, _ any) (bool, any) {
		ok, n := step(s.(state), in.(*Op))
		return ok, n
	},
	Equal: func(a, b any) bool { return a.(state) == b.(state) },
}

// modelled tells the operations that the model knows.
func (k Kind) modelled() bool {
	switch k {
	case Append, Revoke, Assign, Withdraw, Denied, Ledger, Final:
		return true
	}
	return false
}

// Linearizable looks for one order of the appends, grants and readings of a history
// that explains every answer. Appends and grants take effect between question and
// answer, and see every record before them; so does a Final reading. A Ledger reading
// is of some moment before its answer. An operation without an answer counts only if
// its Seq says that it happened in the end.
func Linearizable(ops []Op, limit time.Duration) porcupine.CheckResult {
	var list []porcupine.Operation
	var last uint64
	var writes []*Op // those with a place, by place
	for i := range ops {
		op := &ops[i]
		last = max(last, op.Call, op.Return)
		if op.Kind.modelled() && op.Kind.writes() && op.Seq != 0 {
			writes = append(writes, op)
		}
	}
	slices.SortStableFunc(writes, func(a, b *Op) int { return cmp.Compare(a.Seq, b.Seq) })
	var readings []porcupine.Operation
	for i := range ops {
		op := &ops[i]
		if !op.Kind.modelled() || op.Return == 0 && op.Seq == 0 {
			continue
		}
		x := porcupine.Operation{ClientId: op.Client, Input: op, Call: int64(op.Call), Output: op, Return: int64(op.Return)}
		if op.Return == 0 {
			x.Return = int64(last) + 1
		}
		if op.Kind == Ledger {
			x.Call, x.Return = moments(op, writes)
			readings = append(readings, x)
			continue
		}
		list = append(list, x)
	}
	return porcupine.CheckOperationsTimeout(model, append(list, merged(readings)...), limit)
}

// merged makes one of readings that gave the same answer and overlap: the ledger had
// that state for one stretch of time, so what meets it and each other meets in it. The
// search would find the same without it, in far more time.
func merged(readings []porcupine.Operation) []porcupine.Operation {
	answer := func(x porcupine.Operation) state {
		op := x.Input.(*Op)
		return state{op.Next, op.Chain, op.Revoked, op.Assigned}
	}
	slices.SortFunc(readings, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	last := map[state]int{} // place in the result
	var out []porcupine.Operation
	for _, x := range readings {
		i, ok := last[answer(x)]
		if !ok || x.Call > out[i].Return {
			last[answer(x)] = len(out)
			out = append(out, x)
			continue
		}
		out[i].Call, out[i].Return = x.Call, min(out[i].Return, x.Return)
	}
	return out
}

// moments narrows when a reading of a box's own ledger can have been true: not before
// the last record in it was handed in, and not after the next one was answered. The
// search would find the same without it, in far more time.
func moments(op *Op, writes []*Op) (from, to int64) {
	from, to = 0, int64(op.Return)
	next, _ := slices.BinarySearchFunc(writes, op.Next, func(w *Op, seq uint64) int { return cmp.Compare(w.Seq, seq) })
	if next > 0 && writes[next-1].Call < op.Return {
		from = int64(writes[next-1].Call)
	}
	if next < len(writes) && writes[next].Return != 0 {
		to = max(from, min(to, int64(writes[next].Return)))
	}
	return from, to
}
