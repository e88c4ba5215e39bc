package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// What a patient decides is written down by staff, who give their PIN again, in the lane
// that overtakes all others.

// Consents lists what a patient decided about who may read.
func (n *Node) Consents(ctx context.Context, s web.Session, patientID string) (web.ConsentPage, error) {
	in, err := n.allow(ctx, s, policy.Consent, patientID)
	if err != nil {
		return web.ConsentPage{}, err
	}
	c, ch, err := n.patientBy(in, patientID)
	if err != nil {
		return web.ConsentPage{}, err
	}
	if err := n.noteAccess(ctx, in, c, actionCode(policy.Consent)); err != nil {
		return web.ConsentPage{}, explain(err)
	}
	d, err := n.directives(c)
	if err != nil {
		return web.ConsentPage{}, explain(err)
	}
	topics, err := n.decidable(in, c)
	if err != nil {
		return web.ConsentPage{}, explain(err)
	}
	con := d.consentWithin(topics)
	page := web.ConsentPage{Row: ch.Row(), Limited: con.Limited() || len(d.limits()) > 0, Unread: con.Unread, Homes: n.homesOf(&d, &con), Topics: topics.Words()}
	escrow, err := n.escrowKey()
	if err != nil {
		return page, explain(err)
	}
	lent, err := n.lentTo(in, c)
	if err != nil {
		return page, explain(err)
	}
	page.Escrow, page.ByCard = escrow != nil, len(lent) > 0
	if !con.Limited() {
		page.LimitedTopics = con.LimitedTopics().Words()
	}
	if len(d.homes) == 0 {
		if page.Homes, err = n.registeredAt(c); err != nil {
			return page, explain(err)
		}
	}
	if page.Boxes, err = n.grantees(c, topics != 0 || page.ByCard); err != nil {
		return page, explain(err)
	}
	return page, explain(n.consentLines(&page, &con))
}

// registeredAt names the boxes where somebody was registered.
func (n *Node) registeredAt(c record.CompartmentID) ([]string, error) {
	boxes, err := n.registrations(c)
	return n.homesOf(&directives{homes: boxes}, &chart.Consent{}), err
}

// consentLines fills in what holds and what ended, the newest first.
func (n *Node) consentLines(page *web.ConsentPage, con *chart.Consent) error {
	st, err := n.newStates()
	if err != nil {
		return err
	}
	now := n.grantTime()
	for _, g := range con.Grants {
		l, err := n.consentLine(st, &g, now)
		if err != nil {
			return err
		}
		page.Grants = append(page.Grants, l)
	}
	for _, e := range con.Ended {
		l, err := n.consentLine(st, &e.Decided, now)
		if err != nil {
			return err
		}
		l.EndedBy, l.EndedAt = e.End.Author, e.End.At
		page.Ended = append(page.Ended, l)
	}
	newest := func(a, b web.ConsentLine) int { return b.At.Compare(a.At) }
	slices.SortStableFunc(page.Grants, newest)
	slices.SortStableFunc(page.Ended, newest)
	return nil
}

func (n *Node) consentLine(st *states, d *chart.Decided, now time.Time) (web.ConsentLine, error) {
	l := web.ConsentLine{ID: grantID(d.ID), Limit: d.Decision == chart.DecisionLimit, By: d.Author, Unsigned: !d.Signed, At: d.At, RID: d.RID.String(), Topics: d.Topics, Purposes: d.Purposes}
	if d.Grantee != (record.DeviceID{}) {
		l.To = n.deviceName(d.Grantee)
	}
	if d.Until > 0 {
		l.Until, l.Over = time.Unix(d.Until, 0), d.Until <= now.Unix()
	}
	var err error
	l.State, err = st.of(d.RID)
	return l, err
}

// grantees are the other boxes with staff: a chart is opened to them, not to a hub. A field
// device is one when the chart was given to it. This box is one where topics can be opened to it, and where
// a card lends the keys.
func (n *Node) grantees(c record.CompartmentID, own bool) ([]web.ConsentBox, error) {
	members, err := n.store.Members()
	if err != nil {
		return nil, err
	}
	var out []web.ConsentBox
	for _, m := range members {
		if !m.Active() || m.Role == record.RoleHub || m.Device == n.author.Device && !own {
			continue
		}
		if m.Role == record.RoleField {
			given, err := record.IsAssigned(n.store.State(), m.Device, c)
			if err != nil {
				return nil, err
			}
			if !given {
				continue
			}
		}
		out = append(out, web.ConsentBox{ID: m.Device.String(), Name: n.deviceName(m.Device)})
	}
	return out, nil
}

// Decide writes down what a patient decided.
func (n *Node) Decide(ctx context.Context, s web.Session, patientID, formID string, q web.Decision) error {
	in, err := n.allow(ctx, s, policy.Consent, patientID)
	if err != nil {
		return err
	}
	if err := n.confirmPIN(ctx, in, q.PIN); err != nil {
		return err
	}
	_, err = n.once(formID, []any{"decide", patientID, q.Do, q.To, q.Days, q.ID, q.Topics, q.Purposes}, func(row func(record.RID, record.CompartmentID) (store.Row, error)) error {
		c, _, err := n.patientBy(in, patientID)
		if err != nil {
			return err
		}
		unlock := n.forms.lock("decide " + patientID)
		defer unlock()
		may, err := n.decidable(in, c)
		if err != nil {
			return err
		}
		known, err := n.directives(c)
		if err != nil {
			return err
		}
		list, err := n.decided(&known, q, may)
		if err != nil {
			return err
		}
		return n.appendDirectives(ctx, in, c, &known, list, row)
	})
	return err
}

// confirmPIN tries the PIN of who is signed in again, before something that is not done by
// a phone that was left lying. Tries count as those of signing in do.
func (n *Node) confirmPIN(ctx context.Context, in *signedIn, pin string) error {
	n.staff.pinMu.Lock()
	defer n.staff.pinMu.Unlock()
	_, _, err := n.tryPINLocked(ctx, in.session.StaffID, pin)
	return err
}

// decided puts a decision in the form of records, as what is here stands. may are the topics that it can
// be about.
func (n *Node) decided(known *directives, q web.Decision, may fhir.Topics) ([]chart.Directive, error) {
	topics, ok := fhir.TopicsOfWords(q.Topics)
	if !ok || topics&^may != 0 {
		return nil, fmt.Errorf("writing down a decision: %w", web.ErrNotFound)
	}
	con, d := known.consentWithin(may), chart.Directive{}
	rand.Read(d.ID[:]) // never fails: it ends the process instead
	switch q.Do {
	case web.DoLimit:
		d.Decision, d.Topics = chart.DecisionLimit, topics.Words()
	case web.DoOpen:
		limits := known.limits()
		d.Decision, d.Refs = chart.DecisionEnd, limits[:min(len(limits), chart.DirectiveRefsMax)]
	case web.DoOpenTopics:
		d.Decision = chart.DecisionEnd
		for _, l := range con.TopicLimits[:min(len(con.TopicLimits), chart.DirectiveRefsMax)] {
			d.Refs = append(d.Refs, l.ID)
		}
	case web.DoGrant:
		d, err := n.grant(d, known.all, q)
		if err != nil || topics == 0 {
			return []chart.Directive{d}, err
		}
		apart := d // the chart, and besides what is kept apart in it
		rand.Read(apart.ID[:])
		apart.Topics = topics.Words()
		return []chart.Directive{d, apart}, nil
	case web.DoEnd:
		d.Decision = chart.DecisionEnd
		i := slices.IndexFunc(con.Grants, func(g chart.Decided) bool { return grantID(g.ID) == q.ID })
		if i < 0 {
			return nil, fmt.Errorf("recalling a grant: %w", web.ErrNotFound)
		}
		d.Grantee, d.Refs = con.Grants[i].Grantee, []chart.DirectiveID{con.Grants[i].ID}
	}
	if d.Decision == chart.DecisionEnd && len(d.Refs) == 0 || d.Decision == 0 {
		return nil, fmt.Errorf("writing down a decision: %w", web.ErrNotFound)
	}
	return []chart.Directive{d}, nil
}

func (n *Node) grant(d chart.Directive, known []chart.Decided, q web.Decision) (chart.Directive, error) {
	d.Decision, d.Purposes = chart.DecisionGrant, []string{policy.Treatment}
	if len(q.Purposes) > 0 {
		d.Purposes = q.Purposes
	}
	if slices.ContainsFunc(d.Purposes, func(p string) bool { return !slices.Contains(fhir.PurposeWords(), p) }) {
		return d, fmt.Errorf("granting for another purpose: %w", web.ErrNotFound)
	}
	if q.To != "" {
		box, err := record.ParseDeviceID(q.To)
		if err != nil {
			return d, fmt.Errorf("granting: %w", web.ErrNotFound)
		}
		m, ok, err := n.store.Member(box)
		if err != nil {
			return d, err
		}
		if !ok || !m.Active() || m.Role == record.RoleHub {
			return d, fmt.Errorf("granting: %w", web.ErrNotFound)
		}
		d.Grantee = box
	}
	if q.Days < 0 || q.Days > web.DecisionDaysMax {
		return d, fmt.Errorf("granting for %d days: %w", q.Days, web.ErrNotFound)
	}
	if q.Days > 0 {
		d.Until = n.grantTime().AddDate(0, 0, q.Days).Unix()
	}
	var err error
	d.Seen, err = chart.Seen(known)
	return d, err
}

// appendDirectives writes them, with the keys that go with them, in one transaction.
func (n *Node) appendDirectives(ctx context.Context, in *signedIn, c record.CompartmentID, known *directives, list []chart.Directive, row func(record.RID, record.CompartmentID) (store.Row, error)) error {
	unlock := n.forms.lock("keys " + c.String())
	defer unlock()
	lent, err := n.lentTo(in, c)
	if err != nil {
		return err
	}
	var drafts []store.Draft
	for i := range list {
		plain, err := chart.EncodeDirective(list[i])
		if err == nil {
			plain, err = n.cosign(in, record.KindConsent, c, plain)
		}
		if err != nil {
			return err
		}
		draft, err := n.sealedDraft(record.LaneControl, record.KindConsent, c, in.n, plain)
		if err != nil {
			return err
		}
		wraps, err := n.handKeys(c, in.n, known, &list[i], lent)
		if err != nil {
			return err
		}
		drafts = append(append(drafts, wraps...), draft)
	}
	_, err = n.append(ctx, drafts, func(placed []record.Record) ([]store.Row, error) {
		r, err := row(placed[len(placed)-1].RID(), c)
		return []store.Row{r}, err
	})
	return err
}
