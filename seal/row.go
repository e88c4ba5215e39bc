package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// Blind gives the name under which a search token is filed: the first 16 bytes
// of HMAC-SHA256(key, "hp:blind:1\0" || uvarint length || label || token). Equal
// tokens under one label have equal names; without the key nothing else is told.
func Blind(key Key, label string, token []byte) [16]byte {
	m := hmac.New(sha256.New, key[:])
	head := binary.AppendUvarint([]byte("hp:blind:1\x00"), uint64(len(label)))
	m.Write(append(head, label...))
	m.Write(token)
	return [16]byte(m.Sum(nil))
}

const rowDomain = "hp:row:1\x00"

// SealRow seals a row of the store under its own key: nonce24 ||
// XChaCha20-Poly1305, bound to rowKey so that rows cannot change places.
func SealRow(rand io.Reader, key Key, rowKey, plain []byte) ([]byte, error) {
	if key.IsZero() {
		return nil, fmt.Errorf("sealing a row: %w", ErrNoKey)
	}
	if len(plain) > PlainBytesMax {
		return nil, fmt.Errorf("sealing a row of %d bytes: %w: at most %d", len(plain), ErrTooLarge, PlainBytesMax)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("drawing a nonce: %w", err)
	}
	return rowAEAD(key).Seal(nonce, nonce, plain, rowAAD(rowKey)), nil
}

// OpenRow gives back what SealRow was given. Its errors wrap ErrDamaged.
func OpenRow(key Key, rowKey, row []byte) ([]byte, error) {
	const nonceLen = chacha20poly1305.NonceSizeX
	if len(row) < nonceLen+chacha20poly1305.Overhead {
		return nil, fmt.Errorf("opening a row: %w: %d bytes", ErrDamaged, len(row))
	}
	plain, err := rowAEAD(key).Open(nil, row[:nonceLen], row[nonceLen:], rowAAD(rowKey))
	if err != nil {
		return nil, fmt.Errorf("opening a row: %w", ErrDamaged)
	}
	return plain, nil
}

func rowAEAD(k Key) cipher.AEAD {
	a, err := chacha20poly1305.NewX(k[:])
	if err != nil {
		panic(err) // fixed length: cannot fail on input
	}
	return a
}

func rowAAD(rowKey []byte) []byte { return append([]byte(rowDomain), rowKey...) }
