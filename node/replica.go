package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/raftlog"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// The store, the exchange and the ordering each say what they need in their own
// words; what follows translates, and decides nothing.

// replica is the store as a session sees it, pinned to the region that this box
// was invited to.
type replica struct {
	*store.Store
	n      *Node
	region record.RegionID
}

// foundingSeq is where the record stands whose rid is the region's id.
const foundingSeq = 1

var _ peersync.Replica = replica{}

func (r replica) PendingFeeds() ([]peersync.PendingFeed, error) {
	list, err := r.Store.PendingFeeds()
	out := make([]peersync.PendingFeed, 0, len(list))
	for _, f := range list {
		out = append(out, peersync.PendingFeed{Feed: f.Feed, Author: f.Author, OrderedN: f.OrderedN, HeldN: f.HeldN, Opening: f.Opening})
	}
	return out, err
}

func (r replica) Ingest(ctx context.Context, from record.DeviceID, recs []record.Record) (peersync.Ingested, error) {
	in, err := r.Store.Ingest(ctx, from, recs)
	if err == nil && in.New > 0 {
		r.n.gave(from, recs)
	}
	return peersync.Ingested{New: in.New, Known: in.Known, Heads: in.Heads, Refused: in.Refused}, err
}

// Extend waits, when it fails, until what other sessions wrote meanwhile can be
// read, so that the session sees that it was overtaken and does not blame its peer.
func (r replica) Extend(ctx context.Context, entries []record.Entry, target record.TreeHead, proof []record.Hash) error {
	if r.n.frozen() {
		return errFrozen
	}
	if err := r.founded(entries); err != nil {
		return err
	}
	err := r.Store.Extend(ctx, entries, target, proof)
	if err == nil {
		return r.n.checkSeed()
	}
	return errors.Join(err, r.Store.Barrier(ctx))
}

// founded refuses entries of another region than this box was invited to.
func (r replica) founded(entries []record.Entry) error {
	for i := range entries {
		if e := &entries[i]; e.Seq == foundingSeq && record.RegionID(e.Record.RID()) != r.region {
			return fmt.Errorf("extending the ledger: %w: it was founded as region %s, this box was invited to %s", record.ErrMalformed, e.Record.RID().Short(), record.RID(r.region).Short())
		}
	}
	return nil
}

func (r replica) Refused() ([]peersync.Refusal, error) {
	list, err := r.Store.Refused()
	out := make([]peersync.Refusal, 0, len(list))
	for _, x := range list {
		out = append(out, peersync.Refusal{Outcome: x.Outcome, Position: x.Position})
	}
	return out, err
}

var errFrozen = errors.New("confirmation is frozen: a majority of the hubs signed two ledgers")

// PutFinal keeps nothing while confirmation is frozen.
func (r replica) PutFinal(note []byte, head record.TreeHead) error {
	if r.n.frozen() {
		return nil
	}
	return r.n.keepFinal(note, head)
}

// PutRefused believes a verdict when the own ledger comes to one.
func (r replica) PutRefused(out record.Outcome, by record.DeviceID) error {
	return r.n.heardRefusal(out, by)
}

// ownFault tells errors that are this box's from what a peer caused.
func ownFault(err error) bool {
	return errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrFault) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrDamaged) || errors.Is(err, errFrozen)
}

// waiting is the store as the leader's orderer sees it.
type waiting struct{ *store.Store }

func (w waiting) PendingFeeds() ([]raftlog.PendingFeed, error) {
	list, err := w.Store.PendingFeeds()
	out := make([]raftlog.PendingFeed, 0, len(list))
	for _, f := range list {
		out = append(out, raftlog.PendingFeed{Feed: f.Feed, OrderedN: f.OrderedN, HeldN: f.HeldN, Opening: f.Opening})
	}
	return out, err
}

// raftRows is the part of the database that raft's log and votes live in.
type raftRows struct{ *store.KV }

func (k raftRows) Get(key []byte) ([]byte, bool, error) {
	v, err := k.KV.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, err
}

func (k raftRows) Update(rows []raftlog.Row) error {
	out := make([]store.Row, len(rows))
	for i, r := range rows {
		out[i] = store.Row(r)
	}
	return k.KV.Update(out)
}
