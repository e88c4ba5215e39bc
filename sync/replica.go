package peersync

import (
	"context"

	"github.com/healthpost/healthpost/record"
)

// Replica is what a session reads and writes: one box's ledger and pending
// records. Methods may be called from several sessions at once. What a reader
// returns is durable; what a writer accepted is durable when it returns.
type Replica interface {
	// Head is the ordered ledger's size and root.
	Head() record.TreeHead
	// RootAt is the root that the ledger had at a size up to Head's.
	RootAt(size uint64) (record.Hash, error)
	// Final is the newest final checkpoint held; its size is at most Head's.
	Final() (note []byte, head record.TreeHead, ok bool)
	// PutFinal keeps a note that was verified and whose head lies in the ledger.
	// An older or equal one changes nothing.
	PutFinal(note []byte, head record.TreeHead) error

	// PendingFeeds lists the feeds that hold something pending.
	PendingFeeds() ([]PendingFeed, error)
	// Pending gives records of a feed in order from n, with bodies, at least one
	// when there is one, and no more than about bytesMax. n 0 of lane 0 is the
	// opening record.
	Pending(feed record.Feed, n uint64, bytesMax int) ([]record.Record, error)
	// HeldRID is the rid of a record that is pending or ordered here. n 0 of any
	// lane is the opening record.
	HeldRID(record.Position) (record.RID, bool, error)
	// Ingest verifies records of one feed, contiguous in n, and stores those that
	// pass. Outcomes for what was not stored come back in Refused; an error that
	// wraps record.ErrGap says the same of the whole run.
	Ingest(ctx context.Context, from record.DeviceID, recs []record.Record) (Ingested, error)
	// PutAck notes that the peer holds these feeds durably up to n.
	PutAck(peer record.DeviceID, heads []record.FeedHead) error
	// Acked is what PutAck noted and is still pending.
	Acked(peer record.DeviceID) ([]record.FeedHead, error)
	// Refused lists records that can never be ordered, with the verdict.
	Refused() ([]Refusal, error)
	// PutRefused keeps a hub's final verdict on a record of Pending.
	PutRefused(out record.Outcome, by record.DeviceID) error

	// Holder resolves short forms of ordered entries: ordered feed heads and
	// pending records.
	Holder() record.Holder
	// Entries gives ordered entries [from, to) with bodies where held, at least
	// one when there is one, and no more than about bytesMax.
	Entries(from, to uint64, bytesMax int) ([]record.Entry, error)
	// ConsistencyProof proves the ledger of size old a prefix of that of size new.
	ConsistencyProof(old, new uint64) ([]record.Hash, error)
	// Extend appends entries that continue at Head after recomputing leaves and
	// root, checking the proof from the new head to target, and judging every
	// record. target is trusted. Nothing changes on error.
	Extend(ctx context.Context, entries []record.Entry, target record.TreeHead, proof []record.Hash) error

	// Subscribe gives a channel of one slot that is signalled after anything
	// above changed, until the context ends.
	Subscribe(ctx context.Context) <-chan struct{}
}

// PendingFeed is a feed with records that have no entry yet: n in (OrderedN,
// HeldN]. Opening says that the epoch's opening record is pending too; such a
// feed may hold nothing else.
type PendingFeed struct {
	record.Feed
	Author   record.DeviceID
	OrderedN uint64
	HeldN    uint64
	Opening  bool
}

// Ingested is what became of a run.
type Ingested struct {
	New, Known int
	Heads      []record.FeedHead // durable heads of the feeds touched
	Refused    []record.Outcome
}

// Refusal is a final verdict on the record at a position.
type Refusal struct {
	record.Outcome
	Position record.Position
}

// Partial is a Replica that may hold a part of the ledger and serve one. What it
// lacks it answers with an error that wraps record.ErrHole.
type Partial interface {
	Replica
	// IsPartial says whether the ledger calls a device's replica partial.
	IsPartial(record.DeviceID) (bool, error)
	// SpanFor is what a partial replica of a device holds from an entry on, up to to
	// or to about bytesMax, at least one entry or gap. What was ordered of the feeds in
	// pending is held too, for it carries them.
	SpanFor(d record.DeviceID, from, to uint64, bytesMax int, pending ...record.Feed) (record.Span, error)
	// ExtendSpan is Extend with gaps: roots and proof, and every record as far as it can
	// be judged.
	ExtendSpan(ctx context.Context, s *record.Span, target record.TreeHead, proof []record.Hash) error
	// HolesBefore lists holes that begin below a size, newest first.
	HolesBefore(size uint64, max int) ([]record.Hole, error)
	// Missing lists compartments of this box's profile of which entries are absent, or
	// may be.
	Missing(max int) ([]record.CompartmentID, error)
	// GapsOf lists runs of entries from one on of which some are of a compartment and
	// not here, or may be; no entry of it that is here is in one.
	GapsOf(c record.CompartmentID, from uint64, max int) ([]record.Hole, error)
	// HasAll notes that a hub gave all that a ledger of this size has of a compartment.
	HasAll(ctx context.Context, c record.CompartmentID, size uint64) error
	// MayHold says whether a device may be given a compartment's entries.
	MayHold(record.DeviceID, record.CompartmentID) (bool, error)
	// CompartmentSeqs lists where a compartment's entries stand, from one on, as far as
	// they are here.
	CompartmentSeqs(c record.CompartmentID, from uint64, max int) ([]uint64, error)
	// Places lists where the records of a feed from n on stand, up to the first without
	// an entry, before to.
	Places(f record.Feed, n, to uint64, max int) ([]uint64, error)
	// OpeningsOf gives the records that entries need to be judged by and that are not
	// among them.
	OpeningsOf([]record.Entry) ([]record.Record, error)
	// RangeProof gives the hashes of record.GapShape before and behind [from, to) in the
	// tree of a size.
	RangeProof(from, to, size uint64) (left, right []record.Hash, err error)
	// Fill puts contiguous entries into holes after verifying with left and right that
	// the tree of a trusted head has them. n is how many were not here.
	Fill(ctx context.Context, from uint64, entries []record.Entry, openings []record.Record, left, right []record.Hash, head record.TreeHead) (n int, err error)
}
