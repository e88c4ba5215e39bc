package nemesis

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Kind says what a client asked for.
type Kind string

const (
	Append   Kind = "append"   // a record handed in until it had a place; Seq, and Chain up to it
	Revoke   Kind = "revoke"   // the record that revokes Device; like Append
	Assign   Kind = "assign"   // the record that assigns the compartment to Device; like Append
	Withdraw Kind = "withdraw" // the record that takes it away again; like Append
	Denied   Kind = "denied"   // a record that got no place because its author is revoked
	Ledger   Kind = "ledger"   // what a box's ledger is, of itself: Next, Chain, Revoked, Assigned
	Final    Kind = "final"    // the same, after the end of all faults and of all appends

	Save  Kind = "save"  // a form that a page called saved
	Amend Kind = "amend" // the same, of a record Base
	Read  Kind = "read"  // a page that shows records: Seen
	Head  Kind = "head"  // Size and Root of a box, and what is Confirmed
	Ended Kind = "ended" // the box's process was killed
)

// Op is one operation. Call and Return count the events of a history: what has the
// lower number happened before. Return is 0 while there is no answer.
type Op struct {
	Client       int
	Box          string
	Kind         Kind
	Call, Return uint64
	At, Took     time.Duration // since the history began; for people

	Device   int    // who wrote, or whom a grant is about
	Record   uint64 `json:",omitempty"` // names the record
	Base     uint64 `json:",omitempty"`
	Form     string `json:",omitempty"` // one form is one record, however often it is posted
	Seq      uint64 `json:",omitempty"`
	Next     uint64 `json:",omitempty"` // place after the last of the tracked records
	Chain    uint64 `json:",omitempty"` // over all of them, see Link
	Revoked  uint64 `json:",omitempty"` // devices, one bit each
	Assigned uint64 `json:",omitempty"` // devices, one bit each
	Size     uint64 `json:",omitempty"`
	Root     string `json:",omitempty"`

	Confirmed uint64 `json:",omitempty"`
	Seen      []Seen `json:",omitempty"`
}

// Seen is one record on a page.
type Seen struct {
	Record    uint64
	Confirmed bool   // it is said to be in the regional record
	Seq       uint64 // then its place
}

// Link continues a chain over the tracked records with one more.
func Link(chain, seq, record uint64) uint64 {
	x := chain ^ seq*0x9e3779b97f4a7c15 ^ record
	for range 2 { // the finisher of splitmix64
		x ^= x >> 30
		x *= 0xbf58476d1ce4e5b9
		x ^= x >> 27
		x *= 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// History collects operations of many clients.
type History struct {
	began  time.Time
	events atomic.Uint64

	mu  sync.Mutex
	ops []Op // guarded by mu
}

// NewHistory begins one.
func NewHistory() *History { return &History{began: time.Now()} }

// Begin takes down that something is asked for.
func (h *History) Begin(op Op) Op {
	op.At = time.Since(h.began)
	op.Call = h.events.Add(1)
	return op
}

// End takes down the answer.
func (h *History) End(op Op) {
	op.Return = h.events.Add(1)
	op.Took = time.Since(h.began) - op.At
	h.keep(op)
}

// Unanswered takes down that no answer came: it may have happened or may yet.
func (h *History) Unanswered(op Op) {
	op.Took = time.Since(h.began) - op.At
	h.keep(op)
}

func (h *History) keep(op Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// Ops are the operations so far.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Op(nil), h.ops...)
}

// Count is how many there are.
func (h *History) Count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// Write keeps the history as a file of JSON lines.
func (h *History) Write(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("keeping the history: %w", err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for _, op := range h.Ops() {
		if err := enc.Encode(op); err != nil {
			return fmt.Errorf("keeping the history: %w", err)
		}
	}
	return w.Flush()
}
