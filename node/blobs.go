package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// blobs is what the store keeps of attachments as a session sees it, with what this
// box wants of them: a hub keeps all, any other box those of people it has written
// of, a field device what it carries besides, and everybody what a person waits for.
type blobs struct{ n *Node }

var _ peersync.Blobs = blobs{}

// written keeps which people this box has written of: the zero time for those, and
// for others when that was looked up.
type written struct {
	mu sync.Mutex
	at map[record.CompartmentID]time.Time // guarded by mu

	moves atomic.Uint64 // of what this box wants besides what is announced
}

// wrote forgets the noes: this box wrote of somebody.
func (w *written) wrote(drafts []store.Draft) {
	w.mu.Lock()
	for i := range drafts {
		delete(w.at, drafts[i].Compartment)
	}
	w.mu.Unlock()
	w.moves.Add(1)
}

const (
	wroteAgain = time.Minute
	wroteMax   = 8192
)

// wantedLookMax bounds how many that are missing are looked at for one question.
const wantedLookMax = 256

func (b blobs) Wanted(max int, asked bool, skip func(record.BlobID) bool) ([]peersync.BlobWant, error) {
	n := b.n
	out, err := b.waitedFor(max, skip)
	if err != nil || asked || len(out) == max || !n.store.BlobRoom() {
		return out, err
	}
	full := map[record.DeviceID]bool{}
	var failed error
	err = n.store.MissingBlobs(wantedLookMax, func(st store.BlobState) bool {
		id := st.ID()
		if skip(id) || contains(out, id) {
			return true
		}
		wants, err := b.wants(&st, full)
		if err != nil {
			failed = err
			return false
		}
		if wants {
			out = append(out, peersync.BlobWant{Blob: st.Blob, Have: st.Have})
		}
		return len(out) < max
	})
	return out, errors.Join(err, failed)
}

func contains(list []peersync.BlobWant, id record.BlobID) bool {
	for i := range list {
		if list[i].ID() == id {
			return true
		}
	}
	return false
}

// waitedFor lists what people wait for and forgets what has come.
func (b blobs) waitedFor(max int, skip func(record.BlobID) bool) (out []peersync.BlobWant, err error) {
	ids, err := b.n.asked()
	var done []store.Row
	for _, id := range ids {
		st, ok, serr := b.n.store.Blob(id)
		if err = errors.Join(err, serr); err != nil {
			return nil, err
		}
		switch {
		case !ok || st.Whole():
			done = append(done, store.Row{Key: append([]byte(askedPrefix), id[:]...)})
		case len(out) < max && !skip(id):
			out = append(out, peersync.BlobWant{Blob: st.Blob, Have: st.Have, Asked: true})
		}
	}
	if err == nil && len(done) > 0 {
		err = b.n.store.PutRowsSoon(context.Background(), done)
	}
	return out, err
}

func (b blobs) wants(st *store.BlobState, full map[record.DeviceID]bool) (bool, error) {
	n := b.n
	no, known := full[st.Author]
	if !known {
		held, most, err := n.store.BlobCharge(st.Author)
		if err != nil {
			return false, err
		}
		no = held+record.BlobChunkBytes > most
		full[st.Author] = no
	}
	switch {
	case no:
		return false, nil
	case n.box.Role.Orders():
		return true, nil
	case n.box.Role == record.RoleField:
		if at, ok, err := n.store.Locate(st.RID); err != nil || ok && at.Pending {
			return err == nil, err
		}
	}
	return n.wroteIn(st.Compartment)
}

// wroteIn reports whether this box has written of a person. A no is remembered for a
// minute: whoever asks does so at every change.
func (n *Node) wroteIn(c record.CompartmentID) (wrote bool, err error) {
	now := n.o.Now()
	n.written.mu.Lock()
	at, known := n.written.at[c]
	n.written.mu.Unlock()
	if known && (at.IsZero() || now.Sub(at).Abs() < wroteAgain) {
		return at.IsZero(), nil
	}
	defer func() {
		if err != nil {
			return
		}
		n.written.mu.Lock()
		defer n.written.mu.Unlock()
		if n.written.at == nil || len(n.written.at) >= wroteMax {
			n.written.at = map[record.CompartmentID]time.Time{}
		}
		if n.written.at[c] = now; wrote {
			n.written.at[c] = time.Time{}
		}
	}()
	recs, err := n.store.Compartment(c)
	if err != nil {
		return false, err
	}
	for i := range recs {
		if n.wroteHere(&recs[i].Record) {
			return true, nil
		}
	}
	return false, nil
}

func (b blobs) Mark() uint64 { return b.n.store.BlobMark() + b.n.written.moves.Load() }

func (b blobs) Blob(id record.BlobID) (record.Blob, []byte, bool, error) {
	st, ok, err := b.n.store.Blob(id)
	return st.Blob, st.Have, ok && st.RID != (record.RID{}), err
}

func (b blobs) Part(id record.BlobID, part int) ([]byte, error) {
	p, err := b.n.store.BlobPart(id, part)
	if !lostPart(err) {
		return p, err
	}
	return nil, errors.Join(fmt.Errorf("%w: %w", peersync.ErrNoPart, err), b.n.mendBlob(id))
}

func lostPart(err error) bool {
	return errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrNotFound)
}

// mendBlob has others give again what is damaged of an attachment here.
func (n *Node) mendBlob(id record.BlobID) error {
	lost, err := n.store.MendBlob(context.Background(), id)
	if lost > 0 {
		n.log.Warn().Stringer("attachment", id).Int("parts", lost).Msg("parts of an attachment are damaged here and asked for again")
	}
	return err
}

func (b blobs) PutPart(ctx context.Context, _ record.DeviceID, id record.BlobID, part int, p []byte) (bool, error) {
	_, whole, err := b.n.store.PutBlobPart(ctx, id, part, p)
	if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrBlobQuota) {
		err = fmt.Errorf("%w: %w", peersync.ErrNoRoom, err)
	}
	return whole, err
}

func (b blobs) Unconfirmed(max int) ([]record.BlobID, error) { return b.n.store.BlobsOnlyHere(max) }

func (b blobs) HeldOf(author record.DeviceID, max int) ([]record.BlobID, error) {
	var out []record.BlobID
	err := b.n.store.EachBlob(func(st store.BlobState) bool {
		if st.Author != b.n.author.Device && (author == record.DeviceID{} || st.Author == author) && st.RID != (record.RID{}) && st.Whole() {
			out = append(out, st.ID())
		}
		return len(out) < max
	})
	return out, err
}

func (b blobs) PutHolder(ctx context.Context, peer record.DeviceID, ids []record.BlobID) error {
	return b.n.store.PutBlobHolder(ctx, peer, ids)
}
