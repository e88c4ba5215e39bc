package sim

import (
	"context"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
)

// notes are the checkpoints that a hub collects cosignatures for.
type notes struct {
	open   map[uint64][]byte // by size, newest few
	newest []byte            // the largest that this hub signed
}

func newNotes() notes { return notes{open: map[uint64][]byte{}} }

const openNotesMax = 16

func (w *world) context() context.Context { return context.Background() }

func (w *world) hubIDs() []record.DeviceID {
	out := []record.DeviceID{}
	for _, h := range w.hubs {
		out = append(out, h.author.Device)
	}
	return out
}

func (w *world) verifyFinal(note []byte) (record.Checkpoint, error) {
	cp, err := record.VerifyFinal(w.region.Ledger(1), note, w.hubIDs())
	if err != nil && w.o.Hooks.OneIsMajority {
		if any, openErr := record.OpenCheckpoint(w.region.Ledger(1), note, w.hubIDs()); openErr == nil {
			return any, nil
		}
	}
	return cp, err
}

// propose has the leader cosign the tree that its ledger has.
func (w *world) propose() error {
	h := w.leader
	if h == nil || h.st == nil {
		return nil
	}
	if err := w.rejoin(h); err != nil || !h.caughtUp() {
		return err
	}
	if head := h.st.Head(); head.Size > h.st.Signed().Size {
		if err := w.sign(h, head, nil); err != nil {
			return h.failed("cosigning", err)
		}
	}
	return w.touch(h)
}

// caughtUp reports whether a hub's ledger has all that it may have signed before it
// started.
func (b *box) caughtUp() bool { return int(b.next) >= b.had }

// cosign looks again at notes of sizes that a hub's ledger has reached.
func (w *world) cosign(h *box) error {
	for _, size := range sizes(h.notes.open) {
		note, ok := h.notes.open[size]
		if !ok || size > h.st.Head().Size {
			continue
		}
		if err := w.take(h, note); err != nil {
			return h.failed("cosigning", err)
		}
	}
	return nil
}

func sizes(m map[uint64][]byte) []uint64 {
	out := make([]uint64, 0, len(m))
	for s := range m {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// proposeAll has honest hubs cosign what they all have, without a link.
func (w *world) proposeAll() error {
	var note []byte
	for _, h := range w.hubs {
		if head := h.st.Head(); head.Size > h.st.Signed().Size {
			if err := w.sign(h, head, nil); err != nil {
				return err
			}
		}
		note = h.notes.newest
		for _, o := range w.hubs {
			if err := w.take(o, note); err != nil {
				return err
			}
		}
	}
	return nil
}

// offered takes a note from another hub. An error blames the sender.
func (w *world) offered(h *box, from record.DeviceID, note []byte) error {
	if !w.isHub(from) {
		return fmt.Errorf("checkpoint from %s: not a hub", from.Short())
	}
	return w.take(h, note)
}

func (w *world) take(h *box, note []byte) error {
	if h.wit.frozen {
		return nil
	}
	cp, err := record.OpenCheckpoint(w.region.Ledger(1), note, w.hubIDs())
	if err != nil {
		return err
	}
	if cp.Head.Size > h.st.Head().Size || (h.rolledBack || !h.caughtUp()) && !w.o.Hooks.SignOld {
		return w.keep(h, cp)
	}
	root, err := h.st.RootAt(cp.Head.Size)
	if err != nil {
		return err
	}
	if root != cp.Head.Root && w.gang != nil {
		return w.hubContradicted(h, cp)
	}
	if root != cp.Head.Root {
		return w.violated(CheckpointsAgree, "%s has another root for size %d than a hub signed", h, cp.Head.Size)
	}
	if _, head, ok := h.st.Final(); ok && cp.Head.Size <= head.Size {
		delete(h.notes.open, cp.Head.Size)
		return nil
	}
	signed := h.st.Signed()
	if cp.Head.Size > signed.Size || cp.Head == signed && !slices.Contains(cp.Signers, h.author.Device) {
		return w.sign(h, cp.Head, note)
	}
	return w.merge(h, cp.Head, note)
}

func (w *world) keep(h *box, cp record.Checkpoint) error {
	note := cp.Note
	if have, ok := h.notes.open[cp.Head.Size]; ok {
		var err error
		if note, err = record.MergeCosignatures(w.region.Ledger(1), have, note, w.hubIDs()); err != nil {
			return err
		}
	}
	h.notes.put(cp.Head.Size, note)
	return nil
}

func (n *notes) put(size uint64, note []byte) {
	n.open[size] = note
	if len(n.open) > openNotesMax {
		delete(n.open, sizes(n.open)[0])
	}
}

// sign adds a hub's cosignature over its own tree: what it will sign is on disk
// first.
func (w *world) sign(h *box, head record.TreeHead, note []byte) error {
	if err := h.st.PutSigned(head); err != nil {
		return err
	}
	if head.Size < h.signed.Size || head.Size == h.signed.Size && head.Root != h.signed.Root {
		return w.violated(SignsUpward, "%s signs size %d after size %d", h, head.Size, h.signed.Size)
	}
	h.signed = head
	if w.o.Hooks.SignAnything && h.n == 1 {
		head.Root[0] ^= 1
	}
	own, err := record.Cosign(w.region.Ledger(1), head, h.author.Key, h.millis()/1000)
	if err != nil {
		return err
	}
	if note != nil && head == h.signed {
		if own, err = record.MergeCosignatures(w.region.Ledger(1), note, own, w.hubIDs()); err != nil {
			return err
		}
	}
	w.tracef("%s cosigns size %d", h, head.Size)
	return w.merge(h, head, own)
}

func (w *world) merge(h *box, head record.TreeHead, note []byte) error {
	if have, ok := h.notes.open[head.Size]; ok {
		var err error
		if note, err = record.MergeCosignatures(w.region.Ledger(1), have, note, w.hubIDs()); err != nil {
			return err
		}
	}
	h.notes.put(head.Size, note)
	if head.Size >= h.st.Signed().Size {
		h.notes.newest = note
	}
	w.wake(h)
	if _, err := w.verifyFinal(note); err != nil {
		return nil // not yet
	}
	if err := h.st.PutFinal(note, head); err != nil {
		return err
	}
	for size := range h.notes.open {
		if size <= head.Size {
			delete(h.notes.open, size)
		}
	}
	return w.finalSeen(h)
}

// finalSeen holds a box's newest final checkpoint against the agreed ledger and
// all others.
func (w *world) finalSeen(b *box) error {
	note, head, ok := b.st.Final()
	if !ok {
		return nil
	}
	if head.Size < b.final.Size {
		return w.violated(CheckpointsAgree, "%s goes back from size %d to %d", b, b.final.Size, head.Size)
	}
	b.final = head
	m := w.modelOf(b)
	if root, seen := w.signed[head.Size]; seen && root != head.Root && m == w.model || head.Size > m.size() || m.roots[head.Size] != head.Root {
		return w.violated(CheckpointsAgree, "%s holds size %d with root %x", b, head.Size, head.Root[:4])
	}
	if m == w.model {
		w.signed[head.Size] = head.Root
	}
	cp, err := record.OpenCheckpoint(w.region.Ledger(1), note, w.hubIDs())
	if err != nil || 2*len(cp.Signers) <= len(w.hubs) { // counted here, not by what boxes go by
		return w.violated(CheckpointsAgree, "%s holds size %d that is not final: %d of %d hubs, %v", b, head.Size, len(cp.Signers), len(w.hubs), err)
	}
	return nil
}
