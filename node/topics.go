package node

import (
	"encoding/hex"
	"errors"
	"slices"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
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
	a, err := n.apartFor(c)
	if err != nil {
		return s, err
	}
	for _, t := range of.Each() {
		q := n.topicAsk(&a, t, purpose)
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

// apart is what a patient's directives say about topics for this box.
type apart struct {
	_       struct{} `cbor:",toarray"`
	Home    bool     // registered here
	Limited uint8    // topics that only some boxes may see
	SetHere uint8    // topics whose limit was written here
	Grants  []apartGrant
}

// apartGrant is a permission to this box that names topics.
type apartGrant struct {
	_        struct{} `cbor:",toarray"`
	ID       []byte
	Until    int64 // Unix seconds; 0 for no end
	Topics   uint8
	Purposes []string
}

func topicsKey(c record.CompartmentID) []byte { return append([]byte("top/"), c[:]...) }

// apartOf is what directives come to for a box.
func (d *directives) apartOf(box record.DeviceID) apart {
	con := d.consent()
	a := apart{Home: slices.Contains(d.homes, box), Limited: uint8(con.LimitedTopics())}
	for _, t := range fhir.AllTopics.Each() {
		if con.TopicSetHere(box, t) {
			a.SetHere |= uint8(t)
		}
	}
	for _, g := range con.Grants {
		named, _ := fhir.TopicsOfWords(g.Topics) // others are of newer programs
		if named != 0 && (g.Grantee == box || g.Grantee == record.DeviceID{}) {
			a.Grants = append(a.Grants, apartGrant{ID: g.ID[:], Until: g.Until, Topics: uint8(named), Purposes: g.Purposes})
		}
	}
	return a
}

// grantFor is the one for a topic and a purpose that runs longest; it may be over.
func (a *apart) grantFor(purpose string, t fhir.Topics) (best apartGrant, ok bool) {
	for _, g := range a.Grants {
		if fhir.Topics(g.Topics)&t == 0 || !slices.Contains(g.Purposes, purpose) {
			continue
		}
		if !ok || best.Until != 0 && (g.Until == 0 || g.Until > best.Until) {
			best, ok = g, true
		}
	}
	return best, ok
}

// apart keeps the row.
func (p *projection) apart(c record.CompartmentID, d *directives) error {
	plain, err := record.Marshal(d.apartOf(p.n.author.Device))
	if err != nil {
		return err
	}
	return p.putChanged(topicsKey(c), plain)
}

// apartFor is what the row says, with every record that arrived. Where none is, or rows do not follow for
// want of room, the records are read.
func (n *Node) apartFor(c record.CompartmentID) (a apart, err error) {
	behind := n.projectNow()
	if behind != nil && !errors.Is(behind, store.ErrFull) {
		return a, behind
	}
	if behind == nil {
		if ok, err := n.readRow(topicsKey(c), &a); ok || err != nil {
			return a, err
		}
	}
	d, err := n.directives(c)
	if err != nil {
		return a, err
	}
	if len(d.all) == 0 && !d.unread { // else they were read along
		if d.homes, err = n.registrations(c); err != nil {
			return a, err
		}
	}
	return d.apartOf(n.author.Device), nil
}

// topicAsk is the question about one topic, as it stands for this box.
func (n *Node) topicAsk(a *apart, t fhir.Topics, purpose string) policy.Ask {
	q := policy.Ask{Action: policy.Sensitive, Box: string(n.box.forStaff()), Purpose: purpose, Time: n.grantTime().Unix(), Topic: t.Words()[0],
		Limited: fhir.Topics(a.Limited)&t != 0, Home: a.Home || fhir.Topics(a.SetHere)&t != 0}
	if g, ok := a.grantFor(purpose, t); ok {
		q.Grant = policy.Grant{ID: hex.EncodeToString(g.ID), Until: g.Until}
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
