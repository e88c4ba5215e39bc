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
	firstGen     = 1
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

// wrapRows keeps the wraps of a key-wrap record that this box can open. A wrap
// that is here already stays: the first one seen for a generation counts, and a
// second one holds the same key or is a lie that opens nothing.
func (v *vault) wrapRows(body []byte) ([]store.Row, error) {
	wraps, err := seal.DecodeWraps(body)
	if err != nil {
		return nil, fmt.Errorf("reading key wraps: %w", err)
	}
	var rows []store.Row
	for _, w := range wraps {
		if _, err := v.keys.Unwrap(w); err != nil {
			continue // for somebody else
		}
		key := wrapRowKey(w.Compartment, w.Generation)
		if _, err := v.store.GetRow(key); err == nil {
			continue
		}
		one, err := seal.EncodeWraps([]seal.Wrap{w})
		if err != nil {
			return nil, err
		}
		rows = append(rows, store.Row{Key: key, Value: one})
	}
	return rows, nil
}

// key gives one generation's key. seal.ErrNoKey when no wrap for it is here.
func (v *vault) key(c record.CompartmentID, gen uint64) (seal.Key, error) {
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
	if k, err = v.keys.Unwrap(wraps[0]); err != nil {
		return seal.Key{}, fmt.Errorf("opening the wrap of compartment %s: %w", c, err)
	}
	v.remember(id, k)
	return k, nil
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
func (v *vault) open(r *record.Record) ([]byte, error) {
	if r.Body == nil {
		return nil, fmt.Errorf("opening record %s: its body is not on this box", r.RID().Short())
	}
	var keyErr error
	plain, err := v.dictionaries.Open(func(gen uint64) (seal.Key, bool) {
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

// draft seals a packed body into a compartment at whatever position it gets.
func (v *vault) draft(lane record.Lane, kind record.Kind, c record.CompartmentID, k seal.Key, session uint64, packed seal.Packed) store.Draft {
	return store.Draft{Lane: lane, Kind: kind, Compartment: c, Session: session, Seal: func(pos record.Position) ([]byte, error) {
		return packed.Seal(rand.Reader, k, firstGen, pos, kind, c)
	}}
}

// newCompartment makes a compartment with its key and the draft of the wrap that
// hands the key to the region.
func (v *vault) newCompartment(session uint64) (record.CompartmentID, seal.Key, store.Draft, error) {
	var c record.CompartmentID
	if _, err := rand.Read(c[:]); err != nil {
		return c, seal.Key{}, store.Draft{}, fmt.Errorf("naming a compartment: %w", err)
	}
	k, d, err := v.wrapFor(c, session)
	return c, k, d, err
}

// wrapFor makes a first key for a compartment and the draft of its wrap.
func (v *vault) wrapFor(c record.CompartmentID, session uint64) (seal.Key, store.Draft, error) {
	k, err := seal.NewKey(rand.Reader)
	if err != nil {
		return k, store.Draft{}, err
	}
	wraps, err := v.wrapsForRegion(c, k)
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
