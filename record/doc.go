// Package record holds the words of the ledger and the rules about them: ids,
// records, entries, frontiers, checkpoints, and every verification. It is pure:
// no I/O, no clock, no goroutine, no map iteration that reaches an output.
//
// # Bytes
//
// A record is a core, a signature and a sealed body. The core is a positional
// array in deterministic CBOR (RFC 8949 section 4.2.1):
//
//	core = [v, epoch, lane, n, prev, hlc, clock, kind, session, size, compartment, bodyLen, bodyHash (, ext)]
//	rid  = SHA-256("hp:rec:1\0" || core)
//	sig  = Ed25519(device, "hp:sig:1\0" || rid)
//
// An entry is a record with its place in the ledger:
//
//	leaf     = [time, prevSeq, core, sig]
//	leafHash = SHA-256(0x00 || leaf)         RFC 6962 section 2.1
//
// A batch is what the hubs agree on: [1, leaderMillis, [[core, sig, body], ...]].
// A record of a kind below KindSealed may change members and registry rows:
// rules.go says how, proposal.go how hubs vote. Receipt, Evidence and Reset describe
// what is signed besides records; compact.go the short form of a checkpoint.
//
// wire.go describes the short form that crosses a link: whatever the receiver
// can compute again (epoch, lane, n, prev, body hash) is left out.
//
// A decoder accepts only bytes that encode back to themselves.
package record
