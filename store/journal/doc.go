// Package journal is the commit point of the store: an append-only list of
// frames, each durable when Append returns, on disk as preallocated segments.
//
// # Layout
//
// A journal is a directory of segments, spare segments and one checkpoint file.
//
//	NNNNNNNNNNNNNNNN.seg    segment, named by its number in hexadecimal
//	NNNNNNNNNNNNNNNN.spare  a segment whose frames are no longer needed, to be used again
//	checkpoint              magic, sequence, note length, note, SHA-256 of all before
//
// A segment starts with one header page; frames follow, each on a page boundary
// of 4,096 bytes, so that a page that was acknowledged is never written again:
//
//	header = magic(8) version(4) 0(4) segment(8) base(8) nonce(8) sha256(32)
//	frame  = magic(4) 0(4) sequence(8) length(4) 0(4) nonce(8) sha256(32) payload
//
// The hash covers the header before it and the payload. The nonce is drawn for
// each use of a segment; a frame left over from an earlier use never counts.
// Sequences are contiguous over all segments, from 1.
//
// # Preallocation
//
// A segment grows by writing zeros a chunk ahead, and a segment that is no longer
// needed is used again as it is. Inside written blocks fdatasync changes no
// metadata, so one frame costs one flush of the device.
//
// # Recovery
//
// Only one frame is ever written and not yet synced, so after a crash at most the
// last frame is missing. A frame that does not verify is that torn tail, and is
// dropped, when no later frame exists. When one does, an acknowledged frame is
// damaged: Open fails with a DamageError and changes nothing.
//
// # Failure
//
// After the first write or sync that fails the journal refuses every call with
// that error. A sync that failed once is never tried again: the kernel may have
// dropped the data and would report success.
package journal
