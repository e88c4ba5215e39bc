package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// A dictionary is what the bodies of a region have in common, kept out of each of
// them by a compressor. The body of a KindDictionary record is one dictionary as
// RFC 8878 section 5 has it. Its name is the SHA-256 of its bytes. Bodies carry its
// number, which stands in bytes 4 to 7, little endian, and follows from the rest:
//
//	number = 2^15 + (the first 4 bytes of SHA-256(bytes with the number zero), little endian) mod (2^31 - 2^15)
//
// so that the ledger can hold no two that bodies would take for each other: of two
// with one number the first counts. None is ever taken back.
type Dictionary struct {
	Number uint32
	Name   Hash // SHA-256 of Bytes
	Bytes  []byte
}

// Limits of dictionaries.
const (
	DictionaryBytesMax  = 160 << 10
	DictionaryNumberMin = 1 << 15 // RFC 8878 section 5 keeps those below
	DictionariesMax     = 64      // in one ledger; later ones have no effect

	dictionaryBytesMin  = 16
	dictionaryNumberEnd = 1 << 31
)

var dictionaryMagic = []byte{0x37, 0xa4, 0x30, 0xec}

func dictionaryNumber(b []byte) uint32 {
	h := sha256.New()
	h.Write(b[:4])
	h.Write(make([]byte, 4))
	h.Write(b[8:])
	return DictionaryNumberMin + binary.LittleEndian.Uint32(h.Sum(nil))%(dictionaryNumberEnd-DictionaryNumberMin)
}

// NumberDictionary writes the number that follows from its content into a
// dictionary of at least 8 bytes.
func NumberDictionary(b []byte) {
	binary.LittleEndian.PutUint32(b[4:8], dictionaryNumber(b))
}

// DecodeDictionary reads the body of a dictionary record. Whether a compressor
// takes it is not looked at. The error wraps ErrMalformed.
func DecodeDictionary(body []byte) (Dictionary, error) {
	if len(body) < dictionaryBytesMin || len(body) > DictionaryBytesMax || !bytes.Equal(body[:4], dictionaryMagic) {
		return Dictionary{}, fmt.Errorf("reading a dictionary: %w: size or first bytes", ErrMalformed)
	}
	d := Dictionary{Number: binary.LittleEndian.Uint32(body[4:8]), Name: sha256.Sum256(body), Bytes: body}
	if d.Number != dictionaryNumber(body) {
		return Dictionary{}, fmt.Errorf("reading a dictionary: %w: its number is not that of its content", ErrMalformed)
	}
	return d, nil
}

// OrderedDictionary is a dictionary that the ledger holds.
type OrderedDictionary struct {
	_      struct{} `cbor:",toarray"`
	Number uint32
	Name   []byte // 32
	Seq    uint64 // of its record
}

type dictionariesRow struct {
	_    struct{} `cbor:",toarray"`
	List []OrderedDictionary
}

// DictionariesOf lists the dictionaries of the ledger in this state, in its order.
func DictionariesOf(s interface {
	Registry(key []byte) ([]byte, bool, error)
}) ([]OrderedDictionary, error) {
	b, ok, err := s.Registry([]byte{registryDictionary})
	if err != nil || !ok {
		return nil, err
	}
	var row dictionariesRow
	if err := Unmarshal(b, &row); err != nil {
		return nil, fmt.Errorf("reading the list of dictionaries: %w", errors.Join(ErrState, err))
	}
	return row.List, nil
}

// addDictionary takes a dictionary up, by a hub. One that is there already, one
// whose number is taken and one too many change nothing: refusing them would stop
// the lane of a hub that was only slower.
func (c *change) addDictionary(r *Record, author DeviceID) error {
	d, err := DecodeDictionary(r.Body)
	if err != nil {
		return err
	}
	if _, err := c.mayAdmit(author); err != nil {
		return err
	}
	list, err := DictionariesOf(registryOf(c.registry))
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.Number == d.Number {
			return nil
		}
	}
	if len(list) >= DictionariesMax {
		return nil
	}
	list = append(list, OrderedDictionary{Number: d.Number, Name: d.Name[:], Seq: c.o.size})
	c.put([]byte{registryDictionary}, mustMarshal(dictionariesRow{List: list}))
	return nil
}

// registryOf makes a lookup of registry rows what DictionariesOf reads from.
type registryOf func(key []byte) ([]byte, bool, error)

func (f registryOf) Registry(key []byte) ([]byte, bool, error) { return f(key) }
