package record

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
)

// Recovery is the body that says who may begin a new generation of the ledger
// when too few hubs are left to go on: any Needed of these Ed25519 keys, which
// people keep on paper.
type Recovery struct {
	_      struct{} `cbor:",toarray"`
	Needed uint64
	Keys   [][]byte // 32 each, no two alike
}

// ResetSignature is one recovery key's signature over the claim of a reset.
type ResetSignature struct {
	_   struct{} `cbor:",toarray"`
	Key uint64   // index in Recovery.Keys
	Sig []byte   // 64
}

// Reset is the body that begins a new generation on the tree as it is at Size:
// Members order from there on, and no other box.
type Reset struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
	Size       uint64 // of the ledger before this record
	Root       []byte // 32, at that size
	Members    []MemberAdd
	Signatures []ResetSignature // by ascending key, no two alike
}

// Head is the tree that the new generation begins on.
func (r *Reset) Head() TreeHead { return TreeHead{r.Size, Hash(r.Root)} }

const (
	domainReset     = "hp:reset:1\x00"
	recoveryKeysMax = 16
	hubsMax         = 32 // boxes that order, in one region
)

// ErrReset: the reset is well formed but is not for this ledger, or too few of
// its recovery keys signed it.
var ErrReset = errors.New("not a reset of this ledger")

// DecodeRecovery reads and checks the body that names the recovery keys.
func DecodeRecovery(body []byte) (Recovery, error) {
	var r Recovery
	if err := decodeControl(body, &r, "recovery record"); err != nil {
		return r, err
	}
	if len(r.Keys) > recoveryKeysMax || r.Needed < 1 || r.Needed > uint64(len(r.Keys)) {
		return r, fmt.Errorf("reading recovery record: %w: %d of %d keys", ErrMalformed, r.Needed, len(r.Keys))
	}
	for i, k := range r.Keys {
		if err := checkLen(k, ed25519.PublicKeySize, "recovery key"); err != nil {
			return r, fmt.Errorf("reading recovery record: %w", err)
		}
		if slices.ContainsFunc(r.Keys[:i], func(b []byte) bool { return bytes.Equal(b, k) }) {
			return r, fmt.Errorf("reading recovery record: %w: a key twice", ErrMalformed)
		}
	}
	return r, nil
}

type resetClaim struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
	Size       uint64
	Root       []byte
	Members    []MemberAdd
}

// ResetClaim is what recovery keys sign: "hp:reset:1\0" || region ||
// [generation, size, root, [member, ...]].
func ResetClaim(region RegionID, generation, size uint64, root Hash, members []MemberAdd) []byte {
	b := append([]byte(domainReset), region[:]...)
	return append(b, mustMarshal(resetClaim{Generation: generation, Size: size, Root: root[:], Members: members})...)
}

// DecodeReset reads and checks the body of a reset. It verifies no signature.
func DecodeReset(body []byte) (Reset, error) {
	var r Reset
	if err := decodeControl(body, &r, "reset"); err != nil {
		return r, err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("reading reset: %w: %s", ErrMalformed, fmt.Sprintf(format, args...))
	}
	if err := firstError(checkLen(r.Root, 32, "root"), checkSize(r.Size)); err != nil {
		return r, fmt.Errorf("reading reset: %w", err)
	}
	if len(r.Members) == 0 || len(r.Members) > hubsMax || len(r.Signatures) == 0 || len(r.Signatures) > recoveryKeysMax {
		return r, bad("%d members, %d signatures", len(r.Members), len(r.Signatures))
	}
	for i := range r.Members {
		m := &r.Members[i]
		if err := m.check(); err != nil {
			return r, fmt.Errorf("reading reset: %w", err)
		}
		if !m.Role.Orders() || r.lists(m.Device, i) {
			return r, bad("a member twice, or one that does not order")
		}
	}
	for i, s := range r.Signatures {
		if len(s.Sig) != ed25519.SignatureSize || s.Key >= recoveryKeysMax || i > 0 && s.Key <= r.Signatures[i-1].Key {
			return r, bad("signature %d", i)
		}
	}
	return r, nil
}

// lists tells whether a device is among the first n members.
func (r *Reset) lists(device []byte, n int) bool {
	return slices.ContainsFunc(r.Members[:n], func(m MemberAdd) bool { return bytes.Equal(m.Device, device) })
}

// Verify checks that enough of a region's recovery keys signed this reset, and
// that every signature in it is one of theirs. The error wraps ErrReset. Whether
// the ledger at hand has this root at this size is the caller's to see.
func (r *Reset) Verify(region RegionID, keys Recovery) error {
	if uint64(len(r.Signatures)) < keys.Needed || keys.Needed == 0 {
		return fmt.Errorf("%w: %d signatures, %d needed", ErrReset, len(r.Signatures), keys.Needed)
	}
	claim := ResetClaim(region, r.Generation, r.Size, Hash(r.Root), r.Members)
	for i, s := range r.Signatures {
		if s.Key >= uint64(len(keys.Keys)) || i > 0 && s.Key <= r.Signatures[i-1].Key || !ed25519.Verify(keys.Keys[s.Key], claim, s.Sig) {
			return fmt.Errorf("%w: signature %d", ErrReset, i)
		}
	}
	return nil
}
