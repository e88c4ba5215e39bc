package record

import "fmt"

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
const registryGeneration = 'g' // the ledger's generation

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
