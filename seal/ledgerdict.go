package seal

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/dict"
)

// UnknownDictionary: a body was packed with a dictionary of the ledger that this
// box does not have yet. It wraps ErrNewer: the body is kept, and can be read once
// the dictionary has come.
type UnknownDictionary struct{ ID record.DictionaryID }

func (e *UnknownDictionary) Error() string {
	return fmt.Sprintf("dictionary %s of the ledger is not here", e.ID)
}

func (e *UnknownDictionary) Unwrap() error { return ErrNewer }

// Dictionaries holds those dictionaries of one ledger that have come, and packs
// with the last of them. The zero value has none and packs as Pack does; so has nil,
// for reading. Its methods may be called at the same time.
type Dictionaries struct {
	mu      sync.Mutex // guards what follows; the coders themselves queue callers
	known   map[record.DictionaryID]ledgerDictionary
	current *ledgerEncoder
}

type ledgerDictionary struct {
	decoder *zstd.Decoder
	bytes   []byte
}

type ledgerEncoder struct {
	id  record.DictionaryID
	enc *zstd.Encoder
}

// Add takes up a dictionary; bodies are packed with the one added last. Adding one
// again changes nothing. An error means that no body can have been packed with it.
func (d *Dictionaries) Add(x record.Dictionary) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[x.ID]; ok {
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
		d.known = map[record.DictionaryID]ledgerDictionary{}
	}
	d.known[x.ID], d.current = ledgerDictionary{dec, x.Bytes}, &ledgerEncoder{x.ID, enc}
	return nil
}

// Bytes gives a dictionary that was added.
func (d *Dictionaries) Bytes(id record.DictionaryID) ([]byte, bool) {
	x, ok := d.get(id)
	return x.bytes, ok
}

func (d *Dictionaries) get(id record.DictionaryID) (ledgerDictionary, bool) {
	if d == nil {
		return ledgerDictionary{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.known[id]
	return x, ok
}

func (d *Dictionaries) encoder() *ledgerEncoder {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// Pack is the function Pack, or the last dictionary of the ledger where that makes
// the body shorter: what a region imports may read unlike what its pages write.
func (d *Dictionaries) Pack(plain []byte) (Packed, error) {
	packed, err := Pack(plain)
	last := d.encoder()
	if err != nil || last == nil || len(plain) == 0 || len(plain) > dictPlainBytesMax {
		return packed, err
	}
	text, table := dict.SetUUIDsAside(plain)
	head := append(append(Packed{methodLedger}, last.id[:]...), byte(len(table)/dict.UUIDBytes))
	head = append(head, table...)
	other := appendFrame(head, last.enc, text)
	if other = withoutNumber(other, len(head)); other != nil && len(other) < len(packed) {
		return other, nil
	}
	return packed, nil
}

// Unpack gives back what Pack was given. Its errors are those of Packed.Unpack and
// UnknownDictionary.
func (d *Dictionaries) Unpack(p Packed) ([]byte, error) { return p.unpack(d) }

const (
	numberBytes = 4
	numberFlag  = 3 // in the first byte of a frame: its dictionary's number has 4 bytes
	singleFlag  = 1 << 5
)

// withoutNumber takes the number of the dictionary out of the frame that begins at
// p[at:]: the ID stands before it. nil for a frame that has none.
func withoutNumber(p Packed, at int) Packed {
	if len(p) < at+1+numberBytes || p[at]&numberFlag != numberFlag || p[at]&singleFlag == 0 {
		return nil
	}
	p[at] &^= numberFlag
	return append(p[:at+1], p[at+1+numberBytes:]...)
}

// withNumber puts the number back.
func withNumber(frame []byte) ([]byte, bool) {
	if len(frame) == 0 || frame[0]&numberFlag != 0 || frame[0]&singleFlag == 0 {
		return nil, false
	}
	out := append(make([]byte, 0, len(frame)+numberBytes), frame[0]|numberFlag)
	out = binary.LittleEndian.AppendUint32(out, record.DictionaryNumber)
	return append(out, frame[1:]...), true
}

func unpackLedger(rest []byte, ledger *Dictionaries) ([]byte, error) {
	if len(rest) < len(record.DictionaryID{}) {
		return nil, fmt.Errorf("unpacking a body: %w: dictionary", ErrDamaged)
	}
	id := record.DictionaryID(rest[:len(record.DictionaryID{})])
	table, frame, err := splitTable(rest[len(id):])
	if err != nil {
		return nil, err
	}
	full, ok := withNumber(frame)
	if !ok {
		return nil, fmt.Errorf("unpacking a body: %w: frame header", ErrDamaged)
	}
	x, ok := ledger.get(id)
	if !ok {
		return nil, fmt.Errorf("unpacking a body: %w", &UnknownDictionary{id})
	}
	text, err := unpackFrame(full, record.DictionaryNumber, func() (*zstd.Decoder, error) { return x.decoder, nil })
	if err != nil {
		return nil, err
	}
	return putUUIDsBack(text, table)
}
