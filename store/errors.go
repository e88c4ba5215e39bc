package store

import (
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// What a caller does with an error: ErrFull asks for space and keeps reading;
// ErrFault stops the process; ErrDamaged goes to verify and re-fetch; the others
// are answers.
var (
	ErrFull     = errors.New("disk is full")
	ErrFault    = errors.New("disk fault: nothing more is written")
	ErrLocked   = errors.New("another process has this data directory open")
	ErrClosed   = errors.New("store is closed")
	ErrDamaged  = errors.New("stored data is damaged")
	ErrNotFound = errors.New("not found")
	// ErrRefused: the entries or the arguments do not fit what is stored.
	ErrRefused = errors.New("does not fit the ledger held here")
	// ErrHole: what is asked for lies in a hole of this replica; a peer may have it.
	ErrHole = record.ErrHole
	// ErrNoEpoch: Append before BeginEpoch.
	ErrNoEpoch = errors.New("no epoch is open")
)

// DamageError names what on disk does not verify. errors.Is(err, ErrDamaged).
type DamageError struct {
	Key  string // row, in hexadecimal, or file
	What string
	RID  record.RID // zero when not a record
	Seq  uint64     // of the entry; meaningful when HasSeq
	// End is one past the last entry where a table or a tile stands for many, 0
	// for a single one.
	End uint64
	// HasSeq tells entry 0 from no entry.
	HasSeq bool
	Device record.DeviceID // author, when known
	Time   int64           // ledger time of the entry in Unix seconds, 0 when unknown
	Until  int64           // ledger time of the last one of a range, 0 when unknown
}

func (e *DamageError) Error() string {
	s := "damaged: " + e.What
	if e.HasSeq && e.End > e.Seq+1 {
		s += fmt.Sprintf(", entries %d to %d", e.Seq, e.End-1)
	} else if e.HasSeq {
		s += fmt.Sprintf(", entry %d", e.Seq)
	}
	if e.RID != (record.RID{}) {
		s += ", record " + e.RID.Short()
	}
	if e.Key != "" {
		s += " (" + e.Key + ")"
	}
	return s
}

// Is makes errors.Is(err, ErrDamaged) hold.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

func damagedRow(key []byte, what string) *DamageError {
	return &DamageError{Key: fmt.Sprintf("%q", key), What: what}
}

func damagedEntry(seq uint64, what string) *DamageError {
	return &DamageError{What: what, Seq: seq, HasSeq: true}
}
