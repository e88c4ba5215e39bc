package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/healthpost/healthpost/record"
)

var (
	// ErrWrongLock is returned for a passphrase or a key file that does not open the lock.
	ErrWrongLock = errors.New("this does not open the lock")
	// ErrWeakPassphrase is returned for a passphrase that could be guessed by who has the card.
	ErrWeakPassphrase = errors.New("this passphrase is too easy to guess")
)

// LockKind is what opens a locked keyring.
type LockKind uint8

const (
	NoLock LockKind = iota
	PassphraseLock
	KeyFileLock
	TPMLock    // a chip gives its secret to the box that it is in
	TPMPINLock // a chip gives its secret to a member of staff
)

func (k LockKind) String() string {
	return [...]string{NoLock: "none", PassphraseLock: "passphrase", KeyFileLock: "key file", TPMLock: "TPM", TPMPINLock: "TPM and PIN"}[min(k, TPMPINLock)]
}

// HasChip reports a lock whose secret a chip keeps.
func (k LockKind) HasChip() bool { return k == TPMLock || k == TPMPINLock }

// Opener opens a lock: what a person types, or what a file holds that is kept away from the box. The
// zero value opens nothing. It never prints itself.
type Opener struct {
	kind   LockKind
	secret []byte
}

// Format hides the secret from every verb of fmt.
func (Opener) Format(f fmt.State, _ rune) { io.WriteString(f, "(secret opener)") }

// Kind is the kind of lock that it can open.
func (o Opener) Kind() LockKind { return o.kind }

// Passphrase is an opener of what a person types. Case and the space between words do not matter.
func Passphrase(text string) Opener {
	return Opener{PassphraseLock, []byte(strings.ToLower(strings.Join(strings.Fields(text), " ")))}
}

// FileKey is the opener of a key file.
func FileKey(k Key) Opener { return Opener{KeyFileLock, k[:]} }

// What a passphrase has to be: who has the card tries as many as a farm of graphics cards can.
const (
	PassphraseWordsMin = 5
	PassphraseRunesMin = 24
	PassphraseBytesMax = 512
	passphraseWordMin  = 3 // letters of a word that counts
)

// CheckPassphrase tells whether a passphrase may be chosen. It wraps ErrWeakPassphrase.
func CheckPassphrase(text string) error {
	p := string(Passphrase(text).secret)
	if len(text) > PassphraseBytesMax || !utf8.ValidString(p) {
		return fmt.Errorf("%w: it is not plain text of up to %d bytes", ErrWeakPassphrase, PassphraseBytesMax)
	}
	words := map[string]bool{}
	for _, w := range strings.Fields(p) {
		if letters := strings.FieldsFunc(w, func(r rune) bool { return !unicode.IsLetter(r) }); len([]rune(strings.Join(letters, ""))) >= passphraseWordMin {
			words[w] = true
		}
	}
	if len(words) < PassphraseWordsMin || utf8.RuneCountInString(p) < PassphraseRunesMin {
		return fmt.Errorf("%w: it needs %d different words and %d characters: let the program make one", ErrWeakPassphrase, PassphraseWordsMin, PassphraseRunesMin)
	}
	return nil
}

// lock is how the keys of a locked file are sealed. With the key that opens it a keyring can be
// written again.
type lock struct {
	kind   LockKind
	params PINParams // of a passphrase
	salt   [16]byte
	key    Key // zero while the keyring is locked
	chip   *chipPart
}

// lockParamsMin is what one guess of a passphrase costs at least.
var lockParamsMin = PINParams{MemoryKiB: 64 << 10, Passes: 3, Threads: 1}

func (l *lock) check() error {
	switch l.kind {
	case KeyFileLock:
		if l.params != (PINParams{}) {
			return fmt.Errorf("%w: a key file costs nothing to try", ErrDamaged)
		}
		return nil
	case PassphraseLock, TPMLock, TPMPINLock:
		if err := l.params.check(); err != nil {
			return err
		}
		if l.params.MemoryKiB < lockParamsMin.MemoryKiB || l.params.Passes < lockParamsMin.Passes {
			return fmt.Errorf("%w: a passphrase costs too little to try", ErrDamaged)
		}
		return nil
	}
	return fmt.Errorf("%w: a lock of kind %d", ErrNewer, l.kind)
}

// secretOf gives the secret that an opener stands for. Passphrases wait for one another, as PINs do.
func (l *lock) secretOf(o Opener) (Key, error) {
	switch {
	case len(o.secret) == 0 || !l.takes(o.kind):
		return Key{}, fmt.Errorf("%w: it takes a %s", ErrWrongLock, l.kind)
	case o.kind != PassphraseLock:
		return Key(o.secret), nil
	case l.chip != nil:
		return l.spareSecret(o)
	}
	return l.params.stretch(o.secret, l.salt[:]), nil
}

// keyFrom gives the key of the lock.
func (l *lock) keyFrom(secret Key) Key { return deriveKey(secret, l.salt[:], []byte("hp:lock:1")) }

// takes reports whether an opener of that kind may open the lock. A chip's lock takes the chip's secret, or
// the passphrase that was made with it.
func (l *lock) takes(kind LockKind) bool {
	return kind == l.kind && !kind.HasChip() || l.kind.HasChip() && (kind == TPMLock || kind == PassphraseLock)
}

// Lock has the keys written under an opener from the next Save on. Passphrases are checked, and cost at
// least 64 MiB and three passes a guess. It wraps ErrWeakPassphrase.
func (k *Keyring) Lock(rand io.Reader, o Opener) error {
	l := &lock{kind: o.kind}
	if o.kind.HasChip() {
		return fmt.Errorf("locking the keys: %w: a chip alone is no lock", ErrWrongLock)
	}
	if o.kind == PassphraseLock {
		if err := CheckPassphrase(string(o.secret)); err != nil {
			return err
		}
		l.params = lockParamsMin
	}
	if _, err := io.ReadFull(rand, l.salt[:]); err != nil {
		return fmt.Errorf("drawing a salt: %w", err)
	}
	if err := errors.Join(l.check(), k.check()); err != nil {
		return fmt.Errorf("locking the keys: %w", err)
	}
	secret, err := l.secretOf(o)
	if err != nil {
		return fmt.Errorf("locking the keys: %w", err)
	}
	l.key, k.lock = l.keyFrom(secret), l
	return nil
}

// TakeLockOff has the keys written in the clear from the next Save on.
func (k *Keyring) TakeLockOff() error {
	if k.Locked() {
		return fmt.Errorf("taking the lock off: %w", ErrWrongLock)
	}
	k.lock = nil
	return nil
}

// UseLockOf has these keys written as those are, which are the same box's.
func (k *Keyring) UseLockOf(other *Keyring) { k.lock = other.lock }

// LockKind is what opens the file of this keyring.
func (k *Keyring) LockKind() LockKind {
	if k.lock == nil {
		return NoLock
	}
	return k.lock.kind
}

// Locked reports a keyring of which only the device's key is there: it signs, and reads nothing.
func (k *Keyring) Locked() bool { return k.sealed != nil }

// Open gives the whole keyring of a locked one, which stays as it is. It wraps ErrWrongLock.
func (k *Keyring) Open(o Opener) (*Keyring, error) {
	if !k.Locked() {
		return nil, fmt.Errorf("opening the keys: %w: they are not locked", ErrWrongLock)
	}
	l := *k.lock
	secret, err := l.secretOf(o)
	if err != nil {
		return nil, fmt.Errorf("opening the keys: %w", err)
	}
	key := l.keyFrom(secret)
	plain, err := rowAEAD(key).Open(nil, k.sealed[:chacha20poly1305.NonceSizeX], k.sealed[chacha20poly1305.NonceSizeX:], k.lockContext())
	if err != nil {
		return nil, fmt.Errorf("opening the keys: %w", ErrWrongLock) // the sum of the file was compared
	}
	whole, err := decodeKeyringInside(plain)
	if err != nil {
		return nil, fmt.Errorf("opening the keys: %w: %v", ErrDamaged, err)
	}
	if whole.Device != k.Device {
		return nil, fmt.Errorf("opening the keys: %w: they are another box's", ErrDamaged)
	}
	l.key, whole.lock = key, &l
	if l.chip != nil {
		l.chip = l.chip.with(secret)
	}
	return whole, nil
}

// lockedArray is what a locked file holds inside: the device's key in the clear, so that a box without
// anybody to open it signs and exchanges, and all keys sealed:
// nonce24 || XChaCha20-Poly1305(key of the lock, lockContext, keyringArray).
type lockedArray struct {
	_         struct{} `cbor:",toarray"`
	Device    []byte
	Kind      uint8
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
	Salt      []byte
	Sealed    []byte
}

func (k *Keyring) lockContext() []byte {
	l := k.lock
	if l.chip != nil {
		return mustMarshal(l.chipArray(k.Device, []byte{}))
	}
	return mustMarshal(lockedArray{Device: k.Device[:], Kind: uint8(l.kind), MemoryKiB: l.params.MemoryKiB, Passes: l.params.Passes, Threads: l.params.Threads, Salt: l.salt[:], Sealed: []byte{}})
}

// encodeLocked gives the inside of a locked file, and the version that has it.
func (k *Keyring) encodeLocked(plain []byte) ([]byte, uint8, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := rand.Read(nonce); err != nil {
		return nil, 0, fmt.Errorf("drawing a nonce: %w", err)
	}
	l, sealed := k.lock, rowAEAD(k.lock.key).Seal(nonce, nonce, plain, k.lockContext())
	if l.chip != nil {
		return mustMarshal(l.chipArray(k.Device, sealed)), chipVersion, nil
	}
	return mustMarshal(lockedArray{Device: k.Device[:], Kind: uint8(l.kind), MemoryKiB: l.params.MemoryKiB, Passes: l.params.Passes, Threads: l.params.Threads, Salt: l.salt[:], Sealed: sealed}), lockedVersion, nil
}

func decodeLockedInside(b []byte) (*Keyring, error) {
	var a lockedArray
	if err := record.Unmarshal(b, &a); err != nil {
		return nil, err
	}
	l := &lock{kind: LockKind(a.Kind), params: PINParams{MemoryKiB: a.MemoryKiB, Passes: a.Passes, Threads: a.Threads}}
	if l.kind.HasChip() {
		return nil, fmt.Errorf("%w: a lock of another version", ErrDamaged)
	}
	return lockedKeyring(l, a.Device, a.Salt, a.Sealed)
}

func lockedKeyring(l *lock, device, salt, sealed []byte) (*Keyring, error) {
	if len(device) != keyBytes || len(salt) != len(l.salt) || len(sealed) < chacha20poly1305.NonceSizeX+chacha20poly1305.Overhead {
		return nil, fmt.Errorf("%w: lengths", ErrDamaged)
	}
	l.salt = [16]byte(salt)
	k := &Keyring{Device: Key(device), Reading: map[KeyID]Key{}, lock: l, sealed: bytes.Clone(sealed)}
	if k.Device.IsZero() {
		return nil, fmt.Errorf("%w: no key of the device", ErrDamaged)
	}
	return k, l.check()
}

const keyFileHead = "healthpost key file, keep it away from the box\n"

// MakeKeyFile writes a new key file, durable on return. There must be none at path.
func MakeKeyFile(rand io.Reader, path string) (Key, error) {
	k, err := NewKey(rand)
	if err != nil {
		return Key{}, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Key{}, fmt.Errorf("making the key file: %w", err)
	}
	_, err = io.WriteString(f, keyFileHead+hex.EncodeToString(k[:])+"\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return Key{}, errors.Join(fmt.Errorf("making the key file: %w", err), os.Remove(path))
	}
	return k, nil
}

// LoadKeyFile reads a key file. Errors wrap fs.ErrNotExist or ErrDamaged and never show what is in it.
func LoadKeyFile(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("opening the key file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return Key{}, fmt.Errorf("reading the key file: %w: it is not a regular file", errors.Join(ErrDamaged, err))
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<10))
	if err != nil {
		return Key{}, fmt.Errorf("reading the key file: %w", err)
	}
	return DecodeKeyFile(b)
}

// DecodeKeyFile reads the bytes of a key file. Its errors wrap ErrDamaged.
func DecodeKeyFile(b []byte) (Key, error) {
	text, ok := strings.CutPrefix(strings.ReplaceAll(string(b), "\r\n", "\n"), keyFileHead)
	raw, err := hex.DecodeString(strings.TrimSpace(text))
	if !ok || err != nil || len(raw) != keyBytes || Key(raw).IsZero() {
		return Key{}, fmt.Errorf("reading the key file: %w: it is none that 'healthpost keys lock' made", ErrDamaged)
	}
	return Key(raw), nil
}
