// Package peersync keeps boxes of a region in agreement: one symmetric protocol
// between two peers over any stream, and the libp2p host that finds and connects
// them. It lies in the folder sync under a name of its own so that nobody has to
// rename the standard library's.
//
// # Exchange
//
// Each side sends HELLO: who it is, its ledger size and root, its newest final
// checkpoint, and how far it holds the feeds that have something pending. From
// then on each side sends whatever the other lacks, at once and for as long as
// the stream lives: pending records (opening records first, then lane by lane),
// and ordered entries up to a checkpoint that the receiver verified. What arrives
// is verified and durable before it is acknowledged; a cut costs what was not
// acknowledged. A box that met the peer before sends its own newest records before
// the peer's HELLO is back, so that an exchange takes one round trip.
//
// # Wire
//
// A frame is type(1) flags(1) uvarint(length) payload. Payloads are positional
// arrays in deterministic CBOR, except those marked:
//
//	01 HELLO       [min, max, region, device, role, software, window, size, root, note, want, [[epoch, opening, [4 n]]...]]
//	10 CHECKPOINT  a note: C2SP text, or record.CompactNote    frame flags 2 answer, 4 no entries come
//	11 PULL        [from, to, flags]     flags 1 follow, 2 send all, 4 stop, 8 hand over (to: as of when the hubs are known), 16 whole
//	12 SEGMENT     count(1) (reference(1) | 0xff hash(32))* segment of package record
//	13 ENTRIES     uvarint start, uvarint count, (uvarint length, leaf, (0 | uvarint length+1, body))*
//	20 PENDING     run of package record
//	30 ACK         [credit, size, [[epoch, lane, n, state]...]]
//	31 RECEIPT     [taken, by, [[epoch, lane, n]...], sig]
//	32 REJECT      [[[rid, epoch, lane, n, verdict]...]]
//	33 PROMISE     a hub's receipt, whole: somebody passes it on
//	34 EVIDENCE    [[id(8)...], [id(8)...], evidence]           held, wanted, one piece or none
//	35 RESET       the statement that reset the ledger
//	7f BYE         [code, reason]
//
// Protocol 2 added 13, 31, 34, 35, the short notes, and the flags above 4; a peer
// of protocol 1 gets none of them. HELLO's note may be short in any case: who
// cannot read it asks for nothing and gets the whole one.
//
// Flag 1 marks a frame that a receiver must understand or end the session; it
// skips other types that it does not know. PENDING, SEGMENT and ENTRIES are bulk: a sender
// stops when as many of their bytes as the window are not yet acknowledged, so an
// urgent record waits behind one window at most; the window follows the link's
// pace between 8 KiB and the smaller of both ends' limits.
//
// A segment starts where the receiver's ledger ends. Its proof leads from its
// last entry to the checkpoint (RFC 6962 section 2.1.2); a hash that the segment
// before it carried is a one-byte reference. The receiver appends it in one
// transaction, so that nothing unverified is ever stored.
//
// # Parcels
//
// A parcel is a session in one direction, in a file: parcel.go has the layout. Frames
// 50 PARCEL and 51 RANGE are of parcels alone. It is written by WriteParcel from what a
// session would say, and ReadParcel gives its frames to a Session that answers nothing.
//
// # Evidence
//
// Two ledgers contradict each other when they have another root at one size. The
// session then carries evidence and pending records, no entries: nothing that
// staff wrote waits because hubs lie. Where both sides hold final checkpoints the
// longer side makes a proof of it. Known pieces are named before anything else,
// by the first eight bytes of their SHA-256, and sent when asked for.
//
// A hub promises what it took durably from others: RECEIPT names the last record
// of each feed; which record that is, the receiver knows.
//
// A checkpoint by hubs that the reader's ledger does not name yet is nothing to
// it. It asks to be handed over (PULL 8, once for each size of its ledger) and
// gets a CHECKPOINT that both sets signed, with the entries up to it, or the RESET
// that its recovery keys signed.
//
// # Trust
//
// A peer is a member or it is not connected, and it is verified all the same.
// Frames, queues, feeds and rejections of one peer are bounded whatever it sends.
// What breaks a rule ends the session with ErrMisbehaved and changes nothing.
package peersync
