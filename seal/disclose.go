package seal

import (
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// Disclose gives the key that opens one body and no other: the keys of the
// compartment and of every other record stay unknown to whoever is handed it.
// keys looks a generation up among the keys of the compartment. The errors wrap
// ErrNoKey, ErrDamaged or ErrNewer; the body was opened with the key once.
func Disclose(keys func(gen uint64) (Key, bool), pos record.Position, kind record.Kind, comp record.CompartmentID, body []byte) (Key, error) {
	return (*Dictionaries)(nil).Disclose(keys, pos, kind, comp, body)
}

// Disclose is the function Disclose for bodies that may be packed with a
// dictionary of the ledger.
func (d *Dictionaries) Disclose(keys func(gen uint64) (Key, bool), pos record.Position, kind record.Kind, comp record.CompartmentID, body []byte) (Key, error) {
	gen, rest, err := splitGeneration(body)
	if err != nil {
		return Key{}, err
	}
	key, ok := keys(gen)
	if !ok {
		return Key{}, fmt.Errorf("disclosing a body: %w: generation %d", ErrNoKey, gen)
	}
	one := bodyKey(key, rest[:saltBytes], pos)
	_, err = d.OpenDisclosed(one, pos, kind, comp, body)
	return one, err
}

// OpenDisclosed opens a body with the key that Disclose gave. Whoever wrote the
// record could have made one body that opens to two texts under two keys; a
// reader who must exclude that opens it with the compartment's key on a box.
func OpenDisclosed(one Key, pos record.Position, kind record.Kind, comp record.CompartmentID, body []byte) ([]byte, error) {
	return (*Dictionaries)(nil).OpenDisclosed(one, pos, kind, comp, body)
}

// OpenDisclosed is the function OpenDisclosed for bodies that may be packed with a
// dictionary of the ledger.
func (d *Dictionaries) OpenDisclosed(one Key, pos record.Position, kind record.Kind, comp record.CompartmentID, body []byte) ([]byte, error) {
	_, rest, err := splitGeneration(body)
	if err != nil {
		return nil, err
	}
	padded, err := onceAEAD(one).Open(nil, zeroNonce[:], rest[saltBytes:], bodyAAD(pos, kind, comp))
	if err != nil {
		return nil, fmt.Errorf("opening a body: %w", ErrDamaged)
	}
	packed, err := unpad(padded)
	if err != nil {
		return nil, err
	}
	return d.Unpack(packed)
}
