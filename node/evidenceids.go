package node

import (
	"sync"

	"github.com/healthpost/healthpost/record"
)

// evidenceIDs are the beginnings of the ids of what is kept, and of what was looked
// at and not kept: sessions ask for neither again. The latter is forgotten when the
// box stops.
type evidenceIDs struct {
	mu   sync.Mutex
	list map[[8]byte]bool // guarded by mu
}

const evidenceIDsMax = 4 * evidenceMax

func (e *evidenceIDs) add(id record.Hash) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.list == nil || len(e.list) >= evidenceIDsMax {
		e.list = map[[8]byte]bool{} // some are asked for once more
	}
	e.list[[8]byte(id[:8])] = true
}

func (e *evidenceIDs) lacks(id [8]byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.list[id]
}
