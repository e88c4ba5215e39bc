// Package node is the running box: it opens, wires, supervises and closes
// everything else, and holds the use cases that staff and operators ask for.
//
// # A box on disk
//
//	DATA/box.toml      what this box is: role, name, region
//	DATA/keys          its keys, readable by its owner alone (package seal)
//	DATA/db/           the replica (package store)
//	DATA/raft/         snapshots by reference, on boxes that order
//	DATA/control.sock  where commands reach a running box
//
// # Who starts what
//
// Open takes a box from disk; Run starts, in this order: the host, ordering (on
// boxes that order), the exchange with peers, the projector, the page and the
// control socket. Each is a goroutine that Run waits for; the first one that
// ends with an error ends the box. A fault of the disk is such an error: the
// box says so and stops, because it could only guess from there on.
//
// # What others signed
//
// A box believes nobody's word about the ledger. Sessions bring evidence
// (evidence.go), receipts (receipts.go), refusals (doubts.go) and the statements that
// lead over changes of the hubs (handover.go); the ledger brings attestations
// (attest.go) and the process starts of every box (restored.go). The watch (watch.go)
// holds them against what this box has, writes again what lost its place
// (epochs.go), and tells staff (notices.go). What it decides is on disk before anything
// follows from it.
package node
