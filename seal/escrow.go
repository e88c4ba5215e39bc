package seal

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/healthpost/healthpost/record"
)

// ErrEscrow is wrapped where sheets do not give the key of an escrow: too few, damaged, of
// different keys.
var ErrEscrow = errors.New("these sheets do not open the escrow")

// An escrow's key is derived from a secret of 128 bits, which is split among the holders of
// sheets: replicated sharing. For every set of need-1 holders a part of 16 random bytes is drawn
// and given to all that are not in the set; the secret is the XOR of all parts. Any need holders
// have every part: of each set at least one of them is not a member. Any need-1 holders lack the
// part of their own set, which is random and in nobody's hands of theirs, so every secret is as
// likely to them as before. No arithmetic but XOR is in it.
const (
	escrowPartBytes = 16
	// EscrowPartsMax bounds the parts of a sheet, which people may have to type.
	EscrowPartsMax = 36
)

type escrowSecret [escrowPartBytes]byte

func (s *escrowSecret) add(part []byte) {
	for i := range s {
		s[i] ^= part[i]
	}
}

// key derives the X25519 key: HKDF(secret, "hp:escrow:1").
func (s *escrowSecret) key() (*ecdh.PrivateKey, error) {
	var k Key
	copy(k[:], s[:])
	scalar := deriveKey(k, nil, []byte("hp:escrow:1"))
	clear(k[:])
	defer clear(scalar[:])
	priv, err := ecdh.X25519().NewPrivateKey(scalar[:])
	if err != nil {
		return nil, fmt.Errorf("deriving an escrow's key: %w", err)
	}
	return priv, nil
}

// EscrowShare is what one sheet says. It never prints itself.
type EscrowShare struct {
	Key              KeyID // of the public key
	Number, Need, Of int
	parts            [][escrowPartBytes]byte
}

// Format hides the parts from every verb of fmt.
func (s EscrowShare) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(sheet %d of %d of key %s)", s.Number, s.Of, s.Key)
}

// MarshalText hides the parts from JSON and from loggers.
func (s EscrowShare) MarshalText() ([]byte, error) { return fmt.Append(nil, s), nil }

// Clear forgets the parts.
func (s *EscrowShare) Clear() {
	for i := range s.parts {
		clear(s.parts[i][:])
	}
}

// escrowSets are the sets of need-1 of so many holders, as bits, ascending.
func escrowSets(need, of int) []uint32 {
	var sets []uint32
	for set := range uint32(1) << of {
		if bits.OnesCount32(set) == need-1 {
			sets = append(sets, set)
		}
	}
	return sets
}

// lacks reports whether the holder with this number is in the set, whose part they do not have.
func lacks(set uint32, number int) bool { return set>>(number-1)&1 == 1 }

// CheckEscrowNumbers tells whether an escrow may have so many sheets.
func CheckEscrowNumbers(need, of int) error {
	if need < record.EscrowNeedMin || need > of || of > record.EscrowSheetsMax {
		return fmt.Errorf("splitting an escrow: %d of %d sheets: at least %d are needed, at most %d are made", need, of, record.EscrowNeedMin, record.EscrowSheetsMax)
	}
	if n := escrowParts(need, of); n > EscrowPartsMax {
		return fmt.Errorf("splitting an escrow: %d of %d sheets: each would have %d lines to type, at most %d: make fewer sheets, or need fewer", need, of, n, EscrowPartsMax)
	}
	return nil
}

// escrowParts is how many parts a sheet has: the sets of need-1 of the other holders.
func escrowParts(need, of int) int {
	n := 1
	for i := range need - 1 {
		n = n * (of - 1 - i) / (i + 1)
	}
	return n
}

// NewEscrow draws the key of an escrow and splits it. The private half is nowhere but in
// the shares when it returns.
func NewEscrow(rand io.Reader, need, of int) (*ecdh.PublicKey, []EscrowShare, error) {
	if err := CheckEscrowNumbers(need, of); err != nil {
		return nil, nil, err
	}
	shares := make([]EscrowShare, of)
	for i := range shares {
		shares[i] = EscrowShare{Number: i + 1, Need: need, Of: of}
	}
	var secret escrowSecret
	defer clear(secret[:])
	for _, set := range escrowSets(need, of) {
		var part [escrowPartBytes]byte
		if _, err := io.ReadFull(rand, part[:]); err != nil {
			return nil, nil, fmt.Errorf("drawing an escrow: %w", err)
		}
		secret.add(part[:])
		for i := range shares {
			if !lacks(set, i+1) {
				shares[i].parts = append(shares[i].parts, part)
			}
		}
		clear(part[:])
	}
	priv, err := secret.key()
	if err != nil {
		return nil, nil, err
	}
	for i := range shares {
		shares[i].Key = PublicKeyID(priv.PublicKey())
	}
	return priv.PublicKey(), shares, nil
}

// OpenEscrow gives the private key of which these are shares. The errors wrap ErrEscrow and
// hold nothing of the parts.
func OpenEscrow(shares []EscrowShare) (*ecdh.PrivateKey, error) {
	if err := checkShares(shares); err != nil {
		return nil, err
	}
	var secret escrowSecret
	defer clear(secret[:])
	at := make([]int, len(shares)) // the next part of each
	for _, set := range escrowSets(shares[0].Need, shares[0].Of) {
		from := -1
		var part []byte
		for i := range shares {
			if lacks(set, shares[i].Number) {
				continue
			}
			mine := shares[i].parts[at[i]][:]
			at[i]++
			if from >= 0 && string(part) != string(mine) {
				return nil, fmt.Errorf("%w: sheets %d and %d contradict each other: one of them is damaged or forged", ErrEscrow, shares[from].Number, shares[i].Number)
			}
			from, part = i, mine
		}
		secret.add(part)
	}
	priv, err := secret.key()
	if err != nil {
		return nil, err
	}
	if PublicKeyID(priv.PublicKey()) != shares[0].Key {
		return nil, fmt.Errorf("%w: together they give another key than %s: one of them is damaged or forged", ErrEscrow, shares[0].Key)
	}
	return priv, nil
}

func checkShares(shares []EscrowShare) error {
	if len(shares) == 0 {
		return fmt.Errorf("%w: no sheet", ErrEscrow)
	}
	first := &shares[0]
	var have uint32
	for i := range shares {
		s := &shares[i]
		if s.Key != first.Key {
			return fmt.Errorf("%w: they are of different keys, %s and %s", ErrEscrow, first.Key, s.Key)
		}
		if s.Need != first.Need || s.Of != first.Of || s.check() != nil {
			return fmt.Errorf("%w: sheet %d does not belong to the others", ErrEscrow, s.Number)
		}
		if lacks(have, s.Number) {
			return fmt.Errorf("%w: sheet %d is there twice", ErrEscrow, s.Number)
		}
		have |= 1 << (s.Number - 1)
	}
	if len(shares) < first.Need {
		return fmt.Errorf("%w: %d of them, %d are needed", ErrEscrow, len(shares), first.Need)
	}
	return nil
}

// check refuses what no sheet says.
func (s *EscrowShare) check() error {
	if CheckEscrowNumbers(s.Need, s.Of) != nil || s.Number < 1 || s.Number > s.Of || len(s.parts) != escrowParts(s.Need, s.Of) {
		return fmt.Errorf("%w: not the numbers of a sheet", ErrEscrow)
	}
	return nil
}
