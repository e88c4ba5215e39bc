package node

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

const (
	vaultKeysMax = 4096 // unwrapped compartment keys kept in memory
	firstGen     = seal.GenerationFirst
)

// vault finds the keys of compartments: it keeps the wraps of this replica as
// sealed-for-us rows and a bounded set of unwrapped keys in memory.
type vault struct {
	keys  *seal.Keyring
	store *store.Store

	dictionaries seal.Dictionaries // of the ledger, as far as they came

	mu    sync.Mutex
	known map[vaultID]seal.Key // guarded by mu
}

type vaultID struct {
	comp record.CompartmentID
	gen  uint64
}

func newVault(k *seal.Keyring, s *store.Store) *vault {
	return &vault{keys: k, store: s, known: map[vaultID]seal.Key{}}
}

func wrapRowKey(c record.CompartmentID, gen uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte("wrap/"), c[:]...), gen)
}

// wrapRows keeps the wraps of a key-wrap record that this box's own keys open. A wrap
// that is here already stays: the first one seen for a generation counts, and a
// second one holds the same key or is a lie that opens nothing.
func (v *vault) wrapRows(wraps []seal.Wrap) ([]store.Row, error) {
	var rows []store.Row
	for _, w := range wraps {
		k, err := v.keys.Unwrap(w)
		if err != nil || !k.IsGeneration(w.Generation) {
			continue // for somebody else, or another key than its number says
		}
		if rows, err = v.wrapRow(rows, w); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (v *vault) wrapRow(rows []store.Row, w seal.Wrap) ([]store.Row, error) {
	key := wrapRowKey(w.Compartment, w.Generation)
	if _, err := v.store.GetRow(key); err == nil {
		return rows, nil
	}
	one, err := seal.EncodeWraps([]seal.Wrap{w})
	return append(rows, store.Row{Key: key, Value: one}), err
}

// held are the keys of a compartment that this box has.
func (v *vault) held(c record.CompartmentID) (map[uint64]seal.Key, error) {
	gens, err := v.generations(c, func(uint64) bool { return true })
	if err != nil {
		return nil, err
	}
	keys := map[uint64]seal.Key{}
	for _, gen := range gens {
		k, err := v.key(c, gen)
		if err != nil && !unreadable(err) {
			return nil, err
		}
		if err == nil {
			keys[gen] = k
		}
	}
	return keys, nil
}

// generations are those that a wrap is here of.
func (v *vault) generations(c record.CompartmentID, wanted func(gen uint64) bool) (gens []uint64, err error) {
	prefix := append([]byte("wrap/"), c[:]...)
	err = v.store.ScanRows(prefix, wrapsMax, func(key, _ []byte) bool {
		if rest := key[len(prefix):]; len(rest) == 8 && wanted(binary.BigEndian.Uint64(rest)) {
			gens = append(gens, binary.BigEndian.Uint64(rest))
		}
		return true
	})
	return gens, err
}

// key gives one generation's key. seal.ErrNoKey when no wrap for it is here.
func (v *vault) key(c record.CompartmentID, gen uint64) (seal.Key, error) {
	return v.keyUp(c, gen, &climb{keys: map[uint64]seal.Key{}})
}

// climb is the way from a wrap that is kept here to a key of this box's own. Who wraps a key under itself,
// or under one that it leads to, makes a circle: no generation is tried twice.
type climb struct {
	keys map[uint64]seal.Key // of those that were tried; zeros where none came of it
	here []uint64            // the generations of the compartment, once they were looked at
}

// climbMax bounds how many generations lie on the way: a patient has not had as many keys.
const climbMax = 1 << 14

// keyUp is key on the way up from others.
func (v *vault) keyUp(c record.CompartmentID, gen uint64, up *climb) (seal.Key, error) {
	id := vaultID{c, gen}
	v.mu.Lock()
	k, ok := v.known[id]
	v.mu.Unlock()
	if ok {
		return k, nil
	}
	row, err := v.store.GetRow(wrapRowKey(c, gen))
	if errors.Is(err, store.ErrNotFound) {
		return seal.Key{}, fmt.Errorf("compartment %s generation %d: %w", c, gen, seal.ErrNoKey)
	}
	if err != nil {
		return seal.Key{}, err
	}
	wraps, err := seal.DecodeWraps(row)
	if err != nil || len(wraps) != 1 {
		return seal.Key{}, fmt.Errorf("reading the wrap of compartment %s: %w", c, errors.Join(seal.ErrDamaged, err))
	}
	if up.keys[gen] = (seal.Key{}); len(up.keys) > climbMax {
		return seal.Key{}, fmt.Errorf("compartment %s generation %d: too far from a key of this box: %w", c, gen, seal.ErrNoKey)
	}
	if k, err = v.unwrap(wraps[0], up); err != nil {
		return seal.Key{}, fmt.Errorf("opening the wrap of compartment %s: %w", c, err)
	}
	up.keys[gen] = k
	v.remember(id, k)
	return k, nil
}

// unwrap opens a wrap that is kept here: with a newer key of the compartment, or one of this
// box's own.
func (v *vault) unwrap(w seal.Wrap, up *climb) (seal.Key, error) {
	if up.here == nil {
		var err error
		if up.here, err = v.generations(w.Compartment, seal.IsClosed); err != nil {
			return seal.Key{}, err
		}
	}
	for _, gen := range up.here {
		if !w.Recipient.NamesGeneration(gen) {
			continue
		}
		k, tried := up.keys[gen]
		var err error
		if !tried {
			k, err = v.keyUp(w.Compartment, gen, up)
		}
		if err == nil && k.ID() == w.Recipient {
			return seal.UnwrapKey(k, w)
		}
	}
	return v.keys.Unwrap(w)
}

func (v *vault) remember(id vaultID, k seal.Key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= vaultKeysMax {
		clear(v.known) // rare, and cheaper than an order of use
	}
	v.known[id] = k
}

// open gives the plain body of a record.
func (v *vault) open(r *record.Record) ([]byte, error) { return v.openWith(r, nil) }

// openWith is open with keys that were lent besides.
func (v *vault) openWith(r *record.Record, lent lentKeys) ([]byte, error) {
	if r.Body == nil {
		return nil, fmt.Errorf("opening record %s: its body is not on this box", r.RID().Short())
	}
	var keyErr error
	plain, err := v.dictionaries.Open(func(gen uint64) (seal.Key, bool) {
		if k, ok := lent[gen]; ok {
			return k, true
		}
		k, err := v.key(r.Core.Compartment, gen)
		if err != nil {
			keyErr = err
		}
		return k, err == nil
	}, r.Position(), r.Core.Kind, r.Core.Compartment, r.Body)
	if err != nil {
		return nil, fmt.Errorf("opening record %s: %w", r.RID().Short(), errors.Join(err, keyErr))
	}
	return plain, nil
}

// dek is a key of a compartment with the number of its generation.
type dek struct {
	gen uint64
	key seal.Key
}

// draft seals a packed body into a compartment at whatever position it gets.
func (v *vault) draft(lane record.Lane, kind record.Kind, c record.CompartmentID, k dek, session uint64, packed seal.Packed) store.Draft {
	return store.Draft{Lane: lane, Kind: kind, Compartment: c, Session: session, Seal: func(pos record.Position) ([]byte, error) {
		return packed.Seal(rand.Reader, k.key, k.gen, pos, kind, c)
	}}
}

// newCompartment makes a compartment with its key and the draft of the wrap that
// hands the key to the region.
func (v *vault) newCompartment(session uint64) (record.CompartmentID, dek, store.Draft, error) {
	var c record.CompartmentID
	if _, err := rand.Read(c[:]); err != nil {
		return c, dek{}, store.Draft{}, fmt.Errorf("naming a compartment: %w", err)
	}
	k, d, err := v.wrapFor(c, session)
	return c, dek{firstGen, k}, d, err
}

// wrapFor makes a first key for a compartment and the draft of its wrap.
func (v *vault) wrapFor(c record.CompartmentID, session uint64) (seal.Key, store.Draft, error) {
	k, err := seal.NewKey(rand.Reader)
	if err != nil {
		return k, store.Draft{}, err
	}
	wraps, err := v.wrapsForRegion(c, dek{firstGen, k})
	if err != nil {
		return k, store.Draft{}, err
	}
	body, err := seal.EncodeWraps(wraps)
	if err != nil {
		return k, store.Draft{}, err
	}
	return k, wrapDraft(c, session, body), nil
}

// wrapDraft is the record that hands out a compartment's key.
func wrapDraft(c record.CompartmentID, session uint64, body []byte) store.Draft {
	return store.Draft{Lane: record.LaneControl, Kind: record.KindKeyWrap, Compartment: c, Session: session,
		Seal: func(record.Position) ([]byte, error) { return body, nil }}
}
