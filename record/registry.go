package record

import (
	"errors"
	"fmt"
)

// RegistryRow is one thing that the ledger settled besides its entries and
// members, as ordering computes it: the generation, who may reset, proposals about
// hubs, frozen lanes. Keys and values are this package's affair; a replica keeps
// them as they are. A nil Value deletes.
type RegistryRow struct {
	Key   []byte // up to 64 bytes
	Value []byte // up to 16 KiB
}

// RegistryMap keeps registry rows in memory.
type RegistryMap map[string][]byte

// Registry implements State.
func (m RegistryMap) Registry(key []byte) ([]byte, bool, error) {
	v, ok := m[string(key)]
	return v, ok, nil
}

// Take keeps what ordering changed.
func (m RegistryMap) Take(rows []RegistryRow) {
	for _, r := range rows {
		if r.Value == nil {
			delete(m, string(r.Key))
			continue
		}
		m[string(r.Key)] = r.Value
	}
}

// Rows of the registry, by the first byte of the key.
const (
	registryGeneration = 'g' // the ledger's generation: [generation]
	registryRegion     = 'f' // rid of the founding record
	registryHubs       = 'h' // active members that order: [[device, ...]]
	registryRecovery   = 'r' // body of the recovery record in force
	registryProposal   = 'v' // ‖ hash: a proposal with its votes
	registryOpen       = 'o' // keys of the open proposals: [[key, ...]]
	registryProfile    = 'p' // ‖ device(32): mode of its replica, "full" or "partial"
	registryAssigned   = 'c' // ‖ device(32) ‖ compartment(16): assigned to the device
	registryFrozen     = 'z' // ‖ epoch(16) ‖ lane(1): a frozen feed; id of the evidence
	registryDictionary = 'd' // dictionaries of the ledger: [[[name, seq], ...]]
	registryRules      = 'u' // rules that passed: [[[name, seq], ...]]
	registryEscrow     = 'k' // escrows that passed: [[[body, seq], ...]]
	registryUsed       = 'l' // ‖ compartment(16) ‖ seq(8): an escrow was used: [time, device, directive, until, key]
	registryInviter    = 'j' // ‖ device(32): a clinic that may invite; seq of the vote by which
	registryInvites    = 'i' // ‖ device(32): what it invited within a day: [[[hash, hub, role, expires], ...]]
	registryErased     = 'x' // ‖ compartment(16) or rid(32): its bodies are erased; seq of the entry that says so
	registryErasure    = 'e' // ‖ seq(8): an erasure: time, target, reason, device
	registryAttested   = 'a' // ‖ seq(8) ‖ device(32): the device attested the erasure; ledger time
	registryErasing    = 'y' // ‖ device(32): what the device had erased within a day
)

func frozenKey(f Feed) []byte {
	return append(append([]byte{registryFrozen}, f.Epoch[:]...), byte(f.Lane))
}

// FrozenPrefix is how the registry keys of frozen feeds begin; FrozenFeed reads
// one, and its value is the id of the evidence.
func FrozenPrefix() []byte { return []byte{registryFrozen} }

// FrozenFeed reads a registry key under FrozenPrefix.
func FrozenFeed(key []byte) (Feed, error) {
	if len(key) != 1+16+1 || key[0] != registryFrozen || key[17] >= LaneCount {
		return Feed{}, fmt.Errorf("reading frozen feed: %w: key of %d bytes", ErrMalformed, len(key))
	}
	return Feed{EpochID(key[1:17]), Lane(key[17])}, nil
}

// RecoveryOf gives the recovery keys in force; ok false when none were set.
func RecoveryOf(s interface {
	Registry(key []byte) ([]byte, bool, error)
}) (keys Recovery, ok bool, err error) {
	b, ok, err := s.Registry([]byte{registryRecovery})
	if err != nil || !ok {
		return Recovery{}, false, err
	}
	if keys, err = DecodeRecovery(b); err != nil {
		return Recovery{}, false, errors.Join(ErrState, err)
	}
	return keys, true, nil
}

type generationRow struct {
	_          struct{} `cbor:",toarray"`
	Generation uint64
}

// GenerationOf is the generation of the ledger in this state: 1 until a reset.
func GenerationOf(s interface {
	Registry(key []byte) ([]byte, bool, error)
}) (uint64, error) {
	b, ok, err := s.Registry([]byte{registryGeneration})
	if err != nil || !ok {
		return 1, err
	}
	var row generationRow
	if err := Unmarshal(b, &row); err != nil {
		return 0, fmt.Errorf("reading the ledger's generation: %w", err)
	}
	return row.Generation, nil
}
