package peersync

import (
	"context"
	"sync"

	"github.com/healthpost/healthpost/record"
)

// Fair shares what a box can take in between its sessions, so that two hundred
// clinics that return at once all come forward: so many frames are verified and
// stored at a time, and of the peers that wait the one goes first that was given
// least, in bytes, since it began to wait for anything. A box has one Fair.
type Fair struct {
	mu     sync.Mutex // guards what follows
	free   int
	at     uint64                     // tag of who went last
	given  map[record.DeviceID]uint64 // tag after the last frame of a peer, of those that are not far behind at
	queues []*ticket                  // in the order of their tags
}

// ticket is a frame that waits; each session has one at most.
type ticket struct {
	tag  uint64
	turn chan struct{}
}

// FairSlots is how many frames a box takes in at a time. The store makes one flush
// of what several of them wrote.
const FairSlots = 16

// fairSlack is by how many bytes a peer that had nothing for a moment may be behind
// the others and still catch up; who comes back after longer begins there.
const fairSlack = 256 << 10

// NewFair gives that many frames a turn at a time.
func NewFair(slots int) *Fair { return &Fair{free: slots, given: map[record.DeviceID]uint64{}} }

// enter waits for a turn; leave ends it.
func (f *Fair) enter(ctx context.Context, peer record.DeviceID, n int) error {
	f.mu.Lock()
	tag := f.take(peer, n)
	if f.free > 0 {
		f.free--
		f.at = max(f.at, tag)
		f.mu.Unlock()
		return nil
	}
	t := &ticket{tag, make(chan struct{})}
	i := len(f.queues)
	for i > 0 && f.queues[i-1].tag > tag {
		i--
	}
	f.queues = append(f.queues, nil)
	copy(f.queues[i+1:], f.queues[i:])
	f.queues[i] = t
	f.mu.Unlock()
	select {
	case <-t.turn:
		return nil
	case <-ctx.Done():
		f.withdraw(t)
		return ctx.Err()
	}
}

// withdraw takes back a ticket, or the turn that it was just given.
func (f *Fair) withdraw(t *ticket) {
	f.mu.Lock()
	for i, x := range f.queues {
		if x == t {
			f.queues = append(f.queues[:i], f.queues[i+1:]...)
			f.mu.Unlock()
			return
		}
	}
	f.mu.Unlock()
	f.leave()
}

func (f *Fair) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queues) == 0 {
		f.free++
		for d, tag := range f.given { // who is not ahead of the others needs no note
			if tag+fairSlack <= f.at {
				delete(f.given, d)
			}
		}
		return
	}
	next := f.queues[0]
	f.queues = f.queues[1:]
	f.at = max(f.at, next.tag)
	close(next.turn)
}

// charge counts what went to a peer, which cost reading and proving.
func (f *Fair) charge(peer record.DeviceID, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.take(peer, n)
}

// take notes n bytes for a peer, mu held, and gives the tag that they begin at.
func (f *Fair) take(peer record.DeviceID, n int) uint64 {
	tag := max(f.at-min(f.at, fairSlack), f.given[peer])
	f.given[peer] = tag + uint64(n)
	return tag
}
