package record

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrMalformed is wrapped by every decoder here: the bytes are not a valid
// encoding and never will be.
var ErrMalformed = errors.New("malformed")

var encMode, decMode = codec()

func codec() (cbor.EncMode, cbor.DecMode) {
	options := cbor.CoreDetEncOptions()
	// Absent is written as empty, so null never encodes back to itself and
	// there is one encoding of nothing.
	options.NilContainers = cbor.NilContainerAsEmpty
	enc, err := options.EncMode()
	if err != nil {
		panic(err) // fixed options: cannot fail on input
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 4096, MaxMapPairs: 256, UTF8: cbor.UTF8RejectInvalid,
		BignumTag: cbor.BignumTagForbidden, NaN: cbor.NaNDecodeForbidden, Inf: cbor.InfDecodeForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

// Marshal encodes a value of this package in deterministic CBOR. It fails only
// for a value that cannot be encoded at all.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes one value and refuses anything that does not encode back to
// the same bytes: longer integers, unsorted keys, null, trailing bytes.
func Unmarshal(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	if !bytes.Equal(b, again) {
		return fmt.Errorf("%w: not the deterministic encoding", ErrMalformed)
	}
	return nil
}

func mustMarshal(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(err) // only for types of this package, all of which encode
	}
	return b
}

func copyFixed(dst, src []byte, what string) error {
	if len(src) != len(dst) {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrMalformed, what, len(src), len(dst))
	}
	copy(dst, src)
	return nil
}
