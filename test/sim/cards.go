package sim

import (
	"encoding/binary"
	"path/filepath"
	"strconv"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// Cards are copied while the box runs, put back in place of the card, or put into
// another board that runs beside the first with the same keys. None of this is
// anybody's fault, so none of it may ever look like one.

// cardsPlan makes a plan that is mostly about cards. Nobody lies in it.
func (w *world) cardsPlan() {
	p := &w.plan
	pick := func(list ...int64) int64 { return list[w.rng.IntN(len(list))] }
	p.LieIn, p.JunkIn = 0, 0
	p.SafetyMillis = pick(60_000, 90_000)
	p.SaveMillis = pick(3_000, 6_000)
	p.CrashMillis = pick(0, 20_000)
	p.RestoreMillis, p.KeepImageIn = pick(1_500, 3_000), int(pick(0, 2))
	p.CloneMillis, p.ClonesMax = pick(8_000, 15_000), int(pick(1, 3))
	p.HubCardMillis, p.HubCrashIn = pick(0, 3_000, 8_000), 2
	p.Clinics, p.Fields = 3+w.rng.IntN(2), w.rng.IntN(2)
	p.Votes = true
}

// oldCard copies a clinic's card, or puts the copy back in place of the card.
func (w *world) oldCard() error {
	b := w.clinics[w.rng.IntN(len(w.clinics))]
	for _, c := range w.clinics {
		if c.card != nil && w.chance(2) {
			b = c
		}
	}
	return w.swapCard(b)
}

// oldHubCard is oldCard on a hub.
// Two hubs put back at once need the drill for a lost majority.
func (w *world) oldHubCard() error {
	for _, h := range w.hubs {
		if h.rolledBack {
			return nil
		}
	}
	return w.swapCard(w.hubs[w.rng.IntN(len(w.hubs))])
}

func (w *world) swapCard(b *box) error {
	if b.st == nil || b.armed {
		return nil
	}
	if b.card == nil {
		return w.copyCard(b)
	}
	if err := w.noteLost(b); err != nil {
		return err
	}
	w.res.Restores++
	if b.hub() {
		w.res.HubRestores++
	}
	if err := w.crash(b, "old card"); err != nil {
		return err
	}
	var err error
	b.disk, err = b.disk.restore(b.card)
	b.behind, b.final = true, record.TreeHead{}
	if b.card.acked < b.acked {
		b.acked, b.rolledBack = b.card.acked, !w.o.Hooks.VoteAnyway
	}
	if !w.chance(w.plan.KeepImageIn) {
		b.card = nil
	}
	return err
}

func (w *world) copyCard(b *box) error {
	w.tracef("%s: card copied", b)
	w.images++
	b.cardAt = len(w.saves)
	var err error
	b.card, err = b.disk.image(filepath.Join(w.o.Dir, b.name+".card"+strconv.Itoa(w.images)))
	if err == nil {
		b.card.acked = b.acked
	}
	return err
}

// noteLost marks the saves that may have been on the card only which is taken out
// now. What anybody else holds must come back.
func (w *world) noteLost(b *box) error {
	for _, s := range w.saves {
		if _, ordered := w.model.rids[s.r.RID()]; ordered || s.lost || s.by == b && s.number < b.cardAt {
			continue
		}
		held := s.by != b && !s.by.behind
		for _, o := range w.boxes {
			if o == b || o.st == nil || held {
				continue
			}
			var err error
			if _, held, err = o.st.ByRID(s.r.RID()); err != nil {
				return o.failed("reading", err)
			}
		}
		s.lost = !held
	}
	return nil
}

// cloneSome puts a copy of a clinic's card into another board.
func (w *world) cloneSome() error {
	b := w.clinics[w.rng.IntN(w.plan.Clinics)]
	if b.st == nil || b.armed || w.clones >= w.plan.ClonesMax {
		return nil
	}
	img := b.card
	if img == nil || w.chance(2) {
		keep, at := b.card, b.cardAt
		if err := w.copyCard(b); err != nil {
			return err
		}
		img, b.card, b.cardAt = b.card, keep, at
	}
	w.clones++
	w.res.Clones++
	c := &box{w: w, n: len(w.boxes), name: b.name + "clone" + strconv.Itoa(w.clones), role: b.role, author: b.author, skew: b.skew, clockMax: max(b.clockMax, b.millis()), board: len(w.boxes), left: map[record.RID]bool{}, wit: newWitness()}
	c.disk = newDisk(w.rng.Uint64(), filepath.Join(w.o.Dir, c.name))
	var err error
	if c.disk, err = c.disk.restore(img); err != nil {
		return err
	}
	w.tracef("%s runs with a copy of the card of %s", c, b)
	w.boxes, w.clinics = append(w.boxes, c), append(w.clinics, c)
	w.every(w.plan.SaveMillis, func() error { return w.saveSome(c) })
	w.every(w.plan.VisitMillis, func() error { return w.visit(c) })
	return c.start()
}

// hardware is what a box's opening records say that it runs on.
func (b *box) hardware() []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 24), uint64(b.board))
}

// checkBlame: no box has kept anything that speaks against an honest one.
func (w *world) checkBlame(b *box) error {
	if w.plan.Equivocate {
		return nil
	}
	list, err := b.st.Refused()
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.Verdict == record.Equivocation {
			return w.violated(CardsBlameNobody, "%s holds %s as a contradiction at lane %d n %d of epoch %s", b, x.RID.Short(), x.Position.Lane, x.Position.N, x.Position.Epoch)
		}
	}
	return nil
}

// checkOwn: x holds every record of its own device that y could hand it.
func (w *world) checkOwn(x, y *box) error {
	_, final, _ := y.st.Final()
	takes, err := w.takesFrom(x, y)
	if err != nil {
		return err
	}
	for _, s := range w.saves {
		if s.by.author.Device != x.author.Device || w.ofTwice(s.r.Core.Epoch) || w.plan.Sampled && !w.chance(sampleOf) {
			continue
		}
		rid := s.r.RID()
		loc, ok, err := y.st.Locate(rid)
		if err != nil {
			return err
		}
		if !ok || !loc.Pending && (loc.Seq >= final.Size || !takes) {
			continue
		}
		if loc.Pending {
			if ok, err = w.continues(x, y, s.r.Position()); err != nil || !ok {
				if err != nil {
					return err
				}
				continue
			}
		}
		_, held, err := x.st.ByRID(rid)
		if err != nil {
			return err
		}
		if !held {
			return w.violated(OwnComesBack, "%s does not hold its own record %s, lane %d n %d, after an exchange with %s, which does", x, rid.Short(), s.r.Core.Lane, s.r.Core.N, y)
		}
	}
	return nil
}

// continues: nothing before a pending record of y is ordered at y and still
// unknown to x, which gets it with the next final checkpoint.
func (w *world) continues(x, y *box, p record.Position) (bool, error) {
	feeds, err := y.st.PendingFeeds()
	if err != nil {
		return false, err
	}
	for _, f := range feeds {
		if f.Feed == p.Feed() {
			return w.canTake(x, f)
		}
	}
	return false, nil
}

// contradict is what a break does: the box signs a second record for a place of
// its own that others have filled, as a machine does that is put back in time
// with its memory.
func (w *world) contradict(b *box) error {
	for _, s := range w.saves {
		if s.by != b || s.lost {
			continue
		}
		core := s.r.Core
		second := record.Sign(core, append(append([]byte{}, s.r.Body...), 0), b.author.Key)
		for _, h := range w.hubs {
			if h.st == nil {
				continue
			}
			if _, held, err := h.st.HeldRID(s.r.Position()); err != nil || !held {
				continue
			}
			w.authored[second.RID()] = &authored{r: second, by: b, body: chart.Body{}, says: true}
			_, err := h.st.Ingest(w.context(), b.author.Device, []record.Record{second})
			return err
		}
	}
	return nil
}

// acknowledge has the disks of a majority of the hubs hold everything that is
// agreed, the leader's among them.
func (w *world) acknowledge() {
	if !w.plan.Votes {
		return
	}
	need := len(w.hubs)/2 + 1
	take := func(h *box) {
		if h.acked < len(w.log) {
			h.acked = len(w.log)
		}
		need--
	}
	if w.leader == nil { // the founder's first item
		for _, h := range w.hubs {
			take(h)
		}
		return
	}
	take(w.leader)
	at := w.rng.IntN(len(w.hubs))
	for i := range w.hubs {
		h := w.hubs[(at+i)%len(w.hubs)]
		if h != w.leader && h.st != nil && !h.rolledBack && !w.cutOff[pair(h, w.leader)] && (need > 0 || w.chance(2)) {
			take(h)
		}
	}
}

// wins reports whether a majority of the hubs would vote for one: those whose
// disks hold no more than its own does.
func (w *world) wins(h *box) bool {
	if !w.plan.Votes {
		return true
	}
	votes := 0
	for _, o := range w.hubs {
		if o.st != nil && !o.rolledBack && !w.cutOff[pair(h, o)] && o.acked <= h.acked {
			votes++
		}
	}
	return !h.rolledBack && votes*2 > len(w.hubs)
}

// rejoin lets a hub that was put back vote and sign again once it has everything
// that the leader has: it can have signed nothing larger.
func (w *world) rejoin(h *box) error {
	if !h.rolledBack || w.leader == nil || w.cutOff[pair(h, w.leader)] || h.next < uint64(len(w.log)) {
		return nil
	}
	h.rolledBack, h.acked = false, len(w.log)
	w.tracef("%s votes again", h)
	if w.o.Hooks.SignOld {
		return nil
	}
	if err := h.st.PutSigned(h.st.Head()); err != nil {
		return h.failed("cosigning", err)
	}
	return w.cosign(h)
}

// openingOf builds the opening record of a start.
func (b *box) openingOf(nonce []byte) func(record.EpochID, [record.LaneCount]uint64, uint64, record.Hash) record.EpochOpen {
	return func(pred record.EpochID, heads [record.LaneCount]uint64, size uint64, root record.Hash) record.EpochOpen {
		e := record.EpochOpen{Device: b.author.Device[:], Nonce: nonce, Hardware: b.hardware(), Predecessor: []byte{}, Heads: []uint64{},
			ClockMillis: b.millis(), Software: "sim", Size: size, Root: root[:]}
		if b.w.o.Hooks.SameNonce {
			e.ClockMillis = 0
		} else if pred != (record.EpochID{}) {
			e.Predecessor, e.Heads = pred[:], heads[:]
		}
		return e
	}
}
