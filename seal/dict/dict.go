// Package dict holds what makes the bodies of a region alike before they are
// compressed: the zstd dictionaries, and the setting aside of UUIDs.
//
// A dictionary is named by the SHA-256 of its bytes and numbered by its
// place in the list; bodies carry the number. One that was ever released stays
// for ever: without it the bodies packed with it are lost.
//
// The corpus a dictionary was trained on lies beside it, with UUIDs in place. It
// holds invented patients only, made by the tests of this package, which also
// train again and compare. The licence is that of the project.
package dict

import (
	_ "embed"
)

// Dictionary is one trained dictionary.
type Dictionary struct {
	ID     uint32 // what bodies and zstd frames carry; from 1
	SHA256 string // its name, in hexadecimal
	Bytes  []byte // in the format of RFC 8878 section 5
}

//go:embed v1.zdict
var v1 []byte

var all = []Dictionary{
	{ID: 1, SHA256: v1SHA256, Bytes: v1},
}

// All lists the dictionaries, oldest first.
func All() []Dictionary { return append([]Dictionary{}, all...) }

// Current is the dictionary that new bodies are packed with.
func Current() Dictionary { return all[len(all)-1] }

// Known reports whether this program holds dictionary id.
func Known(id uint64) bool { return id >= 1 && id <= uint64(len(all)) }

// Contents gives the bytes of all dictionaries, for a decoder.
func Contents() [][]byte {
	out := make([][]byte, len(all))
	for i, d := range all {
		out[i] = d.Bytes
	}
	return out
}
