package seal

import (
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/healthpost/healthpost/record"
)

// An attachment is sealed in chunks under a key that is drawn for it alone and
// stands in the sealed body of its record:
//
//	chunk i = ChaCha20-Poly1305(K, 0(3) i(8) last(1), pad1024(plain) [i*16368, (i+1)*16368))
//
// i is big-endian and last 1 for the last chunk, so that neither an exchanged nor a
// missing end passes (the STREAM construction of Hoang, Reyhanitabar, Rogaway and
// Vizár). The padding is that of a body, to 1,024 bytes.

const (
	// BlobPlainMax is the largest attachment, in bytes.
	BlobPlainMax   = 10 << 20
	blobPadBytes   = 1 << 10
	blobPlainChunk = record.BlobChunkBytes - chacha20poly1305.Overhead
)

// SealBlob draws a key and seals an attachment with it. ErrTooLarge for more than
// BlobPlainMax bytes.
func SealBlob(rand io.Reader, plain []byte) (Key, [][]byte, error) {
	if len(plain) > BlobPlainMax {
		return Key{}, nil, fmt.Errorf("sealing an attachment of %d bytes: %w: at most %d", len(plain), ErrTooLarge, BlobPlainMax)
	}
	key, err := NewKey(rand)
	if err != nil {
		return Key{}, nil, err
	}
	padded := make([]byte, (len(plain)/blobPadBytes+1)*blobPadBytes)
	padded[copy(padded, plain)] = 0x80
	a := onceAEAD(key)
	var chunks [][]byte
	for i := 0; len(padded) > 0; i++ {
		n := min(len(padded), blobPlainChunk)
		nonce := chunkNonce(i, n == len(padded))
		chunks = append(chunks, a.Seal(nil, nonce[:], padded[:n], nil))
		padded = padded[n:]
	}
	return key, chunks, nil
}

func chunkNonce(i int, last bool) (n [chacha20poly1305.NonceSize]byte) {
	binary.BigEndian.PutUint64(n[3:], uint64(i))
	if last {
		n[11] = 1
	}
	return n
}

// OpenBlob gives back what SealBlob was given; chunk gives chunk i of b. The error
// wraps ErrDamaged where a chunk is not authentic, or is that of chunk.
func OpenBlob(key Key, b record.Blob, chunk func(i int) ([]byte, error)) ([]byte, error) {
	if b.Bytes == 0 || b.Chunks() > record.BlobChunksMax {
		return nil, fmt.Errorf("opening an attachment: %w: %d bytes", ErrDamaged, b.Bytes)
	}
	a := onceAEAD(key)
	plain := make([]byte, 0, int(b.Bytes))
	for i := range b.Chunks() {
		c, err := chunk(i)
		if err != nil {
			return nil, err
		}
		nonce := chunkNonce(i, i == b.Chunks()-1)
		if plain, err = a.Open(plain, nonce[:], c, nil); err != nil {
			return nil, fmt.Errorf("opening chunk %d of an attachment: %w", i, ErrDamaged)
		}
	}
	return unpadBlob(plain)
}

func unpadBlob(b []byte) ([]byte, error) {
	for end := len(b) - 1; end >= 0 && end >= len(b)-blobPadBytes; end-- {
		if b[end] == 0x80 {
			return b[:end:end], nil
		}
		if b[end] != 0 {
			break
		}
	}
	return nil, fmt.Errorf("opening an attachment: %w: padding", ErrDamaged)
}
