package node

import (
	"encoding/hex"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
)

// What a chart keeps apart by sensitive topics is shown to whom the rules let see the topic, and to others
// it is not there. Lists, the search index and the rows of people are made without any of it.

// sight is what of these topics somebody may see in a chart, for a purpose: nothing, where the chart is
// closed to them. Who is nil is a command of who runs the box. What belongs to no patient is no secret of one.
func (n *Node) sight(in *signedIn, c record.CompartmentID, of fhir.Topics, purpose string) (chart.Sight, error) {
	var s chart.Sight
	if region, _ := n.box.RegionID(); c == directory(region) {
		return chart.Sight{Topics: fhir.AllTopics}, nil
	}
	if of == 0 || in != nil && !n.may(in, policy.View, c.String()) {
		return s, nil
	}
	d, err := n.directives(c)
	if err != nil {
		return s, err
	}
	if len(d.all) == 0 && !d.unread { // else they were read along
		if d.homes, err = n.registrations(c); err != nil {
			return s, err
		}
	}
	con := d.consent()
	for _, t := range of.Each() {
		q := n.topicAsk(&d, &con, t, purpose)
		if q.Patient = c.String(); in != nil {
			q.Staff, q.Roles = in.session.StaffID, in.roles
		}
		if n.rules().Decide(q).Allowed {
			s.Topics |= t
			continue
		}
		if q.Medicine = true; n.rules().Decide(q).Allowed {
			s.Medicines |= t
		}
	}
	return s, nil
}

// topicAsk is the question about one topic, as the patient's directives stand for this box.
func (n *Node) topicAsk(d *directives, con *chart.Consent, t fhir.Topics, purpose string) policy.Ask {
	box := n.author.Device
	q := policy.Ask{Action: policy.Sensitive, Box: string(n.box.forStaff()), Purpose: purpose, Time: n.grantTime().Unix(), Topic: t.Words()[0],
		Limited: con.LimitedTopics()&t != 0, Home: slices.Contains(d.homes, box) || con.TopicSetHere(box, t)}
	if g, ok := con.TopicGrantFor(box, purpose, t); ok {
		q.Grant = policy.Grant{ID: grantID(g.ID), Until: g.Until}
	}
	return q
}

// registrations are the boxes where somebody was registered.
func (n *Node) registrations(c record.CompartmentID) ([]record.DeviceID, error) {
	recs, err := n.store.Compartment(c)
	if err == nil {
		recs, err = n.oneOfEach(recs)
	}
	if err != nil {
		return nil, err
	}
	var d directives
	for _, x := range recs {
		if x.Record.Core.Kind == record.KindRegistration {
			if err := d.registered(n, x); err != nil {
				return nil, err
			}
		}
	}
	return d.homes, nil
}

// decidable are the topics about which somebody may write down decisions: who may see them could tell them
// anyway, and who holds the patient's card has it from the patient. A card that another box made than the one
// where the person was registered does not count: its staff could have made it for themselves.
func (n *Node) decidable(in *signedIn, c record.CompartmentID) (fhir.Topics, error) {
	if g, shown := n.cardGrant(in, c); shown {
		if home, err := n.cardOfHome(c, g.ID); home || err != nil {
			return fhir.AllTopics, err
		}
	}
	s, err := n.sight(in, c, fhir.AllTopics, policy.Treatment)
	return s.Topics, err
}

// cardOfHome reports whether a card, by the id of its grant, was made where the person was registered.
func (n *Node) cardOfHome(c record.CompartmentID, grant string) (bool, error) {
	homes, err := n.registrations(c)
	if err != nil {
		return false, err
	}
	made := false
	err = n.eachCard(c, func(one *chart.Card, p stand) {
		made = made || cardGrantWord+hex.EncodeToString(one.ID[:]) == grant && slices.Contains(homes, p.by)
	})
	return made, err
}

// apartFrom reports whether a directive tells of topics that are not among t.
func apartFrom(d *chart.Decided, t fhir.Topics) bool {
	of, _ := fhir.TopicsOfWords(d.Topics)
	return of&^t != 0
}

// consentWithin is what holds, without what tells of topics that are not among t.
func (d *directives) consentWithin(t fhir.Topics) chart.Consent {
	con := d.consent()
	apart := func(x chart.Decided) bool { return apartFrom(&x, t) }
	con.TopicLimits, con.Grants = slices.DeleteFunc(con.TopicLimits, apart), slices.DeleteFunc(con.Grants, apart)
	con.Ended = slices.DeleteFunc(con.Ended, func(e chart.Ended) bool { return apartFrom(&e.Decided, t) })
	return con
}

// mayExport asks the rules whether a chart goes into a file for a purpose.
func (n *Node) mayExport(c record.CompartmentID, purpose string) (policy.Verdict, error) {
	q := policy.Ask{Action: policy.Export, Patient: c.String(), Box: string(n.box.forStaff()), Purpose: purpose, Time: n.grantTime().Unix()}
	s, err := n.standing(c)
	if err != nil {
		return policy.Verdict{}, err
	}
	q.Limited, q.Home, q.Grant = s.Limited, s.Home, policy.Grant{ID: s.Grant, Until: s.Until}
	if purpose != policy.Treatment { // the row knows what is for treatment
		d, err := n.directives(c)
		if err != nil {
			return policy.Verdict{}, err
		}
		con := d.consent()
		q.Grant = policy.Grant{}
		if g, ok := con.GrantFor(n.author.Device, purpose); ok {
			q.Grant = policy.Grant{ID: grantID(g.ID), Until: g.Until}
		}
	}
	return n.rules().Decide(q), nil
}

// hides reports whether a record says something that is not for this box, by a command.
func (n *Node) hides(c record.CompartmentID, rid record.RID) (bool, error) {
	opened, err := n.openCompartment(c)
	if err != nil {
		return false, err
	}
	whole := chart.Fold(opened)
	s, err := n.sight(nil, c, fhir.AllTopics, policy.Treatment)
	if err != nil || whole.Hides(s, rid) {
		return true, err
	}
	d, err := n.directives(c)
	return slices.ContainsFunc(d.all, func(x chart.Decided) bool { return x.RID == rid && apartFrom(&x, s.Topics) }), err
}
