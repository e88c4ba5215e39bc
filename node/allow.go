package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// Every use case of the page begins with allow: who holds the token, and whether
// the rules let that person do this. What is refused leaves a line like every look.

// allow gives the session of a token whose owner may do this now, and counts as use.
// patient is the compartment of an action about one chart, in hexadecimal, "" for any
// other. Errors: web.ErrNotSignedIn, web.ErrRefused.
func (n *Node) allow(ctx context.Context, s web.Session, a policy.Action, patient string) (*signedIn, error) {
	in, err := n.staff.get(s.Token, true)
	if err != nil {
		return nil, err
	}
	if n.may(in, a, patient) {
		return in, nil
	}
	if err := n.noteRefusal(ctx, in, a, patient); err != nil {
		return nil, explain(err)
	}
	return nil, fmt.Errorf("%s as %s: %w", a, in.roles, web.ErrRefused)
}

// Ask is allow for the page, before it shows a form.
func (n *Node) Ask(ctx context.Context, s web.Session, right, patientID string) error {
	a := policy.Action(right)
	if !a.OnPatient() {
		patientID = ""
	}
	_, err := n.allow(ctx, s, a, patientID)
	return err
}

// may asks the rules and leaves no line.
func (n *Node) may(in *signedIn, a policy.Action, patient string) bool {
	return n.decide(in, a, patient).Allowed
}

// decide asks the rules. What the patient decided and cannot be read here closes the chart.
func (n *Node) decide(in *signedIn, a policy.Action, patient string) policy.Verdict {
	q := policy.Ask{Staff: in.session.StaffID, Roles: in.roles, Action: a, Patient: patient, Box: string(n.box.forStaff()),
		Purpose: policy.Treatment, Time: n.grantTime().Unix()}
	if c, err := record.ParseCompartmentID(patient); err == nil && a.OnPatient() {
		s, err := n.standing(c)
		if err != nil {
			s = standing{Limited: true}
		}
		q.Limited, q.Home, q.Grant = s.Limited, s.Home, policy.Grant{ID: s.Grant, Until: s.Until}
		if cardOpens(a) && q.Limited && !q.Home && (s.Grant == "" || s.Until != 0 && s.Until <= q.Time) {
			if g, ok := n.cardGrant(in, c); ok {
				q.Grant = g
			}
		}
	}
	return n.rules().Decide(q)
}

// rights is what somebody with these roles may do here at all; the page offers nothing else.
func (n *Node) rights(staffID string, roles policy.Roles) web.Rights {
	all := web.Rights{}
	for _, list := range [][]policy.Action{policy.PatientActions, policy.BoxActions} {
		for _, a := range list {
			all[string(a)] = n.may(&signedIn{session: web.Session{StaffID: staffID}, roles: roles}, a, "")
		}
	}
	return all
}

// noteRefusal makes the line durable. A box whose disk is full refuses without a line.
func (n *Node) noteRefusal(ctx context.Context, in *signedIn, a policy.Action, patient string) error {
	var about []byte
	c, err := record.ParseCompartmentID(patient)
	if err == nil {
		about = c[:]
	}
	err = n.noteLook(ctx, in, seenLook{accessRefused | actionCode(a), c}, about)
	if errors.Is(err, store.ErrFull) {
		return nil
	}
	return err
}
