package node

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
)

// What patients decided leaves as Consent resources and comes in by them. What would close
// a chart is taken from anybody's; what would open one only from this program's own form,
// for a box of this region.

// consents writes what was decided about one chart, and about topics as far as they are seen.
func (x *exporting) consents(c record.CompartmentID, ch *chart.Chart, seen fhir.Topics) error {
	n := x.n
	d, err := n.directives(c)
	if err != nil {
		return err
	}
	con := d.consentWithin(seen)
	all := slices.Concat(con.Limits, con.TopicLimits, con.Grants)
	hold := len(all)
	for _, e := range con.Ended {
		all = append(all, e.Decided)
	}
	for i, one := range all {
		if !sayable(&one.Directive) {
			continue
		}
		r, err := n.consentResource(&d, &one, i < hold, patientReference(ch))
		if err != nil {
			return fmt.Errorf("exporting: %w", err)
		}
		if err := x.line(r.JSON); err != nil {
			return err
		}
		x.rep.Resources++
	}
	return nil
}

// sayable reports whether a Consent can say all of a permission: not of one for topics or purposes that this
// program does not know, which would be a wider one without them.
func sayable(d *chart.Directive) bool {
	_, ok := fhir.TopicsOfWords(d.Topics)
	known := slices.ContainsFunc(d.Purposes, func(p string) bool { return slices.Contains(fhir.PurposeWords(), p) })
	return d.Decision == chart.DecisionLimit || ok && known
}

func (n *Node) consentResource(d *directives, x *chart.Decided, active bool, patient string) (fhir.Resource, error) {
	c := fhir.Consent{ID: grantID(x.ID), Active: active, Privacy: true, Deny: x.Decision == chart.DecisionLimit, At: x.At, Purposes: x.Purposes}
	if t, ok := fhir.TopicsOfWords(x.Topics); ok { // with a topic that nobody here knows it is of the whole chart
		c.Topics = t
	}
	boxes := []record.DeviceID{x.Grantee}
	if c.Deny {
		boxes = slices.Clone(d.homes)
		if !slices.Contains(boxes, x.By) {
			boxes = append(boxes, x.By)
		}
	} else if x.Grantee == (record.DeviceID{}) {
		boxes = nil
	}
	for _, b := range boxes {
		c.Boxes = append(c.Boxes, fhir.ConsentBox{ID: b.String(), Name: n.deviceName(b)})
	}
	if x.Until > 0 {
		c.Until = time.Unix(x.Until, 0)
	}
	return c.Resource(patient)
}

// decisions takes in what patients decided before anything else of the file, so that what a limit closes is
// sealed under a key of its own from its first record on.
func (i *importer) decisions(strangers map[int]bool) error {
	for k, s := range i.plan.Saves {
		if strangers[s.Patient] {
			continue
		}
		for at, r := range s.Resources {
			done, err := i.consent(s, r)
			if err != nil {
				return err
			}
			if done {
				i.taken[[2]int{k, at}] = true
			}
		}
	}
	if err := i.flush(); err != nil {
		return err
	}
	if err := i.n.projectNow(); err != nil { // the wraps are among it
		return err
	}
	for k := range i.patients {
		p := &i.patients[k]
		if !p.ready {
			continue
		}
		s, err := i.n.sealing(p.c, 0, nil)
		if err != nil {
			return err
		}
		i.keys(s.wraps)
		p.key = s.dek
	}
	return nil
}

// consent takes a decision out of a Consent resource. done: nothing is left to store of it.
func (i *importer) consent(s fhir.Save, r fhir.Resource) (done bool, err error) {
	if r.Type != "Consent" || s.Patient == fhir.NoPatient {
		return false, nil
	}
	var known directives
	if comp, here := i.known(s); here {
		if known, err = i.n.directives(comp); err != nil {
			return false, err
		}
	}
	c, exact := r.Consent()
	d, ok := i.directive(c, exact)
	if !ok {
		exact = exact && known.has(c.ID) // an end that is here too
		sum := sha256.Sum256(fhir.Compact(r.JSON))
		d = chart.Directive{ID: chart.DirectiveID(sum[:16]), Decision: chart.DecisionLimit}
		if !exact && (!c.Active || !c.Privacy || !c.Deny) {
			return false, nil
		}
	}
	same := fmt.Sprint(s.Patient, " consent ", grantID(d.ID))
	if i.batch[same] || known.has(grantID(d.ID)) || exact && known.has(c.ID) {
		if exact {
			i.rep.Known++
		}
		return exact, nil
	}
	i.batch[same] = true
	if i.dry {
		if exact {
			i.rep.Added++
		}
		return exact, nil
	}
	if d.Decision == chart.DecisionGrant {
		if d.Seen, err = chart.Seen(known.all); err != nil {
			return false, err
		}
	}
	return exact, i.decide(s, &known, d, exact)
}

// has reports whether there is a directive with this id.
func (d *directives) has(id string) bool {
	return slices.ContainsFunc(d.all, func(x chart.Decided) bool { return grantID(x.ID) == id })
}

// directive is a decision that has this program's own form.
func (i *importer) directive(c fhir.Consent, exact bool) (d chart.Directive, ok bool) {
	raw, err := hex.DecodeString(c.ID)
	if !exact || !c.Active || !c.Privacy || err != nil || len(raw) != len(d.ID) {
		return d, false
	}
	d.ID, d.Topics = chart.DirectiveID(raw), c.Topics.Words()
	if c.Deny {
		d.Decision = chart.DecisionLimit
		return d, d.ID != chart.DirectiveID{}
	}
	d.Decision, d.Purposes = chart.DecisionGrant, c.Purposes
	if !c.Until.IsZero() {
		d.Until = c.Until.Unix()
	}
	if len(c.Boxes) == 0 {
		return d, true
	}
	d.Grantee, err = record.ParseDeviceID(c.Boxes[0].ID)
	m, member, stored := i.n.store.Member(d.Grantee)
	return d, err == nil && stored == nil && member && m.Active() && len(c.Boxes) == 1
}

// decide drafts the record of a decision.
func (i *importer) decide(s fhir.Save, known *directives, d chart.Directive, counted bool) error {
	plain, err := chart.EncodeDirective(d)
	if err != nil {
		return err
	}
	p, err := i.compartment(s)
	if err != nil {
		return err
	}
	packed, err := i.n.vault.dictionaries.Pack(plain)
	if err != nil {
		return err
	}
	if _, here := i.known(s); here {
		wraps, err := i.n.handKeys(p.c, 0, known, &d, nil)
		if err != nil {
			return err
		}
		i.keys(wraps)
	}
	i.drafts = append(i.drafts, i.n.vault.draft(record.LaneControl, record.KindConsent, p.c, p.first, 0, packed))
	if counted {
		i.added++
	}
	if len(i.drafts) >= importAppendDrafts {
		return i.flush()
	}
	return nil
}
