package node

import (
	"crypto/rand"
	"maps"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
)

// While a limit holds, and the region has an escrow, what is written about a patient is sealed under a closed
// generation of the chart's key (seal/generation.go). What every box must read to keep the rules, and all that
// was written before, stays under the first. A head is a generation that no newer one holds; there are several
// when boxes made one at once. Who writes next looks at them:
//
//	every recipient of a head may read now     seals under it, and hands it to who lacks it
//	somebody may not, or no head is here       makes one, which holds all heads that are here
//
// The wraps stand before the record that needs them, in the same transaction. A permission hands all
// heads to whom it is for, the end of the limits to the region.

// wrapsEach bounds the wraps of one record.
const wrapsEach = 256

// sealing is what a record is to be sealed under.
type sealing struct {
	dek
	first dek
	wraps []store.Draft // to be written before the record, in the same transaction
}

// generation is one closed generation as the records here tell of it.
type generation struct {
	dek
	to    map[seal.KeyID]bool      // whom wraps are for that say so, in anybody's words
	had   map[seal.KeyID]bool      // whom it was handed to by who had it
	by    map[record.DeviceID]bool // who handed it out
	maker record.DeviceID          // the first of these
}

// lineage is what a chart's keys are.
type lineage struct {
	c     record.CompartmentID
	first dek
	last  uint64 // the highest number that is known
	heads []*generation
}

// lineage reads the closed generations of a chart that are held here.
func (n *Node) lineage(c record.CompartmentID) (*lineage, error) { return n.lineageWith(c, nil) }

// lineageWith is lineage with keys that were lent besides.
func (n *Node) lineageWith(c record.CompartmentID, lent lentKeys) (*lineage, error) {
	held, err := n.vault.held(c)
	if err != nil {
		return nil, err
	}
	maps.Copy(held, lent)
	l := &lineage{c: c}
	if l.first.key, err = n.vault.key(c, firstGen); err != nil {
		return nil, err
	}
	l.first.gen = firstGen
	known := map[uint64]*generation{}
	for gen, k := range held {
		if l.last = max(l.last, gen); seal.IsClosed(gen) {
			known[gen] = &generation{dek: dek{gen, k}, to: map[seal.KeyID]bool{}, had: map[seal.KeyID]bool{}, by: map[record.DeviceID]bool{}}
		}
	}
	if len(known) == 0 {
		return l, nil
	}
	who, err := n.handers()
	if err != nil {
		return nil, err
	}
	order := holding{known: known, ids: map[seal.KeyID]seal.Key{}, holds: map[seal.Key][]uint64{}}
	for _, g := range known {
		order.ids[g.key.ID()] = g.key
	}
	err = n.eachWrap(c, func(w seal.Wrap, by record.DeviceID) {
		g := known[w.Generation]
		if g == nil {
			return
		}
		if len(g.by) == 0 {
			g.maker = by
		}
		if who.had(g, by) {
			g.had[w.Recipient] = true
		}
		g.to[w.Recipient], g.by[by] = true, true
		order.add(&w)
	})
	l.heads = order.heads()
	return l, err
}

// eachWrap goes through the wraps of a chart's keys that records here hold.
func (n *Node) eachWrap(c record.CompartmentID, f func(w seal.Wrap, by record.DeviceID)) error {
	recs, err := n.store.Compartment(c)
	if err == nil {
		recs, err = n.withRefused(c, recs)
	}
	if err != nil {
		return err
	}
	for i := range recs {
		r := &recs[i].Record
		if r.Core.Kind != record.KindKeyWrap || r.Body == nil || n.store.Erased(r) {
			continue
		}
		wraps, err := seal.DecodeWraps(r.Body)
		if err != nil {
			continue // a member's nonsense hands nobody anything
		}
		by, _, err := n.store.EpochAuthor(r.Position().Epoch)
		if err != nil {
			return err
		}
		for _, w := range wraps {
			if w.Compartment == c {
				f(w, by)
			}
		}
	}
	return nil
}

// sealing says what the next record of a chart is sealed under. Who writes by a card, with keys that were
// lent, hands none of them on: only what no head is for makes another, and that is not for this box.
func (n *Node) sealing(c record.CompartmentID, session uint64, lent lentKeys) (sealing, error) {
	l, err := n.lineageWith(c, lent)
	if err != nil {
		return sealing{}, err
	}
	s := sealing{dek: l.first, first: l.first}
	d, err := n.directives(c)
	if err != nil {
		return s, err
	}
	k := d.custody()
	if !k.consent.Limited() {
		if len(l.heads) > 0 && lent == nil {
			s.wraps, err = n.toRegion(l, session)
		}
		return s, err
	}
	escrow, err := n.escrowKey()
	if err != nil || escrow == nil {
		return s, err
	}
	a, err := n.audience(c, &k, escrow, lent != nil)
	if err != nil {
		return s, err
	}
	i := slices.IndexFunc(l.heads, func(g *generation) bool { return g.within(a) })
	if i < 0 {
		s.dek, s.wraps, err = l.next(session, a)
		return s, err
	}
	s.dek = l.heads[i].dek
	if lent == nil {
		s.wraps, err = l.handed(session, a.to)
	}
	return s, err
}

// toRegion hands every head to the region.
func (n *Node) toRegion(l *lineage, session uint64) ([]store.Draft, error) {
	all, err := n.vault.region()
	if err != nil {
		return nil, err
	}
	return l.handed(session, all)
}

// within reports whether all who were handed the key, and who handed it out, may read now.
func (g *generation) within(a *audience) bool {
	for id := range g.to {
		if !a.may[id] {
			return false
		}
	}
	for by := range g.by {
		if !a.boxes[by] {
			return false
		}
	}
	return true
}

// handed are the drafts that hand every head to those who lack it.
func (l *lineage) handed(session uint64, to []recipient) ([]store.Draft, error) {
	var wraps []seal.Wrap
	for _, g := range l.heads {
		for i := range to {
			if to[i].has(g) {
				continue
			}
			w, err := to[i].wrap(l.c, g.dek)
			if err != nil {
				return nil, err
			}
			wraps = append(wraps, w)
		}
	}
	return l.drafts(session, wraps)
}

// next makes a generation for an audience, which holds those before it.
func (l *lineage) next(session uint64, a *audience) (dek, []store.Draft, error) {
	key, err := seal.NewKey(rand.Reader)
	if err != nil {
		return dek{}, nil, err
	}
	k := dek{seal.ClosedGeneration(l.last, key), key}
	var wraps []seal.Wrap
	for i := range a.to {
		w, err := a.to[i].wrap(l.c, k)
		if err != nil {
			return k, nil, err
		}
		wraps = append(wraps, w)
	}
	older := []dek{l.first}
	for _, g := range l.heads[:min(len(l.heads), wrapsEach)] { // the others stay heads, for the next
		older = append(older, g.dek)
	}
	for _, o := range older {
		w, err := seal.WrapKey(rand.Reader, key, l.c, o.gen, o.key)
		if err != nil {
			return k, nil, err
		}
		wraps = append(wraps, w)
	}
	drafts, err := l.drafts(session, wraps)
	return k, drafts, err
}

func (l *lineage) drafts(session uint64, wraps []seal.Wrap) ([]store.Draft, error) {
	var out []store.Draft
	for part := range slices.Chunk(wraps, wrapsEach) {
		body, err := seal.EncodeWraps(part)
		if err != nil {
			return nil, err
		}
		out = append(out, wrapDraft(l.c, session, body))
	}
	return out, nil
}

// handKeys hands the keys of a chart to whom a decision opens it. A permission that is written down while the patient's
// card is shown hands over what the card lent besides: its holder decides, with the keys in hand. Whom the
// box that writes next hands its keys to, custody says as before.
func (n *Node) handKeys(c record.CompartmentID, session uint64, known *directives, d *chart.Directive, lent lentKeys) ([]store.Draft, error) {
	var to []recipient
	var err error
	switch d.Decision {
	case chart.DecisionGrant:
		if len(d.Topics) == 0 && slices.Contains(d.Purposes, policy.Treatment) {
			to, err = n.granted(d.Grantee)
		}
	case chart.DecisionEnd:
		lent = nil
		after := chart.FoldConsent(append(slices.Clone(known.all), chart.Decided{Directive: *d, By: n.author.Device}), known.unread)
		if !after.Limited() {
			to, err = n.vault.region()
		}
	}
	if err != nil || len(to) == 0 {
		return nil, err
	}
	l, err := n.lineageWith(c, lent)
	if err != nil {
		return nil, err
	}
	return l.handed(session, to)
}

// headsFor hands the closed keys of a chart to a device that may open it.
func (n *Node) headsFor(c record.CompartmentID, session uint64, m *record.Member) ([]store.Draft, error) {
	l, err := n.lineage(c)
	if err != nil || len(l.heads) == 0 {
		return nil, err
	}
	d, err := n.directives(c)
	if err != nil {
		return nil, err
	}
	if k := d.custody(); !k.allows(m.Device, n.grantTime()) {
		return nil, nil
	}
	to, err := n.granted(m.Device)
	if err != nil {
		return nil, err
	}
	return l.handed(session, to)
}
