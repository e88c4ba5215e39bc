package seal

import (
	"crypto/ecdh"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// ParcelReceiversMax bounds to how many boxes one parcel is sealed.
const ParcelReceiversMax = 256

// ParcelSlotBytes is the length of a slot: the parcel's key, sealed to one receiver.
const ParcelSlotBytes = keyBytes + sealToOverhead

const parcelInfo = "parcel"

// Parcel seals the blocks of one parcel: each with ChaCha20-Poly1305 under a key of
// this parcel alone, with the block's index as nonce and the slots as additional
// data. A slot is that key sealed to a receiver (SealTo, info "parcel"). Slots tell
// how many receivers there are, not who.
type Parcel struct {
	key   Key
	slots []byte
}

// NewParcel draws a key and seals it to each receiver.
func NewParcel(rand io.Reader, to []*ecdh.PublicKey) (*Parcel, error) {
	if len(to) == 0 || len(to) > ParcelReceiversMax {
		return nil, fmt.Errorf("sealing a parcel: %w: %d receivers, 1 to %d may be", ErrTooLarge, len(to), ParcelReceiversMax)
	}
	key, err := NewKey(rand)
	if err != nil {
		return nil, err
	}
	p := &Parcel{key: key}
	for _, pub := range to {
		slot, err := SealTo(pub, []byte(parcelInfo), key[:])
		if err != nil {
			return nil, fmt.Errorf("sealing a parcel: %w", err)
		}
		p.slots = append(p.slots, slot...)
	}
	return p, nil
}

// OpenParcel finds the slot that priv opens. It wraps ErrNoKey when there is none.
func OpenParcel(priv *ecdh.PrivateKey, slots []byte) (*Parcel, error) {
	if len(slots) == 0 || len(slots)%ParcelSlotBytes != 0 || len(slots) > ParcelReceiversMax*ParcelSlotBytes {
		return nil, fmt.Errorf("opening a parcel: %w: %d bytes of slots", ErrDamaged, len(slots))
	}
	for at := 0; at < len(slots); at += ParcelSlotBytes {
		key, err := OpenWith(priv, []byte(parcelInfo), slots[at:at+ParcelSlotBytes])
		if err == nil && len(key) == keyBytes {
			return &Parcel{key: Key(key), slots: slots}, nil
		}
	}
	return nil, fmt.Errorf("opening a parcel: %w: it is for another box", ErrNoKey)
}

// Slots go in the clear beside every block.
func (p *Parcel) Slots() []byte { return p.slots }

// Seal seals the block with that index, which is used once.
func (p *Parcel) Seal(index uint32, plain []byte) []byte {
	return onceAEAD(p.key).Seal(nil, parcelNonce(index), plain, p.slots)
}

// Open opens what Seal gave.
func (p *Parcel) Open(index uint32, box []byte) ([]byte, error) {
	plain, err := onceAEAD(p.key).Open(nil, parcelNonce(index), box, p.slots)
	if err != nil {
		return nil, fmt.Errorf("opening a block of a parcel: %w", ErrDamaged)
	}
	return plain, nil
}

func parcelNonce(index uint32) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, chacha20poly1305.NonceSize-4, chacha20poly1305.NonceSize), index)
}
