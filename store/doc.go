// Package store is the replica of one box on disk: feeds, entries, the tree,
// pending records, indexes, acknowledgements, checkpoints and the rows that
// others compute. One exported write is one transaction, durable when the call
// returns, or nothing.
//
// # Layout
//
//	LOCK      held while the store is open
//	FORMAT    format version and memtable size of the index
//	RULES     by which ordering rules members and registry were computed, and how far
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
//	m name                     journal frame, ledger end, clock, region, checkpoints, last own epoch, counts, floor, scoured
//	x key                      projection row
//	o seq                      hole from an entry on: its end, hashes of its subtrees
//	O epoch lane n             record whose place is in a hole and that is held by itself
//	v seq                      entry that came without its body
//	q compartment seq          entry in a hole that a later one of its compartment names
//	k name 0 key               raft row
//	c id part                  part of an attachment (blob.go)
//	C kind ...                 state and lists of attachments (blob.go)
//
// Rows of the kinds k, x, y, z and some of m follow from no record. The row of
// counts holds their number and the exclusive or of their hashes, and moves in the
// same transaction.
//
// # Holes
//
// A partial replica holds some entries, and of each run between them the hashes of
// the fewest perfect subtrees: ExtendSpan appends such spans, Fill puts entries into
// holes, SpanFor serves them. A tile row then leaves out hashes that are not known.
// What lies in a hole is ErrHole, never damage. Where there are no holes nothing is
// different; the last Fill makes a replica full.
//
// # What is kept of a record that has no place
//
// A record is deleted by Release alone, where it is confirmed and no business of
// this box. One that loses its place to another of the same
// author, what was pending behind it, and what comes later and was really signed
// for a taken place, a lost branch or a frozen feed, is kept as a refusal with its
// body: the last kind up to 1,000 records and 16 MiB of one author. It leaves the
// refusals when it is ordered after all.
//
// # Damage
//
// Verify reads everything and names what fails: the entry or the range of entries,
// the author, the ledger time. Entries and their index rows never change, so they
// are read under one short snapshot after another; what changes is read under one.
// What it finds is mended in this order:
//
//	Repair     entries given again by a peer, each proven by the tree held here
//	DropStray  rows that can be computed: indexes, heads, members, tiles; and rows
//	           that no record accounts for
//	Rebuild    a store that does not open, or whose tables are damaged: a new one is
//	           made of what is sound
//
// Open notices that the newest entries were taken away, because the checkpoint of
// the journal notes the ledger's size and root. A store set back as a whole, card
// and all, is found by the next exchange with anybody.
//
// With Options.Salvage a damaged store opens for reading: on a copy of the index in
// the folder salvage/, where sound tables are links and of others the rows of every
// block that can be taken apart are gathered. Nothing of the damaged store is
// written to.
package store
