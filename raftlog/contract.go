package raftlog

import (
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
)

// Errors by what the caller must do.
var (
	// ErrNotLeader: nothing was proposed; ask the leader.
	ErrNotLeader = errors.New("this hub does not lead")
	// ErrOutcomeUnknown: leadership ended while the records were under way.
	// They may be ordered or not; proposing them again is harmless.
	ErrOutcomeUnknown = errors.New("leadership ended before the outcome was known")
	// ErrTooLarge: the records do not fit one batch.
	ErrTooLarge = errors.New("more than one batch holds")
	// ErrClosed: the node was closed.
	ErrClosed = errors.New("closed")
	// ErrDiverged ends Run: this hub's ledger has another root than the other
	// hubs for the same size. Never continue; find out why.
	ErrDiverged = errors.New("the ledger on this disk is not the ledger of the region")
	// ErrStalled ends Run: a log write did not return in time, so the disk hangs
	// and a leader here would hold up the region. The write still hangs: end the
	// process.
	ErrStalled = errors.New("a log write hangs")
	// ErrForeign: the raft state on this disk belongs to another device.
	ErrForeign = errors.New("raft state of another device")
)

// Ledger is the replica that items are applied to. Order and SetApplied are
// called by one goroutine at a time; the readers may be called while they run.
type Ledger interface {
	// Order applies one item. Leaves, indexes, tree and applied position move in
	// one step, readable on return; the step may become durable later, but in
	// order. It is a pure function of the ledger and the item. An index at or
	// below the applied one changes nothing. Any error ends the node.
	Order(index, term uint64, item []byte) ([]record.Outcome, error)
	// Applied is the raft position of the last item, 0 for none, and the ledger
	// size there. Entries that came from peers since count only while a Fetch for
	// a stored snapshot explains them.
	Applied() (index, term, size uint64)
	// SetApplied moves the raft position alone: the ledger at head contains
	// everything up to it. It fails unless Head is head.
	SetApplied(index, term uint64, head record.TreeHead) error
	Head() record.TreeHead
	// RootAt is the root of the first size entries; size is at most Head().Size.
	RootAt(size uint64) (record.Hash, error)
	// Entry reads an entry; the body may be absent.
	Entry(seq uint64) (record.Entry, error)
	// Barrier returns when everything ordered so far is durable.
	Barrier(ctx context.Context) error
}

// PendingFeed says what a feed holds that has no place in the ledger yet.
type PendingFeed struct {
	Feed     record.Feed
	OrderedN uint64 // n of the last ordered record of the feed
	HeldN    uint64 // n of the last record held
	Opening  bool   // the opening record of the epoch is pending too
}

// Pending is what waits for an order on this hub.
type Pending interface {
	// PendingFeeds lists the feeds that hold something pending.
	PendingFeeds() ([]PendingFeed, error)
	// Pending reads verified records of a feed with their bodies, contiguous
	// from fromN, at least one if there is one and then at most maxBytes. fromN
	// 0 in lane 0 is the opening record.
	Pending(feed record.Feed, fromN uint64, maxBytes int) ([]record.Record, error)
	// Subscribe gives a channel of one slot that is filled after each change,
	// until ctx ends.
	Subscribe(ctx context.Context) <-chan struct{}
}

// Row is one write: a nil Value deletes the key.
type Row struct {
	Key   []byte
	Value []byte
}

// KV is the part of the database that raft state lives in. Keys sort bytewise.
type KV interface {
	// Get gives a copy of the value; ok is false for a missing key.
	Get(key []byte) (value []byte, ok bool, err error)
	// Update writes all rows or none, durable on return. At most
	// UpdateBytesMax of keys and values.
	Update(rows []Row) error
	// First and Last give the smallest and the largest key with a prefix.
	First(prefix []byte) (key []byte, ok bool, err error)
	Last(prefix []byte) (key []byte, ok bool, err error)
}

// UpdateBytesMax bounds one KV.Update, unless a single log item is larger: an
// item of one record with the largest body is about 200 kB.
const UpdateBytesMax = 512 << 10

// Fetcher pulls ordered entries from peers.
type Fetcher interface {
	// Fetch returns when the ledger contains head, that is its size is reached
	// and the root of that size is the same, or with an error when no peer could
	// give it now. The entries it stores are verified against head.
	Fetch(ctx context.Context, head record.TreeHead) error
}
