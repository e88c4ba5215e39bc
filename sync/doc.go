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
//	10 CHECKPOINT  a C2SP signed note
//	11 PULL        [from, to, flags]     flags 1 follow, 2 send all, 4 stop
//	12 SEGMENT     count(1) (reference(1) | 0xff hash(32))* segment of package record
//	20 PENDING     run of package record
//	30 ACK         [credit, size, [[epoch, lane, n, state]...]]
//	32 REJECT      [[[rid, epoch, lane, n, verdict]...]]
//	7f BYE         [code, reason]
//
// Flag 1 marks a frame that a receiver must understand or end the session; it
// skips other types that it does not know. PENDING and SEGMENT are bulk: a sender
// stops when as many of their bytes as the window are not yet acknowledged, so an
// urgent record waits behind one window at most; the window follows the link's
// pace between 8 KiB and the smaller of both ends' limits.
//
// A segment starts where the receiver's ledger ends. Its proof leads from its
// last entry to the checkpoint (RFC 6962 section 2.1.2); a hash that the segment
// before it carried is a one-byte reference. The receiver appends it in one
// transaction, so that nothing unverified is ever stored.
//
// # Trust
//
// A peer is a member or it is not connected, and it is verified all the same.
// Frames, queues, feeds and rejections of one peer are bounded whatever it sends.
// What breaks a rule ends the session with ErrMisbehaved and changes nothing.
package peersync
