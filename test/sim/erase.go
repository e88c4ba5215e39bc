package sim

import (
	"bytes"
	"crypto/ed25519"

	"github.com/healthpost/healthpost/record"
)

// In the scenario Erase charts and single records are erased while boxes are away,
// behind, or come back with an old card, and while some write on in a chart that is
// erased elsewhere. Everything else is as in the scenario Region.

func (w *world) erasePlan() {
	p := &w.plan
	p.Patients = 4 + w.rng.IntN(4)
	p.EraseMillis = []int64{4_000, 10_000}[w.rng.IntN(2)]
	p.SafetyMillis = 40_000
	p.SaveMillis = min(p.SaveMillis, 5_000)
}

// eraseSome has a hub or a clinic ask for the erasure of a chart or of a record.
func (w *world) eraseSome() error {
	b := w.boxes[w.rng.IntN(len(w.boxes))]
	if b.st == nil || b.armed || b.role == record.RoleField || len(w.saves) == 0 {
		return nil
	}
	p := w.patients[w.rng.IntN(len(w.patients))]
	target := p.id[:]
	if w.chance(2) {
		rid := w.saves[w.rng.IntN(len(w.saves))].r.RID()
		target = rid[:]
	}
	body, err := w.eraseBody(b, target)
	if err != nil {
		return err
	}
	w.tracef("%s has %x erased", b, target[:4])
	if _, err := w.control(b, record.KindErase, body); err != nil {
		return b.failed("erasing", err)
	}
	return w.touch(b)
}

func (w *world) eraseBody(b *box, target []byte) ([]byte, error) {
	e := record.Erase{V: 1, Compartment: []byte{}, Record: []byte{}, Reason: record.EraseAsked}
	if len(target) == len(record.RID{}) {
		e.Record = target
	} else {
		e.Compartment = target
	}
	claim := record.EraseClaim(b.author.Device, e.Reason, target)
	for i := range 2 {
		seed := make([]byte, ed25519.SeedSize)
		seed[0] = byte(i + 1)
		key := ed25519.NewKeyFromSeed(seed)
		e.Staff = append(e.Staff, key.Public().(ed25519.PublicKey))
		e.Signatures = append(e.Signatures, ed25519.Sign(key, claim))
	}
	if bytes.Compare(e.Staff[0], e.Staff[1]) > 0 {
		e.Staff[0], e.Staff[1] = e.Staff[1], e.Staff[0]
		e.Signatures[0], e.Signatures[1] = e.Signatures[1], e.Signatures[0]
	}
	return record.Marshal(e)
}

// erasedAt is the first size of the ledger at which the body of a record is erased, 0
// for never, by the agreed ledger.
func (w *world) erasedAt(r *record.Record) (size uint64) {
	if w.plan.EraseMillis == 0 || !r.Core.Erasable() {
		return 0
	}
	rid := r.RID()
	for _, target := range [][]byte{r.Core.Compartment[:], rid[:]} {
		value, ok, _ := w.model.registry.Registry(record.ErasedKey(target))
		if !ok {
			continue
		}
		if seq, err := record.ErasedBy(value); err == nil && (size == 0 || seq+1 < size) {
			size = seq + 1
		}
	}
	return size
}

// bodyFits says whether what a box has of the body of a record is right: nothing of
// what is erased as far as its ledger goes, the whole of what nobody erased, and
// either of what is erased further on, as whoever sent it had it.
func (w *world) bodyFits(b *box, r *record.Record, whole []byte, placed bool) bool {
	at := w.erasedAt(r)
	switch {
	case r.Body == nil && len(whole) > 0:
		return at > 0
	case at > 0 && placed && at <= b.st.Head().Size:
		return false
	}
	return bytes.Equal(r.Body, whole)
}

// Entries implements peersync.Replica: what it gives leaves the box.
func (r *replica) Entries(from, to uint64, bytesMax int) ([]record.Entry, error) {
	size := r.Store.Head().Size
	list, err := r.Store.Entries(from, to, bytesMax)
	for i := range list {
		if at := r.b.w.erasedAt(&list[i].Record); err == nil && at > 0 && at <= size && list[i].Record.Body != nil {
			err = r.b.w.violated(ErasedGone, "%s serves the body of entry %d, which its ledger erased at %d", r.b, list[i].Seq, at-1)
		}
	}
	return list, err
}

// checkErased looks for bodies that the ledger of a box erased.
func (w *world) checkErased(b *box) error {
	if w.plan.EraseMillis == 0 {
		return nil
	}
	size := b.st.Head().Size
	for i, s := range w.saves {
		at := w.erasedAt(&s.r)
		seq, placed := w.model.rids[s.r.RID()]
		if at == 0 || at > size || !placed || seq >= size {
			continue
		}
		r, ok, err := b.st.ByRID(s.r.RID())
		if err != nil {
			return err
		}
		if ok && r.Body != nil {
			return w.violated(ErasedGone, "%s holds the body of save %d, which its ledger of size %d erased at %d", b, i, size, at-1)
		}
	}
	return nil
}
