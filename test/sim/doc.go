// Package sim runs a region of many boxes from one seed: real records, real
// replicas, real sync sessions, on a virtual clock, and checks as it goes what
// must hold.
//
// # What is real and what is modelled
//
//	record, seal, chart   as shipped
//	store                 as shipped, in a directory of its own; the journal lies on a disk in memory that
//	                      forgets what was not synced, the index on the real one
//	sync                  the shipped Session, stepped by the simulator: Handle, Next, Bye
//	links                 modelled: bytes arrive in order, late, at a rate, and a cut ends both ways anywhere;
//	                      what a liar says is changed on its way
//	ordering              modelled: one agreed list of items, as raft gives it. A hub that reaches a majority
//	                      leads and adds to it; every hub applies it with store.Order at its own pace and,
//	                      after a restart, from an earlier index again. Elections, terms and snapshots of
//	                      the real log are package raftlog's own tests; it cannot repeat bit for bit
//	cosigning             modelled after package node, over the store's PutSigned and PutFinal
//	evidence, receipts    made, verified and carried by packages record and sync; what a box keeps of them and
//	                      does about them is modelled after package node
//	hubs that lie         modelled: a ledger in memory that takes any entries, under real signatures, behind the
//	                      shipped Session
//	keys                  every box can read every compartment; wraps are package node's own tests
//
// # One seed
//
// A seed draws the plan (how many boxes, links, faults, clocks), and every later
// choice comes from the same generator in the order of one event heap. Nothing
// reads a clock or a map's order, and every write of a store has ended before
// the next event, so a seed repeats to the same hash over its trace.
//
// # Scenarios
//
//	Region   everything a little; peers whose bytes are changed on the way
//	Cards    cards copied, put back and put into other boards, of clinics and of hubs; nobody lies, so nobody may be blamed
//	Hubs     one, two or three of three hubs lie: two views, an omission, an old view for some, and at single contacts
//	         entries left out, reordered, repeated, forged, dated back, roots, histories, other ledgers, false evidence
//	Twice    a clinic that signs two records for one place, and runs behind them
//	Bulk     imports of hundreds of records in one transaction
//	Big      hundreds of clinics for a month, run by hand and at night
//	Parcels  clinics that are reached by sticks alone, which get lost, damaged, cut short, reordered, and read twice
//	Erase    charts and records that are erased while boxes are away, behind, or come back with an old card
//	Partial  replicas that hold a part of the ledger, others that take its newest entries first, profiles that change
//
// Hubs goes in turns of hours, with exchanges that run to their end at once; the
// others go by events.
//
// # Phases
//
// In the safety phase boxes save and amend, links come and go, boxes lose power
// between two writes or within one, start again as another epoch, come back with
// an older card, hubs fall behind, clocks jump and peers lie. In the liveness
// phase everything is healed and all boxes must agree within a bounded time.
//
// # Invariants
//
// Each is a constant of this package, named by what it says; see Violation. A
// failed seed is kept in testdata/seeds.txt and runs every time.
//
// # Shrinking
//
// A run that fails is made smaller as long as the same invariant breaks: classes of
// events are left out, boxes, patients, saves and seconds become fewer. With less in
// it a seed draws another run, so a few seeds are tried each time. What comes out is a
// line for testdata/seeds.txt, such as "cards 5 clinics=1 no-cuts", and what happens in
// that run as a script.
//
// Hooks break one part of the simulator's own glue, so that tests can show that
// the invariants see it.
package sim
