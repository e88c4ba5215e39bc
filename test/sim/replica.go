package sim

import (
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// replica is a box's store as one session sees it, with the checks of what goes
// through.
type replica struct {
	*store.Store
	b, peer *box
	trusted bool // the peer's words arrive unchanged
	took    int  // records and entries that were new
}

var _ peersync.Replica = (*replica)(nil)

// PendingFeeds implements peersync.Replica.
func (r *replica) PendingFeeds() ([]peersync.PendingFeed, error) {
	list, err := r.Store.PendingFeeds()
	out := make([]peersync.PendingFeed, 0, len(list))
	for _, f := range list {
		if r.b.w.o.Hooks.HideOwn && f.Author == r.peer.author.Device {
			continue
		}
		out = append(out, peersync.PendingFeed{Feed: f.Feed, Author: f.Author, OrderedN: f.OrderedN, HeldN: f.HeldN, Opening: f.Opening})
	}
	return out, err
}

// Ingest implements peersync.Replica.
func (r *replica) Ingest(ctx context.Context, from record.DeviceID, recs []record.Record) (peersync.Ingested, error) {
	if r.b.w.o.Hooks.DropRecord {
		if last := recs[len(recs)-1]; last.Position().N > 0 && last.RID()[0]%8 == 0 {
			return r.ingestBut(ctx, from, recs)
		}
	}
	var in store.Ingested
	err := r.b.unshown("taking in", func() (err error) {
		in, err = r.Store.Ingest(ctx, from, recs)
		return err
	})
	r.took += in.New
	if err == nil {
		r.b.keeps(recs, in.Refused)
		r.b.w.handed(r.b, recs, in.Refused)
	}
	return peersync.Ingested{New: in.New, Known: in.Known, Heads: in.Heads, Refused: in.Refused}, err
}

// ingestBut is what DropRecord breaks: the last record is answered for, not kept.
func (r *replica) ingestBut(ctx context.Context, from record.DeviceID, recs []record.Record) (peersync.Ingested, error) {
	in, err := r.Store.Ingest(ctx, from, recs[:len(recs)-1])
	return peersync.Ingested{New: in.New + 1, Known: in.Known, Heads: in.Heads, Refused: in.Refused}, err
}

// Extend implements peersync.Replica.
func (r *replica) Extend(ctx context.Context, entries []record.Entry, target record.TreeHead, proof []record.Hash) error {
	err := r.b.unshown("extending", func() error { return r.Store.Extend(ctx, entries, target, proof) })
	if err == nil {
		r.took += len(entries)
		r.b.w.res.Applied += uint64(len(entries))
		for i := range entries {
			r.b.w.handed(r.b, []record.Record{entries[i].Record}, nil)
		}
	}
	return err
}

// Refused implements peersync.Replica.
func (r *replica) Refused() ([]peersync.Refusal, error) {
	list, err := r.Store.Refused()
	out := make([]peersync.Refusal, 0, len(list))
	for _, x := range list {
		out = append(out, peersync.Refusal{Outcome: x.Outcome, Position: x.Position})
	}
	return out, err
}

// PutAck implements peersync.Replica: what staff will read as copied.
func (r *replica) PutAck(peer record.DeviceID, heads []record.FeedHead) error {
	w := r.b.w
	for _, h := range heads {
		if !r.trusted || r.peer.st == nil || r.peer.behind {
			continue
		}
		rid, ok, err := r.peer.st.HeldRID(record.Position{Epoch: h.Epoch, Lane: h.Lane, N: h.N})
		if err != nil {
			return err
		}
		own, _, err := r.Store.HeldRID(record.Position{Epoch: h.Epoch, Lane: h.Lane, N: h.N})
		if err != nil {
			return err
		}
		if seq, placed := w.model.rids[own]; placed && seq < r.peer.st.Head().Size {
			continue // in the peer's ledger, be it in a hole of it: the hubs have it
		}
		if (!ok || rid != own) && !w.ofTwice(h.Epoch) {
			return w.violated(CopiedIsHeld, "%s acknowledged %s lane %d n %d to %s and does not hold it", r.peer, h.Epoch, h.Lane, h.N, r.b)
		}
	}
	return r.Store.PutAck(peer, heads)
}

// PutFinal implements peersync.Replica.
func (r *replica) PutFinal(note []byte, head record.TreeHead) error {
	if r.b.wit.frozen {
		return nil
	}
	if err := r.Store.PutFinal(note, head); err != nil {
		return err
	}
	return r.b.w.finalSeen(r.b)
}

// Holder implements peersync.Replica.
func (r *replica) Holder() record.Holder { return r.Store.Holder() }

// ownFault tells errors that are this box's from what a peer caused.
func ownFault(err error) bool {
	var bad *Violation
	return errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrFault) || errors.Is(err, store.ErrClosed) || errors.Is(err, store.ErrDamaged) || errors.As(err, &bad)
}

// failed sorts an error of a box's own replica: an injected fault ends the box.
func (b *box) failed(what string, err error) error {
	var bad *Violation
	if errors.As(err, &bad) {
		return bad
	}
	if b.st == nil {
		return nil
	}
	if b.armed && b.st.Err() != nil {
		return b.w.crash(b, "within "+what)
	}
	return b.w.violated(DiskSound, "%s of %s: %v", what, b, err)
}
