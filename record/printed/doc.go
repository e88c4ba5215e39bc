// Package printed is for what people carry by hand: the root of the ledger on paper
// or in an SMS, and a proof as a QR code. Two people who compare a printed root find
// out, with no network and no trust in any hub, whether they were shown the same
// ledger; and a proof without signatures is checked against it. It is pure.
//
// # Bytes
//
// The root as a line of at most 160 characters of GSM 03.38, which is one SMS:
//
//	HPR1 <region, first 16 hex digits> g<generation> <size> <root, base64url, 43 characters> <yyyymmdd> <crc, 8 hex digits>
//
// with one blank between two fields. The crc is CRC-32 (IEEE) over the line before
// its last blank. It finds what a hand or a modem spoiled; against somebody who
// wants to deceive, paper protects only by where it comes from.
//
// Words are 24 English words of BIP-39: 256 bits and eight bits of their SHA-256, in
// groups of eleven. A proof in a QR code is "HPP1:" and the proof file in base45
// (RFC 9285), so that the code uses its alphanumeric mode.
package printed
