package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// What a caller does about an error decides which of these it wraps.
var (
	ErrNoKey    = errors.New("no key for this")          // keep it; a wrap may arrive later
	ErrDamaged  = errors.New("damaged or not authentic") // refuse it
	ErrNewer    = errors.New("made by newer software")   // keep it; an update will read it
	ErrTooLarge = errors.New("too large")                // tell the author; nothing was stored
)

const keyBytes = 32

// Key is a secret of 32 bytes. It never prints itself.
type Key [keyBytes]byte

// Format hides the key from every verb of fmt.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "(secret key)") }

// MarshalText hides the key from JSON and from loggers.
func (Key) MarshalText() ([]byte, error) { return []byte("(secret key)"), nil }

// IsZero reports a key that was never set.
func (k Key) IsZero() bool { return k == Key{} }

// NewKey draws a key from rand.
func NewKey(rand io.Reader) (Key, error) {
	var k Key
	if _, err := io.ReadFull(rand, k[:]); err != nil {
		return Key{}, fmt.Errorf("drawing a key: %w", err)
	}
	return k, nil
}

// Derive gives the key that root yields for one use. Different labels give
// unrelated keys, and none of them reveals root.
func Derive(root Key, label string) Key {
	return deriveKey(root, nil, []byte("hp:derive:1\x00"+label))
}

func deriveKey(secret Key, salt, info []byte) Key {
	b, err := hkdf.Key(sha256.New, secret[:], salt, string(info), keyBytes)
	if err != nil {
		panic(err) // fixed lengths: cannot fail on input
	}
	return Key(b)
}

// KeyID names a key without giving anything of it away.
type KeyID [8]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports an id that names no key.
func (id KeyID) IsZero() bool { return id == KeyID{} }

func (id KeyID) compare(other KeyID) int { return bytes.Compare(id[:], other[:]) }

// ID names a symmetric key: the first 8 bytes of SHA-256("hp:keyid:1\0" || key).
func (k Key) ID() KeyID {
	sum := sha256.Sum256(append([]byte("hp:keyid:1\x00"), k[:]...))
	return KeyID(sum[:8])
}

var zeroNonce [chacha20poly1305.NonceSize]byte

// onceAEAD is for keys that seal a single message: its nonce is always zero.
func onceAEAD(k Key) cipher.AEAD {
	a, err := chacha20poly1305.New(k[:])
	if err != nil {
		panic(err) // fixed length: cannot fail on input
	}
	return a
}
