package nemesis_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/healthpost/healthpost/test/nemesis"
	"github.com/healthpost/healthpost/test/rig"
)

// drawn is a made-up history of a ledger that is right: clients append, revoke, assign
// and read, several at a time.
func drawn(rng *rand.Rand, count int) []nemesis.Op {
	const clients, devices = 12, 6
	var ops []nemesis.Op
	var next, chain, revoked, assigned, event uint64
	type open struct {
		op   nemesis.Op
		done bool // it has taken effect
	}
	var under []*open
	effect := func(o *open) {
		o.done = true
		op := &o.op
		bit := uint64(1) << op.Device
		if op.Kind == nemesis.Ledger {
			op.Next, op.Chain, op.Revoked, op.Assigned = next, chain, revoked, assigned
			return
		}
		if op.Kind == nemesis.Append && revoked&bit != 0 {
			op.Kind = nemesis.Denied
			return
		}
		op.Seq = next + uint64(rng.IntN(2)) // entries that nobody tracks lie between
		next, chain = op.Seq+1, nemesis.Link(chain, op.Seq, op.Record)
		op.Chain = chain
		switch op.Kind {
		case nemesis.Revoke:
			revoked |= bit
		case nemesis.Assign:
			assigned |= bit
		case nemesis.Withdraw:
			assigned &^= bit
		}
	}
	for len(ops) < count {
		if len(under) < clients && rng.IntN(2) == 0 {
			event++
			op := nemesis.Op{Client: len(under), Kind: nemesis.Append, Record: rng.Uint64(), Device: rng.IntN(devices), Call: event}
			switch n := rng.IntN(100); {
			case n == 0 && revoked == 0 || n == 0 && len(ops) > count/2:
				op.Kind = nemesis.Revoke
			case n < 20:
				op.Kind = nemesis.Assign
			case n < 30:
				op.Kind = nemesis.Withdraw
			case n < 60:
				op.Kind = nemesis.Ledger
			}
			under = append(under, &open{op: op})
			continue
		}
		if len(under) == 0 {
			continue
		}
		i := rng.IntN(len(under))
		if !under[i].done {
			effect(under[i])
		} else {
			event++
			under[i].op.Return = event
			ops = append(ops, under[i].op)
			under = append(under[:i], under[i+1:]...)
		}
	}
	for _, o := range under { // no answer; it happened or not
		if o.done && o.op.Kind != nemesis.Ledger && o.op.Kind != nemesis.Denied {
			ops = append(ops, o.op)
		}
	}
	event++
	return append(ops, nemesis.Op{Client: 99, Kind: nemesis.Final, Next: next, Chain: chain, Revoked: revoked, Assigned: assigned, Call: event, Return: event + 1})
}

const judgeMax = time.Minute

// TestLinearizable: a right history of 5,000 operations has an order; with one wrong
// answer in it there is none.
func TestLinearizable(t *testing.T) {
	rng := rig.NewRand(t)
	ops := drawn(rng, 5000)
	began := time.Now()
	if got := nemesis.Linearizable(ops, judgeMax); got != porcupine.Ok {
		t.Fatalf("a right history is %s", got)
	}
	t.Logf("%d operations judged in %v", len(ops), time.Since(began).Round(time.Millisecond))
	pick := func(kind nemesis.Kind, after int) *nemesis.Op {
		for i := after; ; i++ {
			if op := &ops[i%len(ops)]; op.Kind == kind && op.Return != 0 {
				return op
			}
		}
	}
	for _, c := range []struct {
		name  string
		plant func()
	}{
		{"a stale answer to an append", func() { *pick(nemesis.Append, 3000) = *stale(pick(nemesis.Append, 3000)) }},
		{"a stale reading at the end", func() {
			op := pick(nemesis.Final, 0)
			early := pick(nemesis.Ledger, 2500)
			op.Next, op.Chain = early.Next, early.Chain
		}},
		{"a reading of what never was", func() { pick(nemesis.Ledger, 2500).Chain++ }},
		{"a grant that is not seen", func() { pick(nemesis.Ledger, 2500).Assigned ^= 1 }},
		{"a revocation that is not seen", func() { pick(nemesis.Final, 0).Revoked ^= 1 << 2 }},
		{"an order after the revocation", func() {
			op := pick(nemesis.Denied, 0)
			op.Kind, op.Seq, op.Chain = nemesis.Append, pick(nemesis.Final, 0).Next, 0
		}},
		{"one place twice", func() { pick(nemesis.Append, 1000).Seq = pick(nemesis.Append, 1500).Seq }},
		{"a lost append", func() {
			op := pick(nemesis.Append, 1000)
			op.Kind, op.Device = nemesis.Denied, 60
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kept := append([]nemesis.Op(nil), ops...)
			defer func() { ops = kept }()
			ops = append([]nemesis.Op(nil), ops...)
			c.plant()
			if got := nemesis.Linearizable(ops, judgeMax); got != porcupine.Illegal {
				t.Errorf("it is %s, want %s", got, porcupine.Illegal)
			}
		})
	}
}

// stale gives an append the answer of somebody who did not see the one before it.
func stale(op *nemesis.Op) *nemesis.Op {
	s := *op
	s.Chain = nemesis.Link(0, s.Seq, s.Record)
	return &s
}
