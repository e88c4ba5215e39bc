package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/store/journal/faultfs"
)

// found makes the region: the first hub founds it and admits everybody, before
// anything goes wrong.
func (w *world) found() error {
	n := 0
	for range w.plan.Hubs {
		w.hubs = append(w.hubs, w.newBox(n, record.RoleHub))
		n++
	}
	for i := range w.plan.Clinics + w.plan.Fields {
		role := record.RoleClinic
		if i >= w.plan.Clinics {
			role = record.RoleField
		}
		w.clinics = append(w.clinics, w.newBox(n, role))
		n++
	}
	w.boxes = append(append(w.boxes, w.hubs...), w.clinics...)
	for range w.plan.Patients {
		p, err := w.newPatient()
		if err != nil {
			return err
		}
		w.patients = append(w.patients, p)
	}
	for _, b := range w.boxes {
		if err := b.start(); err != nil {
			return err
		}
	}
	return w.admitAll()
}

func (b *box) member() record.MemberAdd {
	return record.MemberAdd{Device: b.author.Device[:], Encryption: make([]byte, 32), Role: b.role, Name: b.name, Addresses: []string{}}
}

// admitAll founds the region and admits every box, a hub by the votes of more than
// half of the hubs before it.
func (w *world) admitAll() error {
	founder := w.hubs[0]
	found, err := record.Marshal(record.RegionFound{Name: "north", Nonce: w.bytes(16), Founder: founder.member()})
	if err != nil {
		return err
	}
	recs, err := w.control(founder, record.KindRegionFound, found)
	if err != nil {
		return err
	}
	w.region = record.RegionID(recs[1].RID())
	for i, b := range w.boxes[1:] {
		body, err := record.Marshal(b.member())
		if err != nil {
			return err
		}
		by := w.boxes[:1]
		if b.hub() {
			by = w.hubs[:record.Needed(i+1)]
		}
		for _, h := range by {
			vote, err := w.control(h, record.KindMemberAdd, body)
			if err != nil {
				return err
			}
			recs = append(recs, vote...)
		}
	}
	if w.parts != nil {
		more, err := w.assignFirst()
		if err != nil {
			return err
		}
		recs = append(recs, more...)
	}
	b := record.Batch{LeaderMillis: startMillis, Records: recs}
	return w.agree(b.Encode())
}

// control writes a control record of a hub; its opening record comes before its
// first one.
func (w *world) control(b *box, kind record.Kind, body []byte) ([]record.Record, error) {
	if err := b.ensureEpoch(); err != nil {
		return nil, err
	}
	recs, err := b.st.Append(context.Background(), []store.Draft{{Lane: record.LaneControl, Kind: kind, Seal: func(record.Position) ([]byte, error) { return body, nil }}}, nil)
	if err != nil {
		return nil, err
	}
	w.authored[recs[0].RID()] = &authored{r: recs[0], by: b}
	if recs[0].Core.N > 1 {
		return recs, nil
	}
	opening, err := b.st.Pending(record.Feed{Epoch: recs[0].Core.Epoch}, 0, 1)
	return append(opening[:len(opening):len(opening)], recs...), err
}

// healMillis bounds how long healed boxes may take to agree.
const healMillis = 30 * 60 * 1000

// liveness heals everything and waits for all boxes to agree.
func (w *world) liveness() error {
	w.safety = false
	w.tracef("healed")
	clear(w.cutOff)
	for _, b := range w.boxes {
		if b.st == nil {
			if err := b.start(); err != nil {
				return err
			}
		}
		b.armed = false
		b.disk.Inject(faultfs.Fault{})
		if b.st.Err() != nil {
			return fmt.Errorf("%s failed unnoticed: %w", b, b.st.Err())
		}
	}
	if err := w.endLies(); err != nil {
		return err
	}
	w.forever(3_000, w.reconnect)
	if w.sticks != nil {
		w.forever(3_000, w.mailAll)
	}
	if err := w.catchUp(); err != nil {
		return err
	}
	agreed := false
	err := w.run(w.now+healMillis, func() (bool, error) {
		var err error
		agreed, err = w.agreed()
		return agreed, err
	})
	if err != nil {
		return err
	}
	if !agreed {
		if err := w.checkFrozen(); err != nil {
			return err
		}
		return w.violated(Converges, "%s", w.disagreement())
	}
	w.tracef("all agree at size %d", w.model.size())
	return w.last()
}

func (w *world) endLies() error {
	for i, a := range w.boxes {
		for _, b := range w.boxes[i+1:] {
			if l := w.links[pair(a, b)]; l != nil && l.liar != nil {
				if err := w.finish(l, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// reconnect gives every clinic a session with some hub, for a while.
func (w *world) reconnect() error {
	for _, c := range w.clinics {
		if len(w.linksOf(c)) > 0 {
			continue
		}
		if l := w.connect(c, w.hubs[w.rng.IntN(len(w.hubs))], nil); l != nil {
			w.after(w.between(30_000, 120_000), func() error { return w.finish(l, false) })
		}
	}
	return nil
}

// agreed: every acknowledged save is ordered, and every box has the whole ledger
// under a final checkpoint and nothing pending.
func (w *world) agreed() (bool, error) {
	for _, b := range w.boxes {
		if b.st == nil {
			return false, nil
		}
		if w.isRevoked(b.author.Device) {
			continue
		}
		_, final, _ := b.st.Final()
		if b.st.Head().Size != w.model.size() || final.Size != w.model.size() {
			return false, nil
		}
	}
	for _, b := range w.boxes {
		if w.isRevoked(b.author.Device) {
			continue
		}
		feeds, err := b.st.PendingFeeds()
		if err != nil {
			return false, b.failed("reading", err)
		}
		for _, f := range feeds {
			if !w.ofTwice(f.Epoch) && !w.isRevoked(f.Author) {
				return false, nil
			}
		}
	}
	if err := w.checkFrozen(); err != nil {
		return false, w.unlessViolated(err)
	}
	return w.whole()
}

// unlessViolated passes on what is the simulator's own trouble.
func (w *world) unlessViolated(err error) error {
	var bad *Violation
	if errors.As(err, &bad) {
		return nil
	}
	return err
}

func (w *world) disagreement() string {
	text := fmt.Sprintf("agreed size %d", w.model.size())
	for _, b := range w.boxes {
		if b.st == nil {
			text += fmt.Sprintf("; %s is down", b)
			continue
		}
		if w.isRevoked(b.author.Device) {
			text += fmt.Sprintf("; %s is revoked", b)
			continue
		}
		feeds, err := b.st.PendingFeeds()
		feeds = slices.DeleteFunc(feeds, func(f store.PendingFeed) bool { return w.isRevoked(f.Author) })
		_, final, _ := b.st.Final()
		text += fmt.Sprintf("; %s size %d final %d, pending %v %v", b, b.st.Head().Size, final.Size, feeds, err)
	}
	return text
}

// idleBytesMax is two greetings, and what evidence each side holds.
const idleBytesMax = 1000

// last checks everything once more when all is quiet.
func (w *world) last() error {
	w.full = true
	for _, s := range w.saves {
		if _, ok := w.model.rids[s.r.RID()]; !ok && !s.lost && !w.ofTwice(s.r.Core.Epoch) && !w.isRevoked(s.by.author.Device) {
			return w.violated(SavesSurvive, "save %d of %s has no place in the ledger", s.number, s.by)
		}
	}
	for _, b := range w.boxes {
		b.behind = false
		if err := w.check(b); err != nil {
			return err
		}
	}
	for _, c := range w.clinics {
		for _, o := range []*box{w.hubs[w.rng.IntN(len(w.hubs))], w.clinics[w.rng.IntN(len(w.clinics))]} {
			if c.author.Device == o.author.Device || w.isRevoked(c.author.Device) || w.isRevoked(o.author.Device) || w.twice != nil && (c == w.twice.by || o == w.twice.by) {
				continue
			}
			n, err := w.meet(c, o)
			if err != nil {
				return err
			}
			if n > idleBytesMax && w.members == nil { // what a revoked clinic left with a carrier goes out in every session
				return w.violated(SyncTerminates, "%s and %s exchange %d bytes to say nothing", c, o, n)
			}
		}
	}
	return nil
}
