package seal

import "encoding/binary"

// The keys of a compartment are numbered. Generation 1 is the one that a compartment starts with, and is
// handed to the region. Every later one is closed: handed to some. Its number commits to its key,
//
//	ordinal << 48 | first 48 bits of Key.ID
//
// with an ordinal of 2 or more, so that two boxes that make one apart from each other never mean the same
// number, and nobody hands out another key under a number that is known.
const (
	GenerationFirst = 1

	generationIDBits = 48
	ordinalFirst     = 2
	ordinalMax       = 1<<16 - 1
)

// ClosedGeneration numbers a new key that comes after generation last, the highest that is known. Ordinals
// end at 65,535; generations after that share it.
func ClosedGeneration(last uint64, k Key) uint64 {
	ordinal := min(max(last>>generationIDBits+1, ordinalFirst), ordinalMax)
	return ordinal<<generationIDBits | committed(k.ID())
}

// IsClosed reports whether gen is the number of a closed generation.
func IsClosed(gen uint64) bool { return gen>>generationIDBits >= ordinalFirst }

// IsGeneration reports whether the key may be the one of a generation.
func (k Key) IsGeneration(gen uint64) bool {
	return gen == GenerationFirst || IsClosed(gen) && gen&(1<<generationIDBits-1) == committed(k.ID())
}

// NamesGeneration reports whether id may be that of the key of a closed generation.
func (id KeyID) NamesGeneration(gen uint64) bool {
	return IsClosed(gen) && gen&(1<<generationIDBits-1) == committed(id)
}

func committed(id KeyID) uint64 { return binary.BigEndian.Uint64(id[:]) >> (64 - generationIDBits) }

// A closed generation holds the keys of those before it: a Wrap of the older key whose recipient is the
// newer one. Who is handed the newest so reads all that came before, and nobody the other way round.

// OpenChain gives the keys that known closed generations of a compartment lead to through wraps, those
// known left out, with the wrap that each came by.
func OpenChain(wraps []Wrap, known map[uint64]Key) (found map[uint64]Key, by map[uint64]Wrap) {
	found, by = map[uint64]Key{}, map[uint64]Wrap{}
	to := map[KeyID][]Wrap{}
	for _, w := range wraps {
		to[w.Recipient] = append(to[w.Recipient], w)
	}
	var next []Key
	for gen, k := range known {
		if IsClosed(gen) {
			next = append(next, k)
		}
	}
	for len(next) > 0 {
		newer := next[0]
		next = next[1:]
		wrapped := to[newer.ID()]
		delete(to, newer.ID()) // a key may have many numbers
		for _, w := range wrapped {
			if _, have := known[w.Generation]; have {
				continue
			}
			if _, have := found[w.Generation]; have {
				continue
			}
			k, err := UnwrapKey(newer, w)
			if err != nil || !k.IsGeneration(w.Generation) {
				continue
			}
			found[w.Generation], by[w.Generation] = k, w
			if IsClosed(w.Generation) {
				next = append(next, k)
			}
		}
	}
	return found, by
}
