package node

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"maps"
	"slices"

	"github.com/healthpost/healthpost/fhir"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// robbed are the keys that somebody with a root shell on this box has, who also has the store of another: those
// in memory, those of the box's own file, and what any wrap in any record or row opens to with any of
// them, whatever it says that it is.
func (n *Node) robbed(from *Node) ([]seal.Key, error) {
	keys := map[seal.Key]bool{}
	for _, k := range n.CompartmentKeys() {
		keys[k] = true
	}
	for _, k := range n.keys.Reading {
		keys[k] = true
	}
	var wraps []seal.Wrap
	take := func(body []byte) {
		if list, err := seal.DecodeWraps(body); err == nil {
			wraps = append(wraps, list...)
		}
	}
	for _, s := range []*store.Store{n.store, from.store} {
		all, err := s.Compartments()
		if err != nil {
			return nil, err
		}
		for _, comp := range all {
			recs, err := s.Compartment(comp)
			if err != nil {
				return nil, err
			}
			for i := range recs {
				take(recs[i].Record.Body)
			}
		}
		if err := s.ScanRows(nil, forgetRowsMax, func(_, v []byte) bool { take(v); return true }); err != nil {
			return nil, err
		}
	}
	for _, w := range wraps {
		if k, err := n.keys.Unwrap(w); err == nil {
			keys[k] = true
		}
	}
	for before := 0; before < len(keys); {
		before = len(keys)
		for _, w := range wraps {
			for by := range keys {
				if k, err := seal.UnwrapKey(by, w); err == nil {
					keys[k] = true
				}
			}
		}
	}
	return slices.Collect(maps.Keys(keys)), nil
}

// Robs tells which of the visits of a chart in another box's store such a person reads, in the
// order of the chart.
func (n *Node) Robs(from *Node, patient string) (opens []bool, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	keys, err := n.robbed(from)
	if err != nil {
		return nil, err
	}
	recs, err := from.store.Compartment(c)
	if err != nil {
		return nil, err
	}
	for i := range recs {
		r := &recs[i].Record
		if r.Core.Kind != record.KindClinical {
			continue
		}
		open := slices.ContainsFunc(keys, func(k seal.Key) bool {
			_, err := n.vault.dictionaries.Open(func(uint64) (seal.Key, bool) { return k, true }, r.Position(), r.Core.Kind, c, r.Body)
			return err == nil
		})
		opens = append(opens, open)
	}
	return opens, nil
}

// RobsAny counts the visits and registrations of a chart in another box's store, and which of them such a person reads.
func (n *Node) RobsAny(from *Node, patient string) (opens, all int, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return 0, 0, err
	}
	keys, err := n.robbed(from)
	if err != nil {
		return 0, 0, err
	}
	recs, err := from.store.Compartment(c)
	for i := range recs {
		r := &recs[i].Record
		if k := r.Core.Kind; k != record.KindClinical && k != record.KindRegistration {
			continue
		}
		all++
		if slices.ContainsFunc(keys, func(k seal.Key) bool {
			_, err := n.vault.dictionaries.Open(func(uint64) (seal.Key, bool) { return k, true }, r.Position(), r.Core.Kind, c, r.Body)
			return err == nil
		}) {
			opens++
		}
	}
	return opens, all, err
}

// Generations are the numbers under which the records of a chart of a kind are sealed.
func (n *Node) Generations(chart string, kind record.Kind) (gens []uint64, err error) {
	c, err := record.ParseCompartmentID(chart)
	if err != nil {
		return nil, err
	}
	recs, err := n.store.Compartment(c)
	for i := range recs {
		if r := &recs[i].Record; r.Core.Kind == kind && r.Body != nil {
			gen, err := seal.Generation(r.Body)
			if err != nil {
				return nil, err
			}
			gens = append(gens, gen)
		}
	}
	return gens, err
}

// Plant writes wraps as a record of a chart, as who has a root shell can.
func (n *Node) Plant(ctx context.Context, patient string, wraps ...seal.Wrap) error {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return err
	}
	body, err := seal.EncodeWraps(wraps)
	if err == nil {
		_, err = n.append(ctx, []store.Draft{wrapDraft(c, 0, body)}, nil)
	}
	return err
}

// WrapsTo makes wraps of a key of a chart to members, by name.
func (n *Node) WrapsTo(patient string, gen uint64, k seal.Key, names ...string) (wraps []seal.Wrap, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		m, err := n.findMember(name)
		if err != nil {
			return nil, err
		}
		to, err := ecdh.X25519().NewPublicKey(m.Encryption[:])
		if err != nil {
			return nil, err
		}
		w, err := seal.WrapKeyTo(to, c, gen, k)
		if err != nil {
			return nil, err
		}
		wraps = append(wraps, w)
	}
	return wraps, nil
}

// DecideUnasked writes a decision down as who has a root shell can: nobody asks the rules.
func (n *Node) DecideUnasked(ctx context.Context, patient string, q web.Decision) error {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return err
	}
	known, err := n.directives(c)
	if err != nil {
		return err
	}
	list, err := n.decided(&known, q, fhir.AllTopics)
	if err != nil {
		return err
	}
	return n.appendDirectives(ctx, &signedIn{}, c, &known, list, func(record.RID, record.CompartmentID) (store.Row, error) {
		return store.Row{Key: []byte("test/none"), Value: []byte{1}}, nil
	})
}

// KeysOf counts the wraps of a chart's keys that are here, in rows and in records.
func (n *Node) KeysOf(patient string) (left int, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return 0, err
	}
	gens, err := n.vault.generations(c, func(uint64) bool { return true })
	if err != nil {
		return 0, err
	}
	err = n.eachWrap(c, func(seal.Wrap, record.DeviceID) { left++ })
	return left + len(gens), err
}

// RowsAnew makes the rows of this box again from its records, as after a rebuild.
func (n *Node) RowsAnew(ctx context.Context) error {
	n.projectMu.Lock()
	for _, prefix := range []string{"wrap/", "pat/", "tok/", "may/", "card/"} {
		if err := n.store.DropRows([]byte(prefix)); err != nil {
			n.projectMu.Unlock()
			return err
		}
	}
	n.vault.mu.Lock()
	clear(n.vault.known)
	n.vault.mu.Unlock()
	err := n.store.PutRows(ctx, []store.Row{{Key: cursorKey, Value: make([]byte, 8)}})
	n.projectMu.Unlock()
	if err != nil {
		return err
	}
	return n.projectNow()
}

// ChainUnder makes generations that each hold the one before, the first of them the chart's first key, and gives
// the links, oldest first, and the wrap of the newest to this box.
func (n *Node) ChainUnder(patient string, length int) (newest seal.Wrap, links []seal.Wrap, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return newest, nil, err
	}
	l, err := n.lineage(c)
	if err != nil {
		return newest, nil, err
	}
	older := l.first
	for range length {
		k, err := seal.NewKey(rand.Reader)
		if err != nil {
			return newest, nil, err
		}
		w, err := seal.WrapKey(rand.Reader, k, c, older.gen, older.key)
		if err != nil {
			return newest, nil, err
		}
		links = append(links, w)
		older = dek{seal.ClosedGeneration(older.gen, k), k}
	}
	newest, err = seal.WrapKeyTo(n.keys.ExchangeKey().PublicKey(), c, older.gen, older.key)
	return newest, links, err
}

// Held counts which of some generations of a chart this box can open.
func (n *Node) Held(patient string, gens []uint64) (held int, err error) {
	c, err := record.ParseCompartmentID(patient)
	for _, gen := range gens {
		if _, err := n.vault.key(c, gen); err == nil {
			held++
		}
	}
	return held, err
}
