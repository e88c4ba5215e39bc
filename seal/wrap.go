package seal

import (
	"bytes"
	"cmp"
	"crypto/ecdh"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/healthpost/healthpost/record"
)

// Limits of the body of one key-wrap record.
const (
	WrapsMax        = 512
	WrapBoxBytesMax = 1536 // leaves room for a post-quantum box
)

const (
	wrapVersion = 1
	wrapBoxLen  = saltBytes + keyBytes + chacha20poly1305.Overhead
)

// Wrap hands one generation of a compartment's key to one recipient.
type Wrap struct {
	Compartment record.CompartmentID
	Generation  uint64
	Recipient   KeyID // names the key that opens Box
	Box         []byte
}

// WrapKey wraps dek under a key that the recipients share. rand gives the salt,
// so two boxes that make the same generation apart from each other reveal nothing.
func WrapKey(rand io.Reader, recipient Key, comp record.CompartmentID, gen uint64, dek Key) (Wrap, error) {
	if recipient.IsZero() || dek.IsZero() {
		return Wrap{}, fmt.Errorf("wrapping a key: %w", ErrNoKey)
	}
	w := Wrap{Compartment: comp, Generation: gen, Recipient: recipient.ID()}
	salt := make([]byte, saltBytes, wrapBoxLen)
	if _, err := io.ReadFull(rand, salt); err != nil {
		return Wrap{}, fmt.Errorf("drawing a salt: %w", err)
	}
	w.Box = onceAEAD(wrapKey(recipient, salt)).Seal(salt, zeroNonce[:], dek[:], w.context())
	return w, nil
}

// UnwrapKey opens a wrap made by WrapKey. It wraps ErrNoKey when recipient is
// another key than the one the wrap names, and ErrDamaged otherwise.
func UnwrapKey(recipient Key, w Wrap) (Key, error) {
	if recipient.ID() != w.Recipient {
		return Key{}, fmt.Errorf("unwrapping a key: %w: it is for %s", ErrNoKey, w.Recipient)
	}
	if len(w.Box) != wrapBoxLen {
		return Key{}, fmt.Errorf("unwrapping a key: %w: box of %d bytes", ErrDamaged, len(w.Box))
	}
	salt, box := w.Box[:saltBytes], w.Box[saltBytes:]
	b, err := onceAEAD(wrapKey(recipient, salt)).Open(nil, zeroNonce[:], box, w.context())
	if err != nil {
		return Key{}, fmt.Errorf("unwrapping a key: %w", ErrDamaged)
	}
	return Key(b), nil
}

// WrapKeyTo wraps dek for the holder of an X25519 key.
func WrapKeyTo(recipient *ecdh.PublicKey, comp record.CompartmentID, gen uint64, dek Key) (Wrap, error) {
	w := Wrap{Compartment: comp, Generation: gen, Recipient: PublicKeyID(recipient)}
	box, err := SealTo(recipient, w.context(), dek[:])
	if err != nil {
		return Wrap{}, err
	}
	w.Box = box
	return w, nil
}

// UnwrapKeyWith opens a wrap made by WrapKeyTo; errors as for UnwrapKey.
func UnwrapKeyWith(recipient *ecdh.PrivateKey, w Wrap) (Key, error) {
	if PublicKeyID(recipient.PublicKey()) != w.Recipient {
		return Key{}, fmt.Errorf("unwrapping a key: %w: it is for %s", ErrNoKey, w.Recipient)
	}
	b, err := OpenWith(recipient, w.context(), w.Box)
	if err != nil {
		return Key{}, err
	}
	if len(b) != keyBytes {
		return Key{}, fmt.Errorf("unwrapping a key: %w: %d bytes", ErrDamaged, len(b))
	}
	return Key(b), nil
}

func wrapKey(recipient Key, salt []byte) Key { return deriveKey(recipient, salt, []byte("hp:wrap:1")) }

type wrapContext struct {
	_           struct{} `cbor:",toarray"`
	V           uint8
	Compartment []byte
	Generation  uint64
	Recipient   []byte
}

func (w Wrap) context() []byte {
	return mustMarshal(wrapContext{V: wrapVersion, Compartment: w.Compartment[:], Generation: w.Generation, Recipient: w.Recipient[:]})
}

func (w Wrap) compare(other Wrap) int {
	return cmp.Or(bytes.Compare(w.Compartment[:], other.Compartment[:]),
		cmp.Compare(w.Generation, other.Generation), w.Recipient.compare(other.Recipient))
}

type wrapArray struct {
	_           struct{} `cbor:",toarray"`
	Compartment []byte
	Generation  uint64
	Recipient   []byte
	Box         []byte
}

type wrapsArray struct {
	_     struct{} `cbor:",toarray"`
	V     uint8
	Wraps []wrapArray
}

// EncodeWraps gives the body of a key-wrap record. The order of wraps does not
// matter; two for the same compartment, generation and recipient are an error.
func EncodeWraps(wraps []Wrap) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(wraps), Wrap.compare)
	if err := checkWraps(sorted); err != nil {
		return nil, fmt.Errorf("writing wraps: %w", err)
	}
	a := wrapsArray{V: wrapVersion, Wraps: make([]wrapArray, len(sorted))}
	for i, w := range sorted {
		a.Wraps[i] = wrapArray{Compartment: w.Compartment[:], Generation: w.Generation, Recipient: w.Recipient[:], Box: w.Box}
	}
	b := mustMarshal(a)
	if len(b) > record.BodyBytesMax {
		return nil, fmt.Errorf("writing wraps: %w: %d bytes", ErrTooLarge, len(b))
	}
	return b, nil
}

// DecodeWraps reads the body of a key-wrap record. Its errors wrap ErrDamaged or ErrNewer.
func DecodeWraps(b []byte) ([]Wrap, error) {
	if len(b) > record.BodyBytesMax {
		return nil, fmt.Errorf("reading wraps: %w: %d bytes", ErrDamaged, len(b))
	}
	var a wrapsArray
	if err := record.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("reading wraps: %w: %v", ErrDamaged, err)
	}
	if a.V != wrapVersion {
		return nil, fmt.Errorf("reading wraps: %w: version %d", ErrNewer, a.V)
	}
	if len(a.Wraps) > WrapsMax {
		return nil, fmt.Errorf("reading wraps: %w: %d of them", ErrDamaged, len(a.Wraps))
	}
	wraps := make([]Wrap, len(a.Wraps))
	for i, w := range a.Wraps {
		if len(w.Compartment) != len(wraps[i].Compartment) || len(w.Recipient) != len(wraps[i].Recipient) {
			return nil, fmt.Errorf("reading wraps: %w: wrap %d", ErrDamaged, i)
		}
		wraps[i] = Wrap{Compartment: record.CompartmentID(w.Compartment), Generation: w.Generation, Recipient: KeyID(w.Recipient), Box: w.Box}
	}
	if err := checkWraps(wraps); err != nil {
		return nil, fmt.Errorf("reading wraps: %w", err)
	}
	return wraps, nil
}

func checkWraps(wraps []Wrap) error {
	if len(wraps) == 0 || len(wraps) > WrapsMax {
		return fmt.Errorf("%w: %d wraps, want 1 to %d", ErrDamaged, len(wraps), WrapsMax)
	}
	for i, w := range wraps {
		if len(w.Box) == 0 || len(w.Box) > WrapBoxBytesMax {
			return fmt.Errorf("%w: wrap %d has a box of %d bytes", ErrDamaged, i, len(w.Box))
		}
		if i > 0 && wraps[i-1].compare(w) >= 0 {
			return fmt.Errorf("%w: wrap %d repeats or precedes the one before it", ErrDamaged, i)
		}
	}
	return nil
}
