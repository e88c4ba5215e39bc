package tpm

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// ErrDamaged is returned for bytes that are no Object.
var ErrDamaged = errors.New("what the TPM sealed is damaged")

const (
	objectVersion  = 1
	areaBytesMax   = 512 // public and private areas of 32 sealed bytes have about 80 and 190
	objectBytesMax = 2*areaBytesMax + 64
	nameBytes      = 2 + sha256.Size // the algorithm, and the hash of the public area
)

// Object is a secret that one chip alone can give back.
type Object struct {
	root            []byte // name of the storage root key
	public, private []byte // areas, as the chip takes them
}

type objectArray struct {
	_       struct{} `cbor:",toarray"`
	V       uint8
	Root    []byte
	Public  []byte
	Private []byte
}

func (o Object) check() error {
	if len(o.root) != nameBytes {
		return fmt.Errorf("%w: the name of its key has %d bytes", ErrDamaged, len(o.root))
	}
	for _, area := range [][]byte{o.public, o.private} {
		if len(area) == 0 || len(area) > areaBytesMax {
			return fmt.Errorf("%w: an area of %d bytes", ErrDamaged, len(area))
		}
	}
	return nil
}

// Encode gives the bytes that DecodeObject reads.
func (o Object) Encode() ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return record.Marshal(objectArray{V: objectVersion, Root: o.root, Public: o.public, Private: o.private})
}

// DecodeObject reads what Encode gave. Its errors wrap ErrDamaged.
func DecodeObject(b []byte) (Object, error) {
	var a objectArray
	if len(b) > objectBytesMax {
		return Object{}, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	if err := record.Unmarshal(b, &a); err != nil {
		return Object{}, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	if a.V != objectVersion {
		return Object{}, fmt.Errorf("%w: version %d, this program reads %d", ErrDamaged, a.V, objectVersion)
	}
	o := Object{root: a.Root, public: a.Public, private: a.Private}
	return o, o.check()
}
