// Package raftlog agrees on one order of records between the hubs of a region.
//
// It drives hashicorp/raft: a raft log item is an encoded record.Batch, and
// applying it is one call of Ledger.Order. The package keeps no ledger of its
// own; it decides which records come next, makes a majority of hubs hold them
// durably, and hands them to the ledger of every hub in the same order. A box
// alone runs the same code with one voter and no network.
//
// # What is guaranteed if the process dies
//
//	while a batch is collected     its records are still pending; nothing is lost
//	after StoreLogs returned       the item is on this disk; it is ordered if a majority has it
//	after Order returned           its effects are readable; their flush may be outstanding, and raft
//	                               replays the item, which Order knows by its index
//	after a snapshot was written   the ledger was durable before; older items may be dropped
//
// # Snapshots by reference
//
// A snapshot holds no records. It names a place in the raft log and the tree
// head that every hub has there; whoever receives one fetches the missing range
// with the sync code and checks it against that head:
//
//	snapshot = [1, region, index, term, size, root]
//
// A hub may hold more of the ledger than its raft position accounts for: it
// fetched past the snapshot, or was an ordinary replica before. It then follows
// the raft log without ordering anything until both meet (see position).
//
// # Rows
//
// Everything lives in one KV, big-endian, one letter first:
//
//	l index(8)            log item: [version, type, term, appendedAt, extensions, data], see encodeLog
//	v key                 raft's term and vote
//	s index(8) term(8)    snapshot with its raft configuration, the newest two
//	m i                   incarnation: 8 random bytes, made with the first raft state on this disk
//	m d                   the device whose raft state this is
//
// # Names of hubs
//
// A raft server id is eight characters of a hash over the device key and the
// incarnation. Raft is safe only while a server remembers its votes and what it
// acknowledged, so a hub whose disk was replaced must not answer to its old
// name: it has another incarnation, refuses streams meant for the old one, and
// the leader takes the old name out and the new one in as a nonvoter first. The
// address of a server is the libp2p peer id of its device key.
//
// # Streams
//
// /healthpost/raft/1 carries two kinds of stream between hubs, told apart by
// the first byte:
//
//	1 length(1) server id   raft calls meant for that server id, until closed
//	3                       a question; the answer is a testimony, then the stream ends
package raftlog
