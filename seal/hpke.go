package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"
)

// SealToBytesMax bounds what SealTo takes: keys and small settings, not bodies.
const SealToBytesMax = 64 << 10

// sealToOverhead is the encapsulated X25519 key and the tag.
const sealToOverhead = 32 + 16

const hpkeDomain = "hp:to:1\x00"

// PublicKeyID names an X25519 key: the first 8 bytes of SHA-256("hp:keyid:x25519:1\0" || key).
func PublicKeyID(pub *ecdh.PublicKey) KeyID {
	sum := sha256.Sum256(append([]byte("hp:keyid:x25519:1\x00"), pub.Bytes()...))
	return KeyID(sum[:8])
}

// SealTo seals plain for the holder of the X25519 key pub: HPKE base mode (RFC
// 9180) with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305, 48
// bytes longer than plain. info says what it is for, and must be the same when
// it is opened. Anybody can seal to a public key: who sent it is told by the
// signature of the record or message around it.
func SealTo(pub *ecdh.PublicKey, info, plain []byte) ([]byte, error) {
	if len(plain) > SealToBytesMax {
		return nil, fmt.Errorf("sealing to a key: %w: %d bytes, at most %d", ErrTooLarge, len(plain), SealToBytesMax)
	}
	to, err := hpke.NewDHKEMPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("sealing to a key: %w", err)
	}
	box, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), hpkeInfo(info), plain)
	if err != nil {
		return nil, fmt.Errorf("sealing to a key: %w", err)
	}
	return box, nil
}

// OpenWith opens what SealTo made. Its errors wrap ErrDamaged: a box for another
// key or another info cannot be told from a changed one.
func OpenWith(priv *ecdh.PrivateKey, info, box []byte) ([]byte, error) {
	if len(box) < sealToOverhead || len(box) > SealToBytesMax+sealToOverhead {
		return nil, fmt.Errorf("opening with a key: %w: %d bytes", ErrDamaged, len(box))
	}
	with, err := hpke.NewDHKEMPrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("opening with a key: %w", err)
	}
	plain, err := hpke.Open(with, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), hpkeInfo(info), box)
	if err != nil {
		return nil, fmt.Errorf("opening with a key: %w", ErrDamaged)
	}
	return plain, nil
}

func hpkeInfo(info []byte) []byte { return append([]byte(hpkeDomain), info...) }
