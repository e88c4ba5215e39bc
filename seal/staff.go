package seal

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/healthpost/healthpost/record"
)

var (
	// ErrWrongPIN is returned for a PIN that does not open the key. A damaged key looks the same.
	ErrWrongPIN = errors.New("wrong PIN")
	// ErrWeakPIN is returned for a PIN that would be guessed first.
	ErrWeakPIN = errors.New("this PIN is too easy to guess")
)

// Lengths of a PIN, in digits.
const (
	PINDigitsMin = 6
	PINDigitsMax = 12
)

// PINParams is what one guess of a PIN costs: argon2id (RFC 9106).
type PINParams struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

// DefaultPINParams costs about 0.2 s on a desktop core and 1 to 2 s on a small
// board, and 64 MiB while it runs.
func DefaultPINParams() PINParams { return PINParams{MemoryKiB: 64 << 10, Passes: 3, Threads: 1} }

// A stored key must not be able to exhaust the box that tries to unlock it.
var pinParamsMax = PINParams{MemoryKiB: 256 << 10, Passes: 16, Threads: 4}

func (p PINParams) check() error {
	m := pinParamsMax
	if p.Passes < 1 || p.Threads < 1 || p.MemoryKiB < 8*uint32(p.Threads) || p.MemoryKiB > m.MemoryKiB || p.Passes > m.Passes || p.Threads > m.Threads {
		return fmt.Errorf("%w: cost of a PIN out of range", ErrDamaged)
	}
	return nil
}

const staffVersion = 1

// StaffKey is a staff member's Ed25519 signing key, sealed under a PIN.
type StaffKey struct {
	Public ed25519.PublicKey
	Params PINParams
	Salt   [16]byte
	Box    []byte // ChaCha20-Poly1305(argon2id(PIN), nonce 0, [1, public, memory, passes, threads, salt], seed)
}

const staffBoxLen = ed25519.SeedSize + chacha20poly1305.Overhead

// NewStaffKey draws a signing key and seals it under pin. It wraps ErrWeakPIN.
func NewStaffKey(rand io.Reader, pin string, params PINParams) (StaffKey, error) {
	seed, err := NewKey(rand)
	if err != nil {
		return StaffKey{}, err
	}
	return sealStaffKey(rand, ed25519.NewKeyFromSeed(seed[:]), pin, params)
}

// Unlock gives the signing key. It wraps ErrWrongPIN. Calls wait for one
// another, so that ten people signing in need the memory of one.
func (k StaffKey) Unlock(pin string) (ed25519.PrivateKey, error) {
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("unlocking a staff key: %w", err)
	}
	if len(pin) > PINDigitsMax {
		return nil, fmt.Errorf("unlocking a staff key: %w", ErrWrongPIN)
	}
	seed, err := onceAEAD(k.Params.stretch([]byte(pin), k.Salt[:])).Open(nil, zeroNonce[:], k.Box, k.context())
	if err != nil {
		return nil, fmt.Errorf("unlocking a staff key: %w", ErrWrongPIN)
	}
	priv := ed25519.NewKeyFromSeed(seed)
	if !k.Public.Equal(priv.Public()) {
		return nil, fmt.Errorf("unlocking a staff key: %w: the public half is another key's", ErrDamaged)
	}
	return priv, nil
}

// ChangePIN seals the same signing key under another PIN, at the cost params.
// It wraps ErrWrongPIN or ErrWeakPIN.
func (k StaffKey) ChangePIN(rand io.Reader, old, pin string, params PINParams) (StaffKey, error) {
	priv, err := k.Unlock(old)
	if err != nil {
		return StaffKey{}, err
	}
	return sealStaffKey(rand, priv, pin, params)
}

func sealStaffKey(rand io.Reader, priv ed25519.PrivateKey, pin string, params PINParams) (StaffKey, error) {
	if err := CheckPIN(pin); err != nil {
		return StaffKey{}, err
	}
	if err := params.check(); err != nil {
		return StaffKey{}, fmt.Errorf("sealing a staff key: %w", err)
	}
	k := StaffKey{Public: priv.Public().(ed25519.PublicKey), Params: params}
	if _, err := io.ReadFull(rand, k.Salt[:]); err != nil {
		return StaffKey{}, fmt.Errorf("drawing a salt: %w", err)
	}
	k.Box = onceAEAD(k.Params.stretch([]byte(pin), k.Salt[:])).Seal(nil, zeroNonce[:], priv.Seed(), k.context())
	return k, nil
}

type staffContext struct {
	_         struct{} `cbor:",toarray"`
	V         uint8
	Public    []byte
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
	Salt      []byte
}

type staffArray struct {
	_         struct{} `cbor:",toarray"`
	V         uint8
	Public    []byte
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
	Salt      []byte
	Box       []byte
}

func (k StaffKey) context() []byte {
	return mustMarshal(staffContext{V: staffVersion, Public: k.Public, MemoryKiB: k.Params.MemoryKiB, Passes: k.Params.Passes, Threads: k.Params.Threads, Salt: k.Salt[:]})
}

func (k StaffKey) check() error {
	if len(k.Public) != ed25519.PublicKeySize || len(k.Box) != staffBoxLen {
		return fmt.Errorf("%w: lengths", ErrDamaged)
	}
	return k.Params.check()
}

// Encode gives the bytes that DecodeStaffKey reads. They are to be sealed
// before they are stored: a PIN can be guessed by whoever holds them.
func (k StaffKey) Encode() []byte {
	return mustMarshal(staffArray{V: staffVersion, Public: k.Public, MemoryKiB: k.Params.MemoryKiB, Passes: k.Params.Passes,
		Threads: k.Params.Threads, Salt: k.Salt[:], Box: k.Box})
}

// DecodeStaffKey reads what Encode gave. Its errors wrap ErrDamaged or ErrNewer.
func DecodeStaffKey(b []byte) (StaffKey, error) {
	var a staffArray
	if err := record.Unmarshal(b, &a); err != nil {
		return StaffKey{}, fmt.Errorf("reading a staff key: %w: %v", ErrDamaged, err)
	}
	if a.V != staffVersion {
		return StaffKey{}, fmt.Errorf("reading a staff key: %w: version %d", ErrNewer, a.V)
	}
	k := StaffKey{Public: a.Public, Params: PINParams{MemoryKiB: a.MemoryKiB, Passes: a.Passes, Threads: a.Threads}, Box: a.Box}
	if len(a.Salt) != len(k.Salt) {
		return StaffKey{}, fmt.Errorf("reading a staff key: %w: salt of %d bytes", ErrDamaged, len(a.Salt))
	}
	copy(k.Salt[:], a.Salt)
	if err := k.check(); err != nil {
		return StaffKey{}, fmt.Errorf("reading a staff key: %w", err)
	}
	return k, nil
}

// CheckPIN tells whether a PIN may be chosen: PINDigitsMin to PINDigitsMax
// digits that are not one of the patterns people try first. It wraps ErrWeakPIN.
func CheckPIN(pin string) error {
	if len(pin) < PINDigitsMin || len(pin) > PINDigitsMax {
		return fmt.Errorf("%w: it needs %d to %d digits", ErrWeakPIN, PINDigitsMin, PINDigitsMax)
	}
	if strings.Trim(pin, "0123456789") != "" {
		return fmt.Errorf("%w: it may hold digits only", ErrWeakPIN)
	}
	if repeats(pin) || counts(pin) || mirrored(pin) || doubled(pin) {
		return fmt.Errorf("%w: it is a simple pattern", ErrWeakPIN)
	}
	return nil
}

// repeats: 000000, 121212, 123123, 2580 2580.
func repeats(pin string) bool {
	for period := 1; period <= len(pin)/2; period++ {
		if pin[period:] == pin[:len(pin)-period] {
			return true
		}
	}
	return false
}

// counts: 123456, 987654, 890123, 024680: the same step from digit to digit, over 9 too.
func counts(pin string) bool {
	step := (pin[1] - pin[0] + 10) % 10
	for i := 1; i < len(pin); i++ {
		if (pin[i]-pin[i-1]+10)%10 != step {
			return false
		}
	}
	return true
}

// mirrored: a run and the same run back, 123321.
func mirrored(pin string) bool {
	for i := range len(pin) / 2 {
		if pin[i] != pin[len(pin)-1-i] {
			return false
		}
	}
	return counts(pin[:(len(pin)+1)/2])
}

// doubled: a run of pairs, 112233.
func doubled(pin string) bool {
	if len(pin)%2 != 0 {
		return false
	}
	half := make([]byte, 0, len(pin)/2)
	for i := 0; i < len(pin); i += 2 {
		if pin[i] != pin[i+1] {
			return false
		}
		half = append(half, pin[i])
	}
	return counts(string(half))
}
