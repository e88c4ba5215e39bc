package sim

import (
	"bytes"
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// In the scenario Partial some clinics hold a part of the ledger and others join
// with its newest entries first; profiles change on the way. Everything else is as
// in the scenario Region.

func (w *world) partialPlan() {
	p := &w.plan
	p.Clinics, p.Fields = 3+w.rng.IntN(2), 1
	p.Patients = 3 * (p.Clinics + p.Fields)
	p.Parts, p.Recent = 1+w.rng.IntN(3), []uint64{0, 10, 30}[w.rng.IntN(3)]
	p.AssignMillis = []int64{10_000, 30_000}[w.rng.IntN(2)]
	p.SafetyMillis, p.BytesPerSec, p.Latency = 60_000, max(p.BytesPerSec, 15_000), min(p.Latency, 300)
}

// parts is what the scenario Partial knows of its boxes.
type parts struct {
	always  map[*box]bool                 // partial from the beginning on
	carries map[*box]map[record.Feed]bool // fed with others' records before they were ordered
	ever    map[record.DeviceID]map[record.CompartmentID]bool
}

func newParts() *parts {
	return &parts{always: map[*box]bool{}, carries: map[*box]map[record.Feed]bool{}, ever: map[record.DeviceID]map[record.CompartmentID]bool{}}
}

// assignFirst makes the first few clinics partial while the region is founded.
func (w *world) assignFirst() ([]record.Record, error) {
	var out []record.Record
	for _, c := range w.clinics[:min(w.plan.Parts, len(w.clinics))] {
		recs, err := w.assign(w.hubs[0], c, record.ModePartial, nil, nil)
		if err != nil {
			return nil, err
		}
		w.parts.always[c] = true
		out = append(out, recs...)
	}
	return out, nil
}

func (w *world) assign(h, c *box, mode record.Mode, add, remove []record.CompartmentID) ([]record.Record, error) {
	list := func(ids []record.CompartmentID) [][]byte {
		out := [][]byte{}
		for i := range ids {
			out = append(out, ids[i][:])
		}
		return out
	}
	body, err := record.Marshal(record.Assign{Device: c.author.Device[:], Mode: mode, Add: list(add), Remove: list(remove)})
	if err != nil {
		return nil, err
	}
	w.tracef("%s assigns %s: mode %q, adds %d, removes %d", h, c, mode, len(add), len(remove))
	return w.control(h, record.KindAssign, body)
}

// assignSome has a hub change what some clinic's replica is to hold.
func (w *world) assignSome() error {
	h, c := w.leader, w.clinics[w.rng.IntN(len(w.clinics))]
	if h == nil || h.st == nil || h.armed {
		return nil
	}
	p := w.patients[w.rng.IntN(len(w.patients))].id
	mode, add, remove := record.Mode(""), []record.CompartmentID{p}, []record.CompartmentID(nil)
	switch {
	case w.chance(4):
		add, remove = nil, add
	case w.chance(4) && !w.parts.always[c]:
		mode = []record.Mode{record.ModeFull, record.ModePartial}[w.rng.IntN(2)]
	}
	if w.parts.ever[c.author.Device] == nil {
		w.parts.ever[c.author.Device] = map[record.CompartmentID]bool{}
	}
	w.parts.ever[c.author.Device][p] = true
	if _, err := w.assign(h, c, mode, add, remove); err != nil {
		return h.failed("assigning", err)
	}
	return w.touch(h)
}

// takesFrom says whether a box can extend its ledger from another: one that holds
// everything, and that agrees with it on how much its replica is to hold, or is a
// hub.
func (w *world) takesFrom(x, y *box) (bool, error) {
	if w.parts == nil || y.hub() {
		return true, nil
	}
	here, err := isPart(x.st, x.author.Device)
	if err != nil {
		return false, x.failed("reading", err)
	}
	there, err := isPart(y.st, x.author.Device)
	if err != nil {
		return false, y.failed("reading", err)
	}
	return here == there && !y.st.HasHoles(), nil
}

// patientOf is mostly one of the box's own.
func (w *world) patientOf(b *box) *patient {
	if w.parts == nil || w.chance(12) {
		return w.patients[w.rng.IntN(len(w.patients))]
	}
	per := len(w.patients) / len(w.clinics)
	return w.patients[(b.n-len(w.hubs))*per+w.rng.IntN(per)]
}

// isPart says what the ledger of a box calls the replica of a device.
func isPart(st *store.Store, d record.DeviceID) (bool, error) {
	mode, err := record.ModeOf(st.State(), d)
	return mode == record.ModePartial, err
}

// partOptions are those of a session in the scenario Partial.
func (w *world) partOptions(b *box, o *peersync.Options) {
	if w.parts == nil || b.hub() {
		return
	}
	o.Recent = w.plan.Recent
	o.Partial = func() bool {
		part, err := isPart(b.st, b.author.Device)
		if err != nil {
			w.late = b.failed("reading its profile", err)
		}
		return part
	}
}

// replicaOf is a box's store for one session.
func (w *world) replicaOf(b, peer *box, trusted bool) (peersync.Replica, *replica) {
	r := &replica{Store: b.st, b: b, peer: peer, trusted: trusted}
	if w.parts == nil {
		return r, r
	}
	return &partReplica{r}, r
}

// partReplica is a store that may hold a part, as a session sees it.
type partReplica struct{ *replica }

var _ peersync.Partial = (*partReplica)(nil)

// Ingest implements peersync.Replica.
func (r *partReplica) Ingest(ctx context.Context, from record.DeviceID, recs []record.Record) (peersync.Ingested, error) {
	m := r.b.w.parts.carries
	if m[r.b] == nil {
		m[r.b] = map[record.Feed]bool{}
	}
	for i := range recs {
		m[r.b][recs[i].Position().Feed()] = true
	}
	return r.replica.Ingest(ctx, from, recs)
}

// IsPartial implements peersync.Partial.
func (r *partReplica) IsPartial(d record.DeviceID) (bool, error) { return isPart(r.Store, d) }

// SpanFor implements peersync.Partial.
func (r *partReplica) SpanFor(d record.DeviceID, from, to uint64, bytesMax int, pending ...record.Feed) (record.Span, error) {
	s, err := r.Store.SpanFor(d, from, to, bytesMax, pending...)
	return record.Span(s), err
}

// ExtendSpan implements peersync.Partial.
func (r *partReplica) ExtendSpan(ctx context.Context, s *record.Span, target record.TreeHead, proof []record.Hash) error {
	err := r.Store.ExtendSpan(ctx, store.Span(*s), target, proof)
	if err == nil {
		r.took += len(s.Entries)
		r.b.w.res.Applied += uint64(len(s.Entries))
	}
	return err
}

// HolesBefore implements peersync.Partial.
func (r *partReplica) HolesBefore(size uint64, limit int) ([]record.Hole, error) {
	list, err := r.Store.HolesBefore(size, limit)
	out := make([]record.Hole, 0, len(list))
	for _, h := range list {
		out = append(out, record.Hole(h))
	}
	return out, err
}

// Missing implements peersync.Partial.
func (r *partReplica) Missing(limit int) ([]record.CompartmentID, error) {
	list, err := r.Store.Missing(limit)
	if err != nil {
		return nil, err
	}
	var out []record.CompartmentID
	for _, c := range list {
		if in, err := r.Store.InProfile(r.b.author.Device, c); err != nil {
			return nil, err
		} else if in {
			out = append(out, c)
		}
	}
	more, err := r.Store.Lacking(r.b.author.Device, limit)
	return append(out, more...), err
}

// HasAll implements peersync.Partial.
func (r *partReplica) HasAll(ctx context.Context, c record.CompartmentID, size uint64) error {
	return r.Store.SetHad(ctx, c, size)
}

// MayHold implements peersync.Partial.
func (r *partReplica) MayHold(d record.DeviceID, c record.CompartmentID) (bool, error) {
	if part, err := isPart(r.Store, d); err != nil || !part {
		return true, err
	}
	return r.Store.InProfile(d, c)
}

// Fill implements peersync.Partial.
func (r *partReplica) Fill(ctx context.Context, from uint64, entries []record.Entry, openings []record.Record, left, right []record.Hash, head record.TreeHead) (int, error) {
	n, err := r.Store.Fill(ctx, from, entries, openings, left, right, head)
	r.took += n
	r.b.w.res.Applied += uint64(n)
	return n, err
}

// checkPart compares what a box holds of the ledger with the agreed one, knows its
// holes, and holds it to its profile.
func (w *world) checkPart(b *box) error {
	head, m := b.st.Head(), w.modelOf(b)
	if head.Size > m.size() || m.roots[head.Size] != head.Root {
		return w.violated(PartSameRoot, "%s has size %d root %x", b, head.Size, head.Root[:4])
	}
	for seq := range head.Size {
		e, err := b.st.Entry(seq)
		if errors.Is(err, record.ErrHole) {
			if !b.st.HasHoles() {
				return w.violated(ReplicaVerifies, "%s lacks entry %d and has no hole", b, seq)
			}
			continue
		}
		if err != nil {
			return err
		}
		want := &m.entries[seq]
		if !bytes.Equal(e.EncodeLeaf(), m.leaves[seq]) || !bytes.Equal(e.Record.Body, want.Record.Body) {
			return w.violated(PrefixOfHubs, "%s has another entry %d", b, seq)
		}
		if err := w.checkKnown(b, &e); err != nil {
			return err
		}
		if w.parts.always[b] && !w.mayHave(b, &e) {
			return w.violated(PartNoMore, "%s holds entry %d of kind %d, lane %d n %d of epoch %s, which is none of its profile", b, seq, e.Record.Core.Kind, e.Record.Core.Lane, e.Record.Core.N, e.Record.Position().Epoch)
		}
	}
	return nil
}

// checkKnown: who holds an entry of a compartment knows whether it misses the one
// before it.
func (w *world) checkKnown(b *box, e *record.Entry) error {
	if e.PrevSeq == 0 {
		return nil
	}
	_, err := b.st.Entry(e.PrevSeq - 1)
	if !errors.Is(err, record.ErrHole) {
		return err
	}
	missing, err := b.st.MissingOf(e.Record.Core.Compartment)
	if err == nil && !missing {
		err = w.violated(PartKnowsHoles, "%s holds entry %d, not the one before it, %d, and does not know it", b, e.Seq, e.PrevSeq-1)
	}
	return err
}

// mayHave says whether a box that always held a part may ever have been given an
// entry.
func (w *world) mayHave(b *box, e *record.Entry) bool {
	p, c := e.Record.Position(), e.Record.Core.Compartment
	d := b.author.Device
	return e.HeldByAll() || w.model.epochs[p.Epoch].Device == d || w.parts.carries[b][p.Feed()] || w.parts.ever[d][c] || w.wrote(d, c)
}

// wrote says whether a device has written in a compartment, as ordered so far.
func (w *world) wrote(d record.DeviceID, c record.CompartmentID) bool {
	for _, seq := range w.model.made[c] {
		if w.model.epochs[w.model.entries[seq].Record.Position().Epoch].Device == d {
			return true
		}
	}
	return false
}

// whole: every box holds what its profile has, and who is to hold everything has
// no hole.
func (w *world) whole() (bool, error) {
	if w.parts == nil {
		return true, nil
	}
	for _, b := range w.clinics {
		part, err := isPart(b.st, b.author.Device)
		if err != nil {
			return false, b.failed("reading", err)
		}
		if !part {
			if b.st.HasHoles() {
				return false, nil
			}
			continue
		}
		for i := range w.model.entries {
			e := &w.model.entries[i]
			in, err := w.inProfile(b, e)
			if err != nil {
				return false, err
			}
			if !in {
				continue
			}
			if _, err := b.st.Entry(e.Seq); errors.Is(err, record.ErrHole) {
				return false, nil
			} else if err != nil {
				return false, b.failed("reading", err)
			}
		}
	}
	return true, nil
}

func (w *world) inProfile(b *box, e *record.Entry) (bool, error) {
	d, c := b.author.Device, e.Record.Core.Compartment
	if e.HeldByAll() || w.model.epochs[e.Record.Position().Epoch].Device == d {
		return true, nil
	}
	if c.IsZero() {
		return false, nil
	}
	assigned, err := record.IsAssigned(modelState{w.model}, d, c)
	return assigned || w.wrote(d, c), err
}
