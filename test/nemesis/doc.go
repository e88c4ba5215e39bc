// Package nemesis disturbs boxes by a seeded schedule while clients use them, takes
// down what the clients saw, and judges it afterwards.
//
// A Schedule draws from a seed how the network among some boxes is cut, step by step,
// and healed again. A rig carries the steps out: in virtual time among the hubs of
// package raftlog (its partition tests), and on real processes (the tests of this
// package). Meanwhile clients record a History: who asked whom for what, what
// happened before what, and what the answer was.
//
// Two judges read a history. Check compares it with what every replica holds in the
// end: nothing acknowledged is lost, doubled or out of order, nothing was shown that
// was not so, and no two replicas differ. Linearizable looks for one order of all
// operations that explains every answer: of appends, revocations and assignments,
// each of which takes effect once, at its place in the ledger, between question and
// answer. What a box shows without asking the others may be old; it must be the
// ledger as it was at some size, with the grants as they were at that size.
package nemesis
