package raftlog

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/healthpost/healthpost/record"
	"github.com/rs/zerolog"
)

// position is how far this hub followed the raft log: the last item, and the
// ledger size there.
//
// The ledger may already be larger, when it was fetched past a snapshot or by an
// ordinary replica. Ordering an item now would judge its records by a later
// state than the other hubs did, so the item is only read: what it added is what
// stands in the ledger at Size, record by record. When Size reaches the ledger's
// at the end of an item, the ledger is told its position and ordering goes on.
type position struct{ Index, Term, Size uint64 }

// fsm applies the raft log to the ledger. Raft calls its methods from one
// goroutine; after the first error it applies nothing more.
type fsm struct {
	ctx     context.Context // ends fetches
	ledger  Ledger
	fetcher Fetcher
	region  func() (record.RegionID, bool)
	fail    func(error)
	// configured is told of each configuration.
	configured func(configuration)
	log        zerolog.Logger

	at      position
	failed  error
	applied atomic.Uint64 // at.Index, for other goroutines
}

var (
	_ raft.BatchingFSM        = (*fsm)(nil)
	_ raft.ConfigurationStore = (*fsm)(nil)
)

func (f *fsm) move(to position) {
	f.at = to
	f.applied.Store(to.Index)
}

// stop ends the node for an error after which the ledger cannot be trusted to
// follow the log.
func (f *fsm) stop(err error) error {
	if f.failed == nil {
		f.failed = err
		f.fail(err)
	}
	return f.failed
}

// ApplyBatch applies committed items in order. A response is []record.Outcome or
// an error.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	responses := make([]any, len(logs))
	for i, l := range logs {
		responses[i] = f.Apply(l)
	}
	return responses
}

// Apply applies one committed item.
func (f *fsm) Apply(l *raft.Log) any {
	if l.Type != raft.LogCommand {
		return nil
	}
	if f.failed != nil {
		return f.failed
	}
	if l.Index <= f.at.Index {
		return nil // replayed after a restart
	}
	out, err := f.apply(l)
	if err != nil {
		return f.stop(err)
	}
	return out
}

func (f *fsm) apply(l *raft.Log) ([]record.Outcome, error) {
	if f.ledger.Head().Size > f.at.Size {
		return nil, f.follow(l)
	}
	out, err := f.ledger.Order(l.Index, l.Term, l.Data)
	if err != nil {
		// An item that no hub can read orders nothing on any of them.
		if _, unreadable := record.DecodeBatch(l.Data); unreadable != nil {
			f.log.Error().Uint64("index", l.Index).Int("bytes", len(l.Data)).Msg("raft item is not a batch, skipped")
			f.move(position{l.Index, l.Term, f.at.Size})
			return nil, nil
		}
		return nil, fmt.Errorf("ordering raft item %d: %w", l.Index, err)
	}
	f.move(position{l.Index, l.Term, f.ledger.Head().Size})
	return out, nil
}

// follow accounts for an item whose effects the ledger already has, all or some.
func (f *fsm) follow(l *raft.Log) error {
	head := f.ledger.Head()
	to := position{l.Index, l.Term, f.at.Size}
	batch, err := record.DecodeBatch(l.Data)
	if err != nil {
		batch.Records = nil
	}
	for i := range batch.Records {
		if to.Size == head.Size {
			return f.rest(l, batch.Records[i:])
		}
		e, err := f.ledger.Entry(to.Size)
		if err != nil {
			return fmt.Errorf("following raft item %d: %w", l.Index, err)
		}
		if e.Record.RID() == batch.Records[i].RID() {
			to.Size++
		}
	}
	if to.Size == head.Size {
		if err := f.ledger.SetApplied(l.Index, l.Term, head); err != nil {
			return fmt.Errorf("following raft item %d: %w", l.Index, err)
		}
	}
	f.move(to)
	return nil
}

// rest orders what is left of an item inside which the ledger ends, at the time
// that the first part has.
func (f *fsm) rest(l *raft.Log, records []record.Record) error {
	last, err := f.ledger.Entry(f.ledger.Head().Size - 1)
	if err != nil {
		return fmt.Errorf("following raft item %d: %w", l.Index, err)
	}
	batch := record.Batch{LeaderMillis: last.Time * 1000, Records: records}
	if _, err := f.ledger.Order(l.Index, l.Term, batch.Encode()); err != nil {
		return fmt.Errorf("following raft item %d: %w", l.Index, err)
	}
	f.move(position{l.Index, l.Term, f.ledger.Head().Size})
	return nil
}

// StoreConfiguration lets raft count configuration items as applied, without
// which it would not take snapshots after one.
func (f *fsm) StoreConfiguration(index uint64, c raft.Configuration) {
	f.configured(configuration{c, index})
}

// Snapshot takes the reference; nothing is copied.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed != nil {
		return nil, f.failed
	}
	head := f.ledger.Head()
	if head.Size != f.at.Size {
		return nil, fmt.Errorf("taking snapshot: the raft log is followed to size %d of %d", f.at.Size, head.Size)
	}
	region := []byte{}
	if id, ok := f.region(); ok {
		region = id[:]
	}
	ref := reference{Format: referenceFormat, Region: region, Index: f.at.Index, Term: f.at.Term, Size: head.Size, Root: head.Root[:]}
	return &snapshotOf{ref: ref, ledger: f.ledger, ctx: f.ctx}, nil
}

// snapshotOf writes a reference once the ledger it names is durable.
type snapshotOf struct {
	ctx    context.Context
	ref    reference
	ledger Ledger
}

func (s *snapshotOf) Persist(sink raft.SnapshotSink) error {
	if err := s.ledger.Barrier(s.ctx); err != nil {
		return fmt.Errorf("taking snapshot: %w", err)
	}
	b, err := record.Marshal(s.ref)
	if err == nil {
		_, err = sink.Write(b)
	}
	if err != nil {
		return fmt.Errorf("taking snapshot: %w", err)
	}
	return sink.Close()
}

func (s *snapshotOf) Release() {}

// Restore makes the ledger reach a snapshot that the leader sent. An error is
// told to the leader, which sends it again.
func (f *fsm) Restore(rc io.ReadCloser) error {
	defer rc.Close()
	if f.failed != nil {
		return f.failed
	}
	b, err := io.ReadAll(io.LimitReader(rc, referenceMax+1))
	if err != nil {
		return fmt.Errorf("reading snapshot: %w", err)
	}
	ref, err := decodeReference(b)
	if err != nil {
		return err
	}
	return f.reach(f.ctx, ref)
}

// reach fetches what the ledger lacks of a snapshot and moves the position to it.
func (f *fsm) reach(ctx context.Context, ref reference) error {
	if id, ok := f.region(); ok && len(ref.Region) != 0 && !bytes.Equal(ref.Region, id[:]) {
		return f.stop(fmt.Errorf("restoring snapshot: %w: it is of another region", ErrDiverged))
	}
	if f.ledger.Head().Size < ref.Size {
		if f.fetcher == nil {
			return fmt.Errorf("restoring snapshot of size %d: there is nobody to fetch from", ref.Size)
		}
		f.log.Info().Uint64("from", f.ledger.Head().Size).Uint64("to", ref.Size).Msg("fetching the ledger up to a snapshot")
		if err := f.fetcher.Fetch(ctx, ref.head()); err != nil {
			return fmt.Errorf("fetching the ledger up to a snapshot: %w", err)
		}
	}
	head := f.ledger.Head()
	if head.Size < ref.Size {
		return fmt.Errorf("fetching the ledger up to a snapshot: it ends at %d of %d", head.Size, ref.Size)
	}
	root, err := f.ledger.RootAt(ref.Size)
	if err != nil {
		return f.stop(fmt.Errorf("restoring snapshot: %w", err))
	}
	if root != record.Hash(ref.Root) {
		return f.stop(fmt.Errorf("restoring snapshot: %w: another root at size %d", ErrDiverged, ref.Size))
	}
	if ref.Index <= f.at.Index {
		return nil
	}
	if head.Size == ref.Size {
		if err := f.ledger.SetApplied(ref.Index, ref.Term, head); err != nil {
			return f.stop(fmt.Errorf("restoring snapshot: %w", err))
		}
		if err := f.ledger.Barrier(ctx); err != nil {
			return f.stop(fmt.Errorf("restoring snapshot: %w", err))
		}
	}
	f.move(position{ref.Index, ref.Term, ref.Size})
	return nil
}

// boot finds the position before raft starts. A snapshot counts only as far as
// the ledger on this disk bears it out: raft stores a snapshot that it receives
// before the ledger has what it names.
func (f *fsm) boot(ctx context.Context, snaps *snapshotStore) error {
	index, term, size := f.ledger.Applied()
	if index == 0 {
		size = 0 // what is there came from peers, not from the raft log
	}
	f.move(position{index, term, size})
	ref, ok, err := snaps.newest()
	if err != nil {
		return fmt.Errorf("reading the newest snapshot: %w", err)
	}
	if !ok {
		return nil
	}
	return f.reach(ctx, ref)
}
