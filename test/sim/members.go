package sim

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
)

// In the scenario Members clinics lose their membership while they work, and some
// records are of kinds and have extensions that no release knows yet. Everything
// else is as in the scenario Region.

func (w *world) membersPlan() {
	p := &w.plan
	p.Clinics = 4 + w.rng.IntN(3)
	p.RevokeMillis, p.RevokedMax = []int64{10_000, 25_000}[w.rng.IntN(2)], 1+w.rng.IntN(2)
	p.NeighboursIn, p.RestoreMillis, p.JunkIn = 2, 0, 0
	p.UnknownIn = 2 + w.rng.IntN(4)
	p.SafetyMillis = 60_000
}

// members is what the scenario Members knows of its boxes.
type members struct {
	revoked map[record.DeviceID]bool   // asked for; the ledger says since when
	since   map[record.DeviceID]uint64 // place of the revocation
	looked  int                        // entries that since has
	unknown []record.Record
}

func newMemberships() *members {
	return &members{revoked: map[record.DeviceID]bool{}, since: map[record.DeviceID]uint64{}}
}

// revokeSome has the leader end the membership of a clinic.
func (w *world) revokeSome() error {
	h, c := w.leader, w.clinics[w.rng.IntN(len(w.clinics))]
	if h == nil || h.st == nil || h.armed || len(w.members.revoked) >= w.plan.RevokedMax || w.members.revoked[c.author.Device] {
		return nil
	}
	body, err := record.Marshal(record.MemberRevoke{Device: c.author.Device[:], Reason: "lost"})
	if err != nil {
		return err
	}
	w.members.revoked[c.author.Device] = true
	w.tracef("%s revokes %s", h, c)
	if _, err := w.control(h, record.KindMemberRevoke, body); err != nil {
		return h.failed("revoking", err)
	}
	return w.touch(h)
}

// isRevoked says whether a box's membership was, or is about to be, ended.
func (w *world) isRevoked(d record.DeviceID) bool { return w.members != nil && w.members.revoked[d] }

// shuns says whether a box knows that another's membership has ended: they have no
// session.
func (w *world) shuns(a, b *box) bool {
	if w.members == nil {
		return false
	}
	for i, x := range []*box{a, b} {
		m, ok, err := x.st.Member([]*box{b, a}[i].author.Device)
		if err == nil && ok && !m.Active() {
			return true
		}
	}
	return false
}

// unknownKinds are of records that open to all and of sealed ones.
var unknownKinds = []record.Kind{20, 31, 64, 999, 65535}

// saveUnknown has a box write a record as a later release would.
func (w *world) saveUnknown(b *box) error {
	kind, body := unknownKinds[w.rng.IntN(len(unknownKinds))], w.bytes(1+w.rng.IntN(300))
	d := store.Draft{Lane: record.Lane(w.rng.IntN(record.LaneCount)), Kind: kind, Seal: func(record.Position) ([]byte, error) { return body, nil }}
	if kind.Sealed() && w.chance(2) {
		d.Compartment = w.patientOf(b).id
	}
	if w.chance(2) {
		d.Ext = map[uint64][]byte{2: w.bytes(1 + w.rng.IntN(20)), 1 << 40: {}}
	}
	err := b.ensureEpoch()
	var recs []record.Record
	if err == nil {
		recs, err = b.st.Append(context.Background(), []store.Draft{d}, func(made []record.Record) ([]store.Row, error) {
			w.authored[made[0].RID()] = &authored{r: made[0], by: b}
			return nil, nil
		})
	}
	if err != nil {
		return b.failed("saving", err)
	}
	r := recs[0]
	w.saves = append(w.saves, &save{r: r, by: b, number: len(w.saves)})
	w.members.unknown = append(w.members.unknown, r)
	w.res.Saves++
	w.tracef("%s saves %s of kind %d in lane %d n %d", b, r.RID().Short(), kind, d.Lane, r.Position().N)
	return w.touch(b)
}

// isChart says whether a record's body is one of a chart.
func isChart(k record.Kind) bool { return k == record.KindClinical || k == record.KindRegistration }

// checkMembers: nothing that a device wrote has a place behind the revocation; what
// a box holds of it stays there; and records of unknown kinds are as they were
// written.
func (w *world) checkMembers(b *box) error {
	if w.members == nil {
		return nil
	}
	if err := w.checkRevoked(); err != nil {
		return err
	}
	theirs := maps.Clone(b.left)
	maps.DeleteFunc(theirs, func(rid record.RID, _ bool) bool {
		a := w.authored[rid]
		return a == nil || !w.isRevoked(a.by.author.Device)
	})
	for _, rid := range sortedRIDs(theirs) {
		a := w.authored[rid]
		r, ok, err := b.st.ByRID(rid)
		if err != nil {
			return err
		}
		if !ok || !bytes.Equal(r.Body, a.r.Body) {
			return w.violated(QuarantineKeeps, "%s took record %s of a box that was revoked, and holds it no more", b, rid.Short())
		}
	}
	return w.checkUnknown(b)
}

// checkRevoked looks at what was agreed since the last look.
func (w *world) checkRevoked() error {
	x, m := w.members, w.model
	for ; x.looked < len(m.entries); x.looked++ {
		e := &m.entries[x.looked]
		d := m.epochs[e.Record.Position().Epoch].Device
		if at, ok := x.since[d]; ok {
			return w.violated(RevokedOut, "entry %d is of a device that was revoked at %d; it knew a ledger of size %d", e.Seq, at, e.Record.Core.Size)
		}
		if e.Record.Core.Kind == record.KindMemberRevoke {
			body, err := record.DecodeMemberRevoke(e.Record.Body)
			if err != nil {
				return err
			}
			x.since[record.DeviceID(body.Device)] = e.Seq
		}
	}
	return nil
}

func (w *world) checkUnknown(b *box) error {
	refused, err := b.st.Refused()
	if err != nil {
		return err
	}
	for i := range w.members.unknown {
		r := &w.members.unknown[i]
		if at := slices.IndexFunc(refused, func(x store.Refusal) bool { return x.RID == r.RID() }); at >= 0 && refused[at].Verdict == record.NotAllowed {
			return w.violated(UnknownPasses, "%s refused record %s of kind %d", b, r.RID().Short(), r.Core.Kind)
		}
		have, ok, err := b.st.ByRID(r.RID())
		if err != nil {
			return err
		}
		if ok && (!bytes.Equal(have.EncodeHeader(), r.EncodeHeader()) || !bytes.Equal(have.Body, r.Body)) {
			return w.violated(UnknownPasses, "%s holds record %s of kind %d otherwise than it was written", b, r.RID().Short(), r.Core.Kind)
		}
	}
	return nil
}
