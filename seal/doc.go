// Package seal turns what staff wrote into bytes that only holders of the right
// key can read, and back. It holds compartment keys, the wraps that hand them
// on, the file a box keeps its own keys in, staff PINs and the blinded rows of
// the search index. It knows no FHIR and no store; randomness is passed in,
// except in SealTo, where the standard library draws its own.
//
// # A sealed body
//
//	packed = method || ...                     compressed, see below
//	body   = uvarint generation || salt8 || ChaCha20-Poly1305(K, nonce 0, A, pad32(packed))
//	K      = HKDF-SHA256(DEK[compartment, generation], salt8, "hp:body:1" || epoch || lane || n)
//	A      = [v, epoch, lane, n, kind, compartment]   deterministic CBOR
//
// lane is one byte and n eight, big endian, in K's info. The key is new for
// every record because its position and salt are, so the nonce may be fixed.
// pad32 appends 0x80 and then zeros up to a multiple of 32, which is all a
// holder without the key learns about the length.
//
// Compression comes before sealing, because a sealed body no longer compresses,
// and a record stands alone, so it must not refer to its neighbours. What the
// records of a region share sits in a dictionary instead (package dict):
//
//	0 || plain                          stored
//	1 || frame                          zstd
//	2 || uvarint dictionary || frame    zstd with a dictionary
//	3 || uvarint dictionary || count || 16 bytes for each UUID || frame
//	                                    the same, of a text whose UUIDs were set aside (see dict.SetUUIDsAside)
//	4 || dictionary ID, 8 bytes || count || 16 bytes for each UUID || frame
//	                                    the same with a dictionary of the ledger (record.Dictionary), whose number the frame leaves out;
//	                                    count may be 0
//
// A frame is a zstd frame (RFC 8878) without its four magic bytes; it states
// its content size, at most PlainBytesMax.
//
// # A wrap
//
//	wrap = [compartment, generation, recipient, box]
//	box  = salt8 || ChaCha20-Poly1305(HKDF-SHA256(recipient key, salt8, "hp:wrap:1"), nonce 0, [1, compartment, generation, recipient], DEK)
//	box  = HPKE(recipient's X25519 key, info [1, compartment, generation, recipient], DEK)
//
// recipient is the KeyID of the recipient's key and says which of the two it is
// to whoever holds that key. The body of a key-wrap record is [1, [wrap, ...]],
// sorted by compartment, generation and recipient, no two alike. The recipient key
// may be a newer key of the compartment: generation.go.
//
// # An escrow
//
//	secret   = XOR of all parts, 16 random bytes each: one for every set of need-1 of the holders, sets as
//	           numbers whose bit i-1 stands for holder i, ascending
//	share    = the parts of the sets that the holder is not in, in that order (escrowtext.go: as text)
//	exchange = X25519 scalar HKDF(secret, "hp:escrow:1"); wraps are to it
//	signer   = Ed25519 seed HKDF(secret, "hp:escrow:sign:1")
//
// # What is not here
//
// A PIN of six digits resists a thief only where he cannot try it offline. A
// StaffKey therefore never leaves the box in the clear: it is stored with
// SealRow or travels under the region's reading key.
package seal
