package chart

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/healthpost/healthpost/record"
)

// Limits of a card's record.
const (
	CardSizeMax   = 4 << 10
	CardEndsMax   = 64
	CardHolderMax = 80 // letters
	cardLockMax   = 256

	cardVersion    = 1 // of records before cards had keys, and of those that only end cards
	cardKeyVersion = 2
)

// CardID names a card for good.
type CardID [16]byte

// Card is a card of a patient, or the end of some: what a box must know to take one.
// The secret that opens it stands on the card alone.
type Card struct {
	ID     CardID   // zeros for a record that only ends cards
	Find   [16]byte // seal.CardSecret.Find of its secret
	Lock   []byte   // seal.CardLock
	Holder string   // whose hands it is for, when not the patient's: a parent, a guardian
	Ends   []CardID // cards that hold no more
	Key    []byte   // X25519, public: what closed keys are wrapped to; empty in cards of before there were any
}

type cardArray struct {
	_      struct{} `cbor:",toarray"`
	ID     []byte   // 16, or empty
	Find   []byte   // likewise
	Lock   []byte
	Holder string
	Ends   []byte // 16 each
}

type cardKeyArray struct {
	_      struct{} `cbor:",toarray"`
	ID     []byte
	Find   []byte
	Lock   []byte
	Holder string
	Ends   []byte
	Key    []byte // 32
}

const cardKeySize = 32

// EncodeCard gives the bytes of a card's record. It refuses what DecodeCard would refuse.
func EncodeCard(c Card) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	a := cardArray{Lock: c.Lock, Holder: c.Holder, Ends: make([]byte, 0, len(CardID{})*len(c.Ends))}
	if c.ID != (CardID{}) {
		a.ID, a.Find = c.ID[:], c.Find[:]
	}
	for i := range c.Ends {
		a.Ends = append(a.Ends, c.Ends[i][:]...)
	}
	var whole any = a
	version := byte(cardVersion)
	if len(c.Key) > 0 {
		whole, version = cardKeyArray{ID: a.ID, Find: a.Find, Lock: a.Lock, Holder: a.Holder, Ends: a.Ends, Key: c.Key}, cardKeyVersion
	}
	enc, err := record.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("encoding a card: %w", err)
	}
	return append([]byte{version}, enc...), nil
}

// DecodeCard reads the bytes of a card's record. The error wraps ErrBody and holds nothing
// of the content.
func DecodeCard(b []byte) (Card, error) {
	if len(b) < 2 || len(b) > CardSizeMax {
		return Card{}, fmt.Errorf("%w: size of a card", ErrBody)
	}
	a, err := decodeCardArray(b[0], b[1:])
	if err != nil {
		return Card{}, err
	}
	const size = len(CardID{})
	if len(a.ID) != 0 && len(a.ID) != size || len(a.Find) != len(a.ID) || len(a.Ends)%size != 0 || len(a.Ends) > size*CardEndsMax {
		return Card{}, fmt.Errorf("%w: an id of a card", ErrBody)
	}
	c := Card{Holder: a.Holder, Key: a.Key}
	if len(a.Lock) > 0 {
		c.Lock = a.Lock
	}
	copy(c.ID[:], a.ID)
	copy(c.Find[:], a.Find)
	for e := a.Ends; len(e) > 0; e = e[size:] {
		c.Ends = append(c.Ends, CardID(e[:size]))
	}
	if len(a.ID) != 0 && c.ID == (CardID{}) {
		return Card{}, fmt.Errorf("%w: a card of zeros", ErrBody)
	}
	return c, c.check()
}

// decodeCardArray reads a record of either version; the key of the first is nil.
func decodeCardArray(version byte, b []byte) (a cardKeyArray, err error) {
	switch version {
	case cardVersion:
		var old cardArray
		err = record.Unmarshal(b, &old)
		a = cardKeyArray{ID: old.ID, Find: old.Find, Lock: old.Lock, Holder: old.Holder, Ends: old.Ends}
	case cardKeyVersion:
		if err = record.Unmarshal(b, &a); err == nil && len(a.Key) != cardKeySize {
			return a, fmt.Errorf("%w: the key of a card", ErrBody)
		}
	default:
		return a, fmt.Errorf("%w: version of a card", ErrBody)
	}
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrBody, err)
	}
	return a, nil
}

func (c *Card) check() error {
	made := c.ID != CardID{}
	ok := made || len(c.Ends) > 0
	ok = ok && len(c.Ends) <= CardEndsMax && !slices.Contains(c.Ends, CardID{}) && !slices.Contains(c.Ends, c.ID)
	ok = ok && utf8.ValidString(c.Holder) && utf8.RuneCountInString(c.Holder) <= CardHolderMax
	ok = ok && (made && len(c.Lock) > 0 && len(c.Lock) <= cardLockMax || !made && len(c.Lock) == 0 && c.Holder == "" && len(c.Key) == 0)
	ok = ok && (len(c.Key) == 0 || len(c.Key) == cardKeySize)
	if !ok {
		return fmt.Errorf("%w: a card that is none", ErrBody)
	}
	return nil
}

// Carded is a card's record with where it stands.
type Carded struct {
	Card
	Refused bool // the region did not take its record
	At      time.Time
	Author  string
	By      record.DeviceID // the box that wrote it
}

// CardState is a card and what became of it.
type CardState struct {
	Carded
	Ended *Carded // nil while it holds
}

// FoldCards finds which cards hold, from the records of one compartment in any order, newest
// first. A card that any record ends is dead, whatever else is said of it; one whose record
// the region refused, and two with one id, which is somebody's mistake or lie, open nothing.
func FoldCards(all []Carded) []CardState {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Carded) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), bytes.Compare(a.Find[:], b.Find[:]), bytes.Compare(a.Lock, b.Lock), cmp.Compare(a.Holder, b.Holder), bytes.Compare(a.Key, b.Key), order(a.Refused, b.Refused))
	})
	var out []CardState
	for i := range all {
		c := &all[i]
		if c.ID == (CardID{}) || c.Refused || i > 0 && all[i-1].ID == c.ID && all[i-1].same(&c.Card) {
			continue
		}
		s := CardState{Carded: *c}
		for j := range all {
			other := &all[j]
			twin := other.ID == c.ID && !other.same(&c.Card)
			if (twin || slices.Contains(other.Ends, c.ID)) && (s.Ended == nil || other.At.Before(s.Ended.At)) {
				s.Ended = other
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b CardState) int {
		return cmp.Or(b.At.Compare(a.At), bytes.Compare(a.ID[:], b.ID[:]), bytes.Compare(a.Find[:], b.Find[:]))
	})
	return out
}

// same reports whether two records make the same card.
func (c *Card) same(o *Card) bool {
	return c.Find == o.Find && bytes.Equal(c.Lock, o.Lock) && c.Holder == o.Holder && bytes.Equal(c.Key, o.Key)
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
