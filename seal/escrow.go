package seal

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/healthpost/healthpost/record"
)

// ErrEscrow is wrapped where sheets do not give the key of an escrow: too few, damaged, of
// different keys.
var ErrEscrow = errors.New("these sheets do not open the escrow")

// An escrow's keys are derived from a secret of 128 bits, which is split among the holders of
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

// EscrowKey is what the sheets of an escrow give together: it opens what is wrapped to the escrow,
// and signs that it was used. It never prints itself.
type EscrowKey struct {
	exchange *ecdh.PrivateKey
	signer   ed25519.PrivateKey
}

// Format hides the keys from every verb of fmt.
func (*EscrowKey) Format(f fmt.State, _ rune) { io.WriteString(f, "(key of an escrow)") }

// MarshalText hides the keys from JSON and from loggers.
func (*EscrowKey) MarshalText() ([]byte, error) { return []byte("(key of an escrow)"), nil }

// Public is what others wrap keys to.
func (k *EscrowKey) Public() *ecdh.PublicKey { return k.exchange.PublicKey() }

// Verifier is the Ed25519 key that its signatures verify with.
func (k *EscrowKey) Verifier() ed25519.PublicKey { return k.signer.Public().(ed25519.PublicKey) }

// Sign signs that the escrow was used.
func (k *EscrowKey) Sign(claim []byte) []byte { return ed25519.Sign(k.signer, claim) }

// Unwrap opens a wrap to the escrow; errors as for UnwrapKeyWith.
func (k *EscrowKey) Unwrap(w Wrap) (Key, error) { return UnwrapKeyWith(k.exchange, w) }

// Clear forgets what can be forgotten: crypto/ecdh keeps a copy until memory is used again.
func (k *EscrowKey) Clear() {
	clear(k.signer)
	k.exchange = nil
}

// key derives both: HKDF(secret, "hp:escrow:1") and, as a seed, HKDF(secret, "hp:escrow:sign:1").
func (s *escrowSecret) key() (*EscrowKey, error) {
	var k Key
	copy(k[:], s[:])
	scalar, seed := deriveKey(k, nil, []byte("hp:escrow:1")), deriveKey(k, nil, []byte("hp:escrow:sign:1"))
	clear(k[:])
	defer func() { clear(scalar[:]); clear(seed[:]) }()
	priv, err := ecdh.X25519().NewPrivateKey(scalar[:])
	if err != nil {
		return nil, fmt.Errorf("deriving an escrow's key: %w", err)
	}
	return &EscrowKey{priv, ed25519.NewKeyFromSeed(seed[:])}, nil
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

// EscrowPublic is the public half.
type EscrowPublic struct {
	Exchange *ecdh.PublicKey
	Verifier ed25519.PublicKey
}

// NewEscrow draws the keys of an escrow and splits them. The private half is nowhere but in
// the shares when it returns.
func NewEscrow(rand io.Reader, need, of int) (EscrowPublic, []EscrowShare, error) {
	var public EscrowPublic
	if err := CheckEscrowNumbers(need, of); err != nil {
		return public, nil, err
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
			return public, nil, fmt.Errorf("drawing an escrow: %w", err)
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
		return public, nil, err
	}
	defer priv.Clear()
	public = EscrowPublic{priv.Public(), priv.Verifier()}
	for i := range shares {
		shares[i].Key = PublicKeyID(public.Exchange)
	}
	return public, shares, nil
}

// OpenEscrow gives the keys of which these are shares. The errors wrap ErrEscrow and
// hold nothing of the parts.
func OpenEscrow(shares []EscrowShare) (*EscrowKey, error) {
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
	if PublicKeyID(priv.Public()) != shares[0].Key {
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
