// Package store is the replica of one box on disk: feeds, entries, the tree,
// pending records, indexes, acknowledgements, checkpoints and the rows that
// others compute. One exported write is one transaction, durable when the call
// returns, or nothing.
//
// # Layout
//
//	LOCK      held while the store is open
//	FORMAT    format version and memtable size of the index
//	ballast   space that Open releases first, so that a full disk can be opened
//	journal/  the commit point: see package journal
//	index/    Badger, never synced by itself except at checkpoints
//
// # What is durable when
//
// Every write goes through one journal frame, shared by all who wait at that
// moment, and is acknowledged after that frame's fdatasync. The index gets it
// afterwards. Where a process or the machine stops:
//
//	while a transaction is built   nothing happened, nobody was told
//	while its frame is written     a torn tail that Open drops, nobody was told
//	after the frame is durable     Open replays the frame into the index
//	after the index has it         the same: frames since the last checkpoint are replayed, rows are absolute
//	while a checkpoint is made     the previous checkpoint counts
//
// A reader sees a transaction only after its frame is durable. Order is the one
// exception: what it computes from the raft log, which is durable before, is
// readable at once and joins the next frame.
//
// The first write or sync that fails poisons the store: ErrFault for everything
// that waits and everything later. Nothing is tried again, because after a failed
// sync the kernel may report success for data that it dropped.
//
// # Rows
//
// Integers are big-endian of 8 bytes. Every row ends in the first 8 bytes of
// SHA-256 over key length, key and value, so a row that the index mixes up is an
// error and never a wrong value.
//
//	e seq                      leaf: time, previous seq, core, signature
//	b seq                      body of an entry
//	f epoch lane n             seq of the entry of a position
//	i rid[:16]                 where a record is: entry or pending position
//	p epoch lane n             pending record: arrival, header, body (n 0 of lane 0: opening record)
//	h epoch lane               feed: ordered head, held head, lowest n refused
//	w epoch lane               feed holds something pending
//	g epoch                    epoch: device, rid of the opening record, its seq
//	d device                   member
//	n key                      registry row of the ordering rules
//	s compartment seq          entries of a compartment
//	u compartment position     pending records of a compartment
//	l compartment              seq+1 of its last entry
//	t level index              full tile of 256 hashes
//	y epoch lane device        n up to which a peer holds the feed
//	z rid                      refusal
//	a number                   arrival
//	m name                     journal frame, ledger end, clock, region, checkpoints, last own epoch
//	x key                      projection row
//	k name 0 key               raft row
package store
