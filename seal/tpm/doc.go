// Package tpm keeps small secrets with a TPM 2.0: the chip gives back what was sealed to the same chip,
// alone, by who names the right auth value.
//
// # What is stored
//
//	Object = [version, name of the storage root key, public area, private area] in canonical CBOR
//
// The storage root key is the owner hierarchy's ECC P-256 key by the TCG's reference template, derived by
// the chip anew each time: nothing is kept in the chip. An object's private area is encrypted by that key;
// another chip, or the same one after it was cleared, has another and opens nothing.
//
// # Who listens
//
// Secrets and auth values cross the bus in sessions whose key is salted to the storage root key, so that a
// listener learns neither. Objects hold the name of that key: somebody who sits between the processor and
// the chip and plays another key is refused when an object is opened. When it is made there is nothing to
// compare with.
//
// # Who guesses
//
// Wrong auth values count in the chip, across power cuts (its dictionary attack lockout), for every object
// that has one. The counts and pauses are the chip's own and are left as its owner set them.
package tpm
