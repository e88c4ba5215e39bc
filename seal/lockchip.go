package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/healthpost/healthpost/record"
)

// A lock can have a random secret that a chip keeps (package seal/tpm). Chips and boards die, so the same
// secret lies beside it under a passphrase: there is never one way only.

// chipPart is what a lock has besides when a chip keeps its secret.
type chipPart struct {
	secret Key    // zero while the keyring is locked
	object []byte // of the chip that gives the secret to the box itself; empty where members of staff ask for it
	spare  []byte // nonce24 || XChaCha20-Poly1305(key of the passphrase, spareContext, secret)
}

const (
	chipObjectBytesMax = 2 << 10
	spareBytes         = chacha20poly1305.NonceSizeX + keyBytes + chacha20poly1305.Overhead
)

// ChipSecret is an opener of what a chip gave.
func ChipSecret(k Key) Opener { return Opener{TPMLock, k[:]} }

// LockWithChip has the keys written under a random secret from the next Save on: a chip keeps it, and spare,
// a passphrase, opens without the chip. keep has the chip seal the secret and gives what is to lie beside
// the keys; of a TPMPINLock that may be nothing, as members of staff hold what opens it.
func (k *Keyring) LockWithChip(rand io.Reader, kind LockKind, spare Opener, keep func(secret Key) ([]byte, error)) error {
	if !kind.HasChip() || spare.kind != PassphraseLock {
		return fmt.Errorf("locking the keys: %w: a chip's lock needs a passphrase besides", ErrWrongLock)
	}
	if err := CheckPassphrase(string(spare.secret)); err != nil {
		return fmt.Errorf("locking the keys: %w", err)
	}
	secret, err := NewKey(rand)
	if err != nil {
		return err
	}
	l := &lock{kind: kind, params: lockParamsMin, chip: &chipPart{secret: secret}}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	for _, b := range [][]byte{l.salt[:], nonce} {
		if _, err := io.ReadFull(rand, b); err != nil {
			return fmt.Errorf("drawing a salt: %w", err)
		}
	}
	if l.chip.object, err = keep(secret); err == nil {
		err = errors.Join(l.check(), l.chip.check(kind), k.check())
	}
	if err != nil {
		return fmt.Errorf("locking the keys: %w", err)
	}
	l.chip.spare = rowAEAD(l.spareKey(spare)).Seal(nonce, nonce, secret[:], l.spareContext())
	l.key, k.lock = l.keyFrom(secret), l
	return nil
}

// ChipObject is what the chip needs to give the secret to the box itself; none where it gives it to members of staff.
func (k *Keyring) ChipObject() []byte {
	if k.lock == nil || k.lock.chip == nil {
		return nil
	}
	return bytes.Clone(k.lock.chip.object)
}

// LockSecret is what a chip has to keep for who may open the lock, false where none does or the keys are
// locked; of names that lock among all that these keys ever had.
func (k *Keyring) LockSecret() (secret Key, of LockID, ok bool) {
	if k.Locked() || k.lock == nil || k.lock.chip == nil {
		return Key{}, LockID{}, false
	}
	return k.lock.chip.secret, k.LockID(), true
}

// LockID names one lock.
type LockID [16]byte

// LockID is that of the lock of these keys, zero where there is none.
func (k *Keyring) LockID() LockID {
	if k.lock == nil {
		return LockID{}
	}
	return LockID(k.lock.salt)
}

func (c *chipPart) check(kind LockKind) error {
	if len(c.object) > chipObjectBytesMax || kind == TPMLock && len(c.object) == 0 {
		return fmt.Errorf("%w: lengths", ErrDamaged)
	}
	return nil
}

func (l *lock) spareKey(o Opener) Key {
	return deriveKey(l.params.stretch(o.secret, l.salt[:]), l.salt[:], []byte("hp:lock:spare:1"))
}

func (l *lock) spareSecret(o Opener) (Key, error) {
	sealed := l.chip.spare
	secret, err := rowAEAD(l.spareKey(o)).Open(nil, sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:], l.spareContext())
	if err != nil {
		return Key{}, ErrWrongLock
	}
	return Key(secret), nil
}

// with is the part of an opened lock, from which other members can be given the secret.
func (c *chipPart) with(secret Key) *chipPart {
	return &chipPart{secret: secret, object: c.object, spare: c.spare}
}

// chipArray is lockedArray of a lock whose secret a chip keeps.
type chipArray struct {
	_         struct{} `cbor:",toarray"`
	Device    []byte
	Kind      uint8
	MemoryKiB uint32 // of the passphrase
	Passes    uint32
	Threads   uint8
	Salt      []byte
	Spare     []byte
	Object    []byte
	Sealed    []byte
}

func (l *lock) chipArray(device Key, sealed []byte) chipArray {
	object := l.chip.object
	if object == nil {
		object = []byte{}
	}
	return chipArray{Device: device[:], Kind: uint8(l.kind), MemoryKiB: l.params.MemoryKiB, Passes: l.params.Passes, Threads: l.params.Threads,
		Salt: l.salt[:], Spare: l.chip.spare, Object: object, Sealed: sealed}
}

func (l *lock) spareContext() []byte {
	return mustMarshal(chipArray{Device: []byte{}, Kind: uint8(l.kind), MemoryKiB: l.params.MemoryKiB, Passes: l.params.Passes, Threads: l.params.Threads,
		Salt: l.salt[:], Spare: []byte{}, Object: []byte{}, Sealed: []byte{}})
}

func decodeChipInside(b []byte) (*Keyring, error) {
	var a chipArray
	if err := record.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	l := &lock{kind: LockKind(a.Kind), params: PINParams{MemoryKiB: a.MemoryKiB, Passes: a.Passes, Threads: a.Threads},
		chip: &chipPart{object: bytes.Clone(a.Object), spare: bytes.Clone(a.Spare)}}
	if kind := l.kind; kind == PassphraseLock || kind == KeyFileLock || kind == NoLock {
		return nil, fmt.Errorf("%w: a lock of another version", ErrDamaged)
	}
	if len(a.Spare) != spareBytes {
		return nil, fmt.Errorf("%w: lengths", ErrDamaged)
	}
	k, err := lockedKeyring(l, a.Device, a.Salt, a.Sealed)
	if err == nil {
		err = l.chip.check(l.kind)
	}
	return k, err
}

// MemberLock lets one member of staff open a TPMPINLock: a chip gives the lock's secret for the auth value
// that the member's PIN makes. Who has it without the chip has nothing to try PINs on.
type MemberLock struct {
	Number uint16 // that the member types
	Of     LockID
	Params PINParams
	Salt   [16]byte
	Object []byte // the chip's
}

// MemberNumberMax bounds the numbers of a box.
const MemberNumberMax = 999

// NewMemberLock draws the salt of one; its Object is still to be made.
func NewMemberLock(rand io.Reader, of LockID, number uint16, params PINParams) (MemberLock, error) {
	m := MemberLock{Number: number, Of: of, Params: params}
	if number == 0 || number > MemberNumberMax {
		return m, fmt.Errorf("making a member's lock: there are numbers from 1 to %d", MemberNumberMax)
	}
	if _, err := io.ReadFull(rand, m.Salt[:]); err != nil {
		return m, fmt.Errorf("drawing a salt: %w", err)
	}
	return m, params.check()
}

// Auth is the auth value that a PIN makes. Calls wait for one another, as those of Unlock do.
func (m MemberLock) Auth(pin string) (Key, error) {
	if len(pin) > PINDigitsMax {
		return Key{}, ErrWrongPIN
	}
	return m.Params.stretch([]byte(pin), m.Salt[:]), nil
}

const memberLockVersion = 1

type memberLockArray struct {
	_         struct{} `cbor:",toarray"`
	V         uint8
	Number    uint16
	Of        []byte
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
	Salt      []byte
	Object    []byte
}

// Encode gives the bytes that DecodeMemberLock reads. They may lie in the clear.
func (m MemberLock) Encode() []byte {
	return mustMarshal(memberLockArray{V: memberLockVersion, Number: m.Number, Of: m.Of[:], MemoryKiB: m.Params.MemoryKiB, Passes: m.Params.Passes,
		Threads: m.Params.Threads, Salt: m.Salt[:], Object: m.Object})
}

// DecodeMemberLock reads what Encode gave. Its errors wrap ErrDamaged or ErrNewer.
func DecodeMemberLock(b []byte) (MemberLock, error) {
	var a memberLockArray
	if err := record.Unmarshal(b, &a); err != nil {
		return MemberLock{}, fmt.Errorf("reading a member's lock: %w: %v", ErrDamaged, err)
	}
	if a.V != memberLockVersion {
		return MemberLock{}, fmt.Errorf("reading a member's lock: %w: version %d", ErrNewer, a.V)
	}
	m := MemberLock{Number: a.Number, Params: PINParams{MemoryKiB: a.MemoryKiB, Passes: a.Passes, Threads: a.Threads}, Object: a.Object}
	if len(a.Salt) != len(m.Salt) || len(a.Of) != len(m.Of) || len(a.Object) == 0 || len(a.Object) > chipObjectBytesMax || a.Number == 0 || a.Number > MemberNumberMax {
		return MemberLock{}, fmt.Errorf("reading a member's lock: %w: lengths", ErrDamaged)
	}
	m.Salt, m.Of = [16]byte(a.Salt), LockID(a.Of)
	if err := m.Params.check(); err != nil {
		return MemberLock{}, fmt.Errorf("reading a member's lock: %w", err)
	}
	return m, nil
}
