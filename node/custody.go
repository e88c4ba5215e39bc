package node

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
)

// Who may be handed the keys of a closed chart. Rules hold on boxes that keep them, and a key that is handed
// out is gone: so what was decided counts here only as far as it was written, in the order of the
// ledger, by a box that might open the chart at that place. No box opens itself a chart by its own word.

// stand is where a record stands, and whose it is.
type stand struct {
	by      record.DeviceID
	seq     uint64
	ordered bool
	at      time.Time // ledger time; of what has no place yet, the time of asking
	hlc     uint64
}

// standOf takes what has no place yet for as late as it can be: when it was written is its author's word.
func standOf(x *store.Placed, by record.DeviceID, now time.Time) stand {
	p := stand{by: by, seq: x.Seq, ordered: x.Ordered, at: now, hlc: x.Record.Core.HLC}
	if x.Ordered {
		p.at = timeOfSeconds(x.Time)
	}
	return p
}

// compare orders what the ledger has by it, and all else behind it.
func (p stand) compare(o stand) int {
	switch {
	case p.ordered && o.ordered:
		return cmp.Compare(p.seq, o.seq)
	case p.ordered:
		return -1
	case o.ordered:
		return 1
	}
	return cmp.Or(cmp.Compare(p.hlc, o.hlc), bytes.Compare(p.by[:], o.by[:]))
}

// founded looks at a registration: the chart begins with the first that the ledger has.
func (d *directives) founded(n *Node, x store.Placed) error {
	by, ok, err := n.store.EpochAuthor(x.Record.Position().Epoch)
	if p := standOf(&x, by, time.Time{}); err == nil && ok && (d.first.by == record.DeviceID{} || p.compare(d.first) < 0) {
		d.first = p
	}
	return err
}

// custody is what counts of the decisions about one chart.
type custody struct {
	first   record.DeviceID // where somebody was registered
	kept    []chart.Decided
	places  []stand // of kept
	consent chart.Consent
}

// custody goes through them in the order of the ledger.
func (d *directives) custody() custody {
	k := custody{first: d.first.by}
	order := make([]int, len(d.all))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(d.places[a].compare(d.places[b]), bytes.Compare(d.all[a].ID[:], d.all[b].ID[:]))
	})
	limits := map[chart.DirectiveID]bool{}
	for _, i := range order {
		if d.all[i].Decision == chart.DecisionLimit {
			limits[d.all[i].ID] = true
		}
	}
	for _, i := range order {
		x, at := d.all[i], d.places[i]
		if x.Refused || !k.allows(at.by, at.at) && !d.byEscrow(&x, at.by) {
			switch x.Decision {
			case chart.DecisionGrant:
				continue
			case chart.DecisionLimit: // it closes, and makes nobody a home
				x.By = record.DeviceID{}
			case chart.DecisionEnd: // it recalls grants, and opens nothing
				x.Refs = slices.DeleteFunc(slices.Clone(x.Refs), func(id chart.DirectiveID) bool { return limits[id] })
			}
		}
		k.kept, k.places = append(k.kept, x), append(k.places, at)
		k.consent = chart.FoldConsent(k.kept, false)
	}
	k.consent.Unread = d.unread
	return k
}

// allows reports whether a box may open the chart at a time.
func (k *custody) allows(box record.DeviceID, at time.Time) bool {
	if !k.consent.Limited() || box != (record.DeviceID{}) && (box == k.first || k.consent.SetHere(box)) {
		return true
	}
	g, ok := k.consent.GrantFor(box, policy.Treatment)
	return ok && (g.Until == 0 || at.Unix() < g.Until)
}

// allowed reports whether the box that wrote a record might open the chart then.
func (k *custody) allowed(p stand) bool {
	then := custody{first: k.first}
	for i := range k.kept {
		if k.places[i].compare(p) < 0 {
			then.kept = append(then.kept, k.kept[i])
		}
	}
	then.consent = chart.FoldConsent(then.kept, k.consent.Unread)
	return then.allows(p.by, p.at)
}

// everybody reports whether every box may open the chart at a time: zeros are granted what all are.
func (k *custody) everybody(at time.Time) bool { return k.allows(record.DeviceID{}, at) }

// cardsInCustody are the public keys of a patient's cards that hold. One counts where the box that
// wrote it down might open the chart then.
func (n *Node) cardsInCustody(c record.CompartmentID, k *custody) ([][]byte, error) {
	states, err := n.cardsOf(c)
	if err != nil || len(states) == 0 {
		return nil, err
	}
	var keys [][]byte
	err = n.eachCard(c, func(one *chart.Card, p stand) {
		holds := func(s chart.CardState) bool { return s.ID == one.ID && s.Ended == nil && bytes.Equal(s.Key, one.Key) }
		if len(one.Key) > 0 && slices.ContainsFunc(states, holds) && k.allowed(p) {
			keys = append(keys, one.Key)
		}
	})
	return keys, err
}

// eachCard goes through the cards of a chart that are read here and whose author is known.
func (n *Node) eachCard(c record.CompartmentID, f func(one *chart.Card, p stand)) error {
	recs, err := n.store.Compartment(c)
	if err != nil {
		return err
	}
	now := n.grantTime()
	for i := range recs {
		x := &recs[i]
		if x.Record.Core.Kind != record.KindCard || x.Record.Body == nil {
			continue
		}
		one, err := n.cardIn(x)
		if err != nil {
			return err
		}
		by, ok, err := n.store.EpochAuthor(x.Record.Position().Epoch)
		if err != nil {
			return err
		}
		if ok {
			f(&one, standOf(x, by, now))
		}
	}
	return nil
}

// cardIn reads a card; the zero one when it cannot be read here.
func (n *Node) cardIn(x *store.Placed) (one chart.Card, err error) {
	plain, _, _, err := n.openCosigned(x)
	if err == nil {
		one, err = chart.DecodeCard(plain)
	}
	if unreadable(err) {
		return chart.Card{}, nil
	}
	return one, err
}

// limits are those that hold, for who may open the chart or for who is handed its keys.
func (d *directives) limits() (ids []chart.DirectiveID) {
	k := d.custody()
	for _, list := range [][]chart.Decided{d.consent().Limits, k.consent.Limits} {
		for _, l := range list {
			if !slices.Contains(ids, l.ID) {
				ids = append(ids, l.ID)
			}
		}
	}
	return ids
}
