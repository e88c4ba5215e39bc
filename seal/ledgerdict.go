package seal

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/dict"
)

// UnknownDictionary: a body was packed with a dictionary of the ledger that this
// box does not have yet. It wraps ErrNewer: the body is kept, and can be read once
// the dictionary has come.
type UnknownDictionary struct{ Number uint32 }

func (e *UnknownDictionary) Error() string {
	return fmt.Sprintf("dictionary %d of the ledger is not here", e.Number)
}

func (e *UnknownDictionary) Unwrap() error { return ErrNewer }

// Dictionaries holds those dictionaries of one ledger that have come, and packs
// with the last of them. The zero value has none and packs as Pack does; so has nil,
// for reading. Its methods may be called at the same time.
type Dictionaries struct {
	mu      sync.Mutex // guards what follows; the coders themselves queue callers
	known   map[uint32]*zstd.Decoder
	bytes   map[uint32][]byte
	current *zstd.Encoder
}

// Add takes up a dictionary; bodies are packed with the one added last. Adding one
// again changes nothing. An error means that no body can have been packed with it.
func (d *Dictionaries) Add(x record.Dictionary) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[x.Number]; ok {
		return nil
	}
	if len(d.known) >= record.DictionariesMax {
		return fmt.Errorf("adding a dictionary: %w: at most %d", ErrTooLarge, record.DictionariesMax)
	}
	enc, err := newEncoder(zstd.SpeedBetterCompression, zstd.WithEncoderDict(x.Bytes))
	if err != nil {
		return fmt.Errorf("adding a dictionary: %w: %v", ErrDamaged, err)
	}
	dec, err := newDecoder([][]byte{x.Bytes})
	if err != nil {
		return fmt.Errorf("adding a dictionary: %w: %v", ErrDamaged, err)
	}
	if d.known == nil {
		d.known, d.bytes = map[uint32]*zstd.Decoder{}, map[uint32][]byte{}
	}
	d.known[x.Number], d.bytes[x.Number], d.current = dec, x.Bytes, enc
	return nil
}

// Bytes gives a dictionary that was added.
func (d *Dictionaries) Bytes(number uint32) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.bytes[number]
	return b, ok
}

func (d *Dictionaries) decoder(number uint32) (*zstd.Decoder, bool) {
	if d == nil {
		return nil, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dec, ok := d.known[number]
	return dec, ok
}

func (d *Dictionaries) encoder() *zstd.Encoder {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// Pack is the function Pack, or the last dictionary of the ledger where that makes
// the body shorter: what a region imports may read unlike what its pages write.
func (d *Dictionaries) Pack(plain []byte) (Packed, error) {
	packed, err := Pack(plain)
	enc := d.encoder()
	if err != nil || enc == nil || len(plain) == 0 || len(plain) > dictPlainBytesMax {
		return packed, err
	}
	text, table := dict.SetUUIDsAside(plain)
	head := append(Packed{methodLedger, byte(len(table) / dict.UUIDBytes)}, table...)
	if other := appendFrame(head, enc, text); len(other) < len(packed) {
		return other, nil
	}
	return packed, nil
}

// Unpack gives back what Pack was given. Its errors are those of Packed.Unpack and
// UnknownDictionary.
func (d *Dictionaries) Unpack(p Packed) ([]byte, error) { return p.unpack(d) }

func unpackLedger(rest []byte, ledger *Dictionaries) ([]byte, error) {
	table, frame, err := splitTable(rest)
	if err != nil {
		return nil, err
	}
	h, err := frameHeader(append(zstdMagic[:len(zstdMagic):len(zstdMagic)], frame...))
	if err != nil {
		return nil, err
	}
	if h.DictionaryID < record.DictionaryNumberMin {
		return nil, fmt.Errorf("unpacking a body: %w: dictionary number", ErrDamaged)
	}
	dec, ok := ledger.decoder(h.DictionaryID)
	if !ok {
		return nil, fmt.Errorf("unpacking a body: %w", &UnknownDictionary{h.DictionaryID})
	}
	text, err := unpackFrame(frame, h.DictionaryID, func() (*zstd.Decoder, error) { return dec, nil })
	if err != nil {
		return nil, err
	}
	return putUUIDsBack(text, table)
}
