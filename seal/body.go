package seal

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/healthpost/healthpost/record"
)

const (
	saltBytes = 8
	padBytes  = 32
)

// Seal packs and seals plain as the body of the record at pos. gen is the
// generation of key among the keys of the compartment. The same position is
// never sealed twice with different content: the caller makes a position
// durable before any byte of it leaves the process.
func Seal(rand io.Reader, key Key, gen uint64, pos record.Position, kind record.Kind, comp record.CompartmentID, plain []byte) ([]byte, error) {
	p, err := Pack(plain)
	if err != nil {
		return nil, err
	}
	return p.Seal(rand, key, gen, pos, kind, comp)
}

// Open gives back what Seal was given. keys looks a generation up among the
// keys of the compartment. The errors wrap ErrNoKey, ErrDamaged or ErrNewer.
func Open(keys func(gen uint64) (Key, bool), pos record.Position, kind record.Kind, comp record.CompartmentID, body []byte) ([]byte, error) {
	return (*Dictionaries)(nil).Open(keys, pos, kind, comp, body)
}

// Open is the function Open for bodies that may be packed with a dictionary of the
// ledger.
func (d *Dictionaries) Open(keys func(gen uint64) (Key, bool), pos record.Position, kind record.Kind, comp record.CompartmentID, body []byte) ([]byte, error) {
	gen, rest, err := splitGeneration(body)
	if err != nil {
		return nil, err
	}
	key, ok := keys(gen)
	if !ok {
		return nil, fmt.Errorf("opening a body: %w: generation %d", ErrNoKey, gen)
	}
	return d.OpenDisclosed(bodyKey(key, rest[:saltBytes], pos), pos, kind, comp, body)
}

// Generation tells which of the compartment's keys a body needs.
func Generation(body []byte) (uint64, error) {
	gen, _, err := splitGeneration(body)
	return gen, err
}

// Seal seals a packed body for the record at pos; see the function Seal.
func (p Packed) Seal(rand io.Reader, key Key, gen uint64, pos record.Position, kind record.Kind, comp record.CompartmentID) ([]byte, error) {
	if key.IsZero() {
		return nil, fmt.Errorf("sealing a body: %w", ErrNoKey)
	}
	size := p.SealedLen(gen)
	if size > record.BodyBytesMax {
		return nil, fmt.Errorf("sealing a body of %d bytes: %w: at most %d", size, ErrTooLarge, record.BodyBytesMax)
	}
	body := binary.AppendUvarint(make([]byte, 0, size), gen)
	salt := body[len(body) : len(body)+saltBytes]
	if _, err := io.ReadFull(rand, salt); err != nil {
		return nil, fmt.Errorf("drawing a salt: %w", err)
	}
	body = body[:len(body)+saltBytes]
	return onceAEAD(bodyKey(key, salt, pos)).Seal(body, zeroNonce[:], p.pad(), bodyAAD(pos, kind, comp)), nil
}

// SealedLen is the length of the body that Seal will make.
func (p Packed) SealedLen(gen uint64) int {
	return uvarintLen(gen) + saltBytes + (len(p)/padBytes+1)*padBytes + chacha20poly1305.Overhead
}

func splitGeneration(body []byte) (gen uint64, rest []byte, err error) {
	gen, n := binary.Uvarint(body)
	if n <= 0 || n != uvarintLen(gen) {
		return 0, nil, fmt.Errorf("opening a body: %w: generation", ErrDamaged)
	}
	box := len(body) - n - saltBytes - chacha20poly1305.Overhead
	if box < padBytes || box%padBytes != 0 || len(body) > record.BodyBytesMax {
		return 0, nil, fmt.Errorf("opening a body: %w: %d bytes", ErrDamaged, len(body))
	}
	return gen, body[n:], nil
}

func bodyKey(dek Key, salt []byte, pos record.Position) Key {
	info := append([]byte("hp:body:1"), pos.Epoch[:]...)
	info = append(info, byte(pos.Lane))
	info = binary.BigEndian.AppendUint64(info, pos.N)
	return deriveKey(dek, salt, info)
}

type bodyContext struct {
	_           struct{} `cbor:",toarray"`
	V           uint8
	Epoch       []byte
	Lane        uint8
	N           uint64
	Kind        uint16
	Compartment []byte
}

func bodyAAD(pos record.Position, kind record.Kind, comp record.CompartmentID) []byte {
	return mustMarshal(bodyContext{V: record.Version, Epoch: pos.Epoch[:], Lane: uint8(pos.Lane), N: pos.N, Kind: uint16(kind), Compartment: comp[:]})
}

func (p Packed) pad() []byte {
	out := make([]byte, (len(p)/padBytes+1)*padBytes)
	out[copy(out, p)] = 0x80
	return out
}

func unpad(b []byte) (Packed, error) {
	for end := len(b) - 1; end >= 0 && end >= len(b)-padBytes; end-- {
		switch b[end] {
		case 0:
		case 0x80:
			return Packed(b[:end]), nil
		default:
			end = 0
		}
	}
	return nil, fmt.Errorf("opening a body: %w: padding", ErrDamaged)
}

func mustMarshal(v any) []byte {
	b, err := record.Marshal(v)
	if err != nil {
		panic(err) // only for types of this package, all of which encode
	}
	return b
}
