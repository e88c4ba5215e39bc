package fusedisk

import (
	"strings"
	"time"
)

// Op is a kind of operation.
type Op string

const (
	Write Op = "write" // of a file's bytes, its length, or space for it
	Sync  Op = "sync"  // of a file or a folder
	Read  Op = "read"
	Name  Op = "name" // a folder's names change
)

// How an operation goes wrong.
type How string

const (
	// Fails does nothing. A failed sync loses the data.
	Fails How = "fails"
	// Persisted does all of it, durably, and says that it failed.
	Persisted How = "persisted"
	// TornHalf does part of it, durably, and says that it failed.
	TornHalf How = "torn"
)

// Fault is an operation that goes wrong: the nth of its kind on files whose path
// contains Path, and Times in all, 0 for all that follow.
type Fault struct {
	Op    Op
	Path  string
	Nth   int
	Times int
	How   How
}

// State is what the disk is told to do, until it is told something else.
type State struct {
	Fault    Fault
	Lies     bool          // syncs report success and do nothing
	ReadOnly bool          // as a file system that found an error
	SyncWait time.Duration // before each sync; negative is for ever
	Budget   int64         // bytes of the disk, 0 for as many as the host has
	Strict   bool          // a sync of a file makes no name durable
	CutAfter int           // operations other than reads after which it freezes by itself, 0 for never
}

// Stats counts what processes did since the disk was told its state.
type Stats struct {
	Writes, Syncs, Reads, Names int
	Failed                      int // injected
	Unsynced                    int // sectors that a cut would take back, now
	Frozen                      bool
	Mapped                      int // writes that the kernel made of mapped memory
}

func (s *Stats) count(op Op) {
	switch op {
	case Write:
		s.Writes++
	case Sync:
		s.Syncs++
	case Read:
		s.Reads++
	case Name:
		s.Names++
	}
}

// armed counts operations towards a fault.
type armed struct {
	Fault
	seen int
}

// hits says whether this operation goes wrong.
func (a *armed) hits(op Op, path string) bool {
	if a.Nth == 0 || a.Op != op || !strings.Contains(path, a.Path) {
		return false
	}
	a.seen++
	return a.seen >= a.Nth && (a.Times == 0 || a.seen < a.Nth+a.Times)
}
