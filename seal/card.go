package seal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/healthpost/healthpost/record"
)

// ErrCardCode is returned for text that is no card's code: mistyped, or of something else.
var ErrCardCode = errors.New("not the code of a patient's card")

// CardSecret is what a patient's card says: 128 random bits. It stands on the card
// alone; boxes keep what it leads to (Find) and what it opens with a PIN (CardLock).
// It never prints itself.
type CardSecret [16]byte

// Format hides the secret from every verb of fmt.
func (CardSecret) Format(f fmt.State, _ rune) { io.WriteString(f, "(secret of a card)") }

// MarshalText hides the secret from JSON and from loggers.
func (CardSecret) MarshalText() ([]byte, error) { return []byte("(secret of a card)"), nil }

// NewCardSecret draws a secret.
func NewCardSecret(rand io.Reader) (CardSecret, error) {
	var s CardSecret
	if _, err := io.ReadFull(rand, s[:]); err != nil {
		return CardSecret{}, fmt.Errorf("drawing a card's secret: %w", err)
	}
	return s, nil
}

// A code is 28 letters and digits of Crockford's base 32 in groups of four: the 16
// bytes of the secret, padded to 130 bits, and 10 bits of SHA-256("hp:card:sum:1" ||
// secret), by which a slip is noticed before anything is looked for.
const (
	cardAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	cardLetters  = 26
	cardSum      = 2
	cardGroup    = 4

	// CardCodeMax bounds what a code may be written with.
	CardCodeMax = 64
)

var cardBase = base32.NewEncoding(cardAlphabet).WithPadding(base32.NoPadding)

// Code is the secret as the card shows it, and as its QR code does.
func (s CardSecret) Code() string {
	text := cardBase.EncodeToString(s[:]) + s.sum()
	var b strings.Builder
	for i := 0; i < len(text); i += cardGroup {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(text[i : i+cardGroup])
	}
	return b.String()
}

func (s CardSecret) sum() string {
	h := sha256.Sum256(append([]byte("hp:card:sum:1"), s[:]...))
	return cardBase.EncodeToString(h[:])[:cardSum]
}

// ParseCardCode reads a code as people type it: in small letters, with spaces or
// strokes anywhere, O for 0, I and L for 1. The error wraps ErrCardCode.
func ParseCardCode(text string) (CardSecret, error) {
	if len(text) > CardCodeMax {
		return CardSecret{}, ErrCardCode
	}
	plain := strings.Map(func(r rune) rune {
		switch r {
		case ' ', '-', '\t', '\r', '\n', '\u00a0', '\u2010', '\u2011', '\u2012', '\u2013', '\u2014':
			return -1
		case 'O', 'o':
			return '0'
		case 'I', 'i', 'L', 'l':
			return '1'
		}
		return r
	}, text)
	plain = strings.ToUpper(plain)
	if len(plain) != cardLetters+cardSum {
		return CardSecret{}, ErrCardCode
	}
	b, err := cardBase.DecodeString(plain[:cardLetters])
	if err != nil || len(b) != len(CardSecret{}) {
		return CardSecret{}, ErrCardCode
	}
	s := CardSecret(b)
	if cardBase.EncodeToString(s[:]) != plain[:cardLetters] || s.sum() != plain[cardLetters:] {
		return CardSecret{}, ErrCardCode
	}
	return s, nil
}

// Find names the secret without giving it away: HKDF-SHA256(secret, "hp:card:find:1").
func (s CardSecret) Find() [16]byte {
	k := deriveKey(s.key(), nil, []byte("hp:card:find:1"))
	return [16]byte(k[:16])
}

func (s CardSecret) key() Key {
	var k Key
	copy(k[:], s[:])
	return k
}

// CardLock tells whether a secret and a PIN belong together, and gives the card's key where
// they do. Neither can be had from it without the other: who has the lock and the card
// tries PINs at the cost of Params each, who has the lock alone tries 2^128 secrets.
// What it keeps and the key come from the same sum by labels of their own, so that to
// know Sum and the public key is to know nothing of the private one:
//
//	stretched = argon2id(PIN, Salt)
//	Sum       = HKDF-SHA256(stretched, salt = secret, "hp:card:lock:1")
//	key       = HKDF-SHA256(stretched, salt = secret, "hp:card:key:1"), an X25519 scalar
type CardLock struct {
	Params PINParams
	Salt   [16]byte
	Sum    [32]byte
}

// Lengths of a card's PIN, in digits. It is typed by a patient, at a box that counts
// wrong tries.
const (
	CardPINMin = 4
	CardPINMax = PINDigitsMax
)

// CheckCardPIN tells whether a patient may choose a PIN. It wraps ErrWeakPIN.
func CheckCardPIN(pin string) error {
	if len(pin) < CardPINMin || len(pin) > CardPINMax || strings.Trim(pin, "0123456789") != "" {
		return fmt.Errorf("%w: it needs %d to %d digits", ErrWeakPIN, CardPINMin, CardPINMax)
	}
	if strings.Trim(pin, pin[:1]) == "" || counts(pin) {
		return fmt.Errorf("%w: it is a simple pattern", ErrWeakPIN)
	}
	return nil
}

// NewCardLock binds a secret to a PIN, and gives the public half of the key that they open.
// It wraps ErrWeakPIN.
func NewCardLock(rand io.Reader, s CardSecret, pin string, params PINParams) (CardLock, *ecdh.PublicKey, error) {
	if err := CheckCardPIN(pin); err != nil {
		return CardLock{}, nil, err
	}
	if err := params.check(); err != nil {
		return CardLock{}, nil, fmt.Errorf("locking a card: %w", err)
	}
	l := CardLock{Params: params}
	if _, err := io.ReadFull(rand, l.Salt[:]); err != nil {
		return CardLock{}, nil, fmt.Errorf("drawing a salt: %w", err)
	}
	sum, key := l.derive(s, pin)
	l.Sum = sum
	return l, key.PublicKey(), nil
}

func (l *CardLock) derive(s CardSecret, pin string) (sum [32]byte, key *ecdh.PrivateKey) {
	stretched := l.Params.stretch([]byte(pin), l.Salt[:])
	key = exchangeOf(deriveKey(stretched, s[:], []byte("hp:card:key:1")))
	return [32]byte(deriveKey(stretched, s[:], []byte("hp:card:lock:1"))), key
}

// Open gives the card's key where secret and PIN belong together. Calls wait for one
// another.
func (l *CardLock) Open(s CardSecret, pin string) (*ecdh.PrivateKey, bool) {
	if l.Params.check() != nil || len(pin) > CardPINMax {
		return nil, false
	}
	sum, key := l.derive(s, pin)
	if subtle.ConstantTimeCompare(sum[:], l.Sum[:]) != 1 {
		return nil, false
	}
	return key, true
}

const cardLockVersion = 1

type cardLockArray struct {
	_         struct{} `cbor:",toarray"`
	V         uint8
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
	Salt      []byte
	Sum       []byte
}

// Encode gives the bytes that DecodeCardLock reads. They are to be sealed before they
// are stored.
func (l *CardLock) Encode() []byte {
	return mustMarshal(cardLockArray{V: cardLockVersion, MemoryKiB: l.Params.MemoryKiB, Passes: l.Params.Passes, Threads: l.Params.Threads,
		Salt: bytes.Clone(l.Salt[:]), Sum: bytes.Clone(l.Sum[:])})
}

// DecodeCardLock reads what Encode gave. Its errors wrap ErrDamaged or ErrNewer.
func DecodeCardLock(b []byte) (CardLock, error) {
	var a cardLockArray
	if err := record.Unmarshal(b, &a); err != nil {
		return CardLock{}, fmt.Errorf("reading a card's lock: %w: %v", ErrDamaged, err)
	}
	if a.V != cardLockVersion {
		return CardLock{}, fmt.Errorf("reading a card's lock: %w: version %d", ErrNewer, a.V)
	}
	l := CardLock{Params: PINParams{MemoryKiB: a.MemoryKiB, Passes: a.Passes, Threads: a.Threads}}
	if len(a.Salt) != len(l.Salt) || len(a.Sum) != len(l.Sum) {
		return CardLock{}, fmt.Errorf("reading a card's lock: %w: lengths", ErrDamaged)
	}
	l.Salt, l.Sum = [16]byte(a.Salt), [32]byte(a.Sum)
	if err := l.Params.check(); err != nil {
		return CardLock{}, fmt.Errorf("reading a card's lock: %w", err)
	}
	return l, nil
}
