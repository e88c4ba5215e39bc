package record

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// DictionaryID is how bodies name a dictionary of the ledger: the first 8 bytes of
// the SHA-256 of its bytes.
type DictionaryID [8]byte

func (d DictionaryID) String() string { return hex.EncodeToString(d[:]) }

// A Dictionary is what the bodies of a region have in common, kept out of each of
// them by a compressor. It is the body of a KindDictionary record as it stands, in
// the format of RFC 8878 section 5, and its number there is DictionaryNumber: the
// name says which it is. Of two with one ID the first in the ledger counts. None is
// ever taken back.
type Dictionary struct {
	ID    DictionaryID
	Name  Hash // SHA-256 of Bytes
	Bytes []byte
}

// Limits of dictionaries.
const (
	DictionaryBytesMax = 160 << 10
	DictionariesMax    = 64 // in one ledger; later ones have no effect

	// DictionaryNumber stands in bytes 4 to 7, little endian, of each of them: one of
	// those that RFC 8878 leaves to private use, and in its longest form.
	DictionaryNumber = 1 << 16

	dictionaryBytesMin = 16
)

var dictionaryMagic = []byte{0x37, 0xa4, 0x30, 0xec, 0x00, 0x00, 0x01, 0x00} // with DictionaryNumber

// DecodeDictionary reads the body of a dictionary record. Whether a compressor
// takes it is not looked at. The error wraps ErrMalformed.
func DecodeDictionary(body []byte) (Dictionary, error) {
	if len(body) < dictionaryBytesMin || len(body) > DictionaryBytesMax || !bytes.HasPrefix(body, dictionaryMagic) {
		return Dictionary{}, fmt.Errorf("reading a dictionary: %w: size or first bytes", ErrMalformed)
	}
	name := Hash(sha256.Sum256(body))
	return Dictionary{ID: DictionaryID(name[:8]), Name: name, Bytes: body}, nil
}

// OrderedDictionary is a dictionary that the ledger holds.
type OrderedDictionary struct {
	_    struct{} `cbor:",toarray"`
	Name []byte   // 32
	Seq  uint64   // of its record
}

// ID is how bodies name it.
func (d *OrderedDictionary) ID() DictionaryID { return DictionaryID(d.Name[:8]) }

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
	for i := range row.List {
		if err := checkLen(row.List[i].Name, len(Hash{}), "name of a dictionary"); err != nil {
			return nil, errors.Join(ErrState, err)
		}
	}
	return row.List, nil
}

// addDictionary takes a dictionary up, by a hub. One that is there already, one
// whose ID is taken and one too many change nothing: refusing them would stop
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
		if x.ID() == d.ID {
			return nil
		}
	}
	if len(list) >= DictionariesMax {
		return nil
	}
	list = append(list, OrderedDictionary{Name: d.Name[:], Seq: c.o.size})
	c.put([]byte{registryDictionary}, mustMarshal(dictionariesRow{List: list}))
	return nil
}

// registryOf makes a lookup of registry rows what DictionariesOf reads from.
type registryOf func(key []byte) ([]byte, bool, error)

func (f registryOf) Registry(key []byte) ([]byte, bool, error) { return f(key) }
