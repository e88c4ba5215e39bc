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
//	m g                   generation of the ledger that the raft state is for, 8 bytes; without it 1
//	m p                   pledges of other servers: [1, [[server, voted, term, index, item term], ...]]
//	m x                   a renewal of the raft state under way, see renewal
//	m j                   this server waits to be taken in by the others and never bootstraps
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
// # Disks that go back in time
//
// A disk put back from a backup or a machine's snapshot has forgotten votes and
// acknowledgements that others rely on. No disk can know that of itself, so the
// hubs remember it for each other. What a hub pledges passes through the link of
// the hub that it pledges to, which takes it down (tap, pledges): that it voted
// in a term, and that its disk holds a leader's log up to an index. Hubs tell
// each other what they took down while anything new is pledged (share).
//
// Before raft runs, a hub with raft state asks every hub that its disk or its
// ledger names (inquiry). If one remembers more than the disk does, the raft
// state is given up: a new incarnation, an empty log, and a place as a nonvoter
// until it caught up. The ledger stays. A hub that is silent is waited for as long
// as Profile.RestoreWait says; then the answers of a majority are enough, so one
// dead hub holds up no restart. Hubs that ask also answer, so all may start at
// once. A region of one asks nobody.
//
// What stays possible: a hub pledges something to a hub that dies before it told
// the others (Profile.Share), and comes back from an older image while that hub
// is still dead. Votes are safe even then, because a hub that could not ask
// everybody and finds no leader starts in a much later term; an item that only
// those two held may be lost to the region, while its author still has it
// pending until a majority cosigned it.
//
// Of two voters one alone cannot change the configuration when the other gave up
// its name. It holds everything that the two ever ordered, so it goes on alone
// and takes the other in again (widowed).
//
// # Lost majority
//
// Reset makes one hub the only voter, under a new name, with the ledger as it is
// on its disk. Its raft indexes begin at the generation of the ledger times 2^40,
// above everything that a hub of an older generation has applied. Nothing pending
// is ordered before the ledger reaches that generation, because the statement of
// the reset names the size at which it stands. A hub whose ledger learns of a
// generation later than its raft state gives the raft state up.
//
// # Streams
//
// /healthpost/raft/1 carries two kinds of stream between hubs, told apart by
// the first byte:
//
//	1 length(1) server id   raft calls meant for that server id, until closed
//	3                       a question; the answer is a testimony, then the stream ends
//
//	testimony = [1, server id, ready, generation, applied, term, led, index of the configuration,
//	             server id that it has for who asks, [[server, voted, term, index, item term], ...]]
package raftlog
