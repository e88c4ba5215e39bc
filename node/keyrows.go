package node

import (
	"fmt"
	"maps"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// keys keeps what a key-wrap record hands to this box. Closed generations stand in records of their
// chart; what they lead to is looked for when they are there.
func (p *projection) keys(r *record.Record) ([]store.Row, error) {
	wraps, err := seal.DecodeWraps(r.Body)
	if err != nil {
		return nil, fmt.Errorf("reading key wraps: %w", err)
	}
	c := r.Core.Compartment
	wraps = slices.DeleteFunc(wraps, func(w seal.Wrap) bool { return w.Generation != firstGen && w.Compartment != c })
	rows, err := p.n.vault.wrapRows(wraps)
	if len(rows) < len(wraps) || slices.ContainsFunc(wraps, func(w seal.Wrap) bool { return w.Generation != firstGen }) {
		p.linked[c] = true
	}
	return rows, err
}

// links keeps the keys that those which came lead to.
func (p *projection) links() error {
	for c := range p.linked {
		rows, err := p.n.linkRows(c)
		if err != nil {
			return err
		}
		for _, r := range rows { // each leans on one before it
			p.put(r)
		}
	}
	return p.flush()
}

// linkRows are the rows of keys that those held here lead to, and that are not kept yet.
func (n *Node) linkRows(c record.CompartmentID) (rows []store.Row, err error) {
	held, err := n.vault.held(c)
	if err != nil || !slices.ContainsFunc(slices.Collect(maps.Keys(held)), seal.IsClosed) {
		return nil, err
	}
	var wraps []seal.Wrap
	if err := n.eachWrap(c, func(w seal.Wrap, _ record.DeviceID) { wraps = append(wraps, w) }); err != nil {
		return nil, err
	}
	_, by := seal.OpenChain(wraps, held)
	for _, w := range by {
		if rows, err = n.vault.wrapRow(rows, w); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// keep counts a record that is sealed under a closed generation.
func (u *unread) keep(r *record.Record, own bool) {
	gen, err := seal.Generation(r.Body)
	if err != nil || !seal.IsClosed(gen) {
		return
	}
	first, rid := asFirst(*r)
	if own && r.Core.Kind == record.KindClinical && r.Core.Lane != record.LaneBulk {
		u.shut = append(u.shut, shutVisit{first.Core.HLC, rid})
	}
	if at := timeOfHLC(first.Core.HLC); u.closed.Records == 0 || at.Before(u.closed.Since) {
		u.closed.Since = at
	}
	u.closed.Records++
}
