package node

import (
	"context"
	"crypto/rand"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// KeyUnder wraps a key of a chart under another, as who has both can.
func (n *Node) KeyUnder(patient string, newer seal.Key, gen uint64, k seal.Key) (seal.Wrap, error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return seal.Wrap{}, err
	}
	return seal.WrapKey(rand.Reader, newer, c, gen, k)
}

// GenerationKey is a key of a chart that this box has.
func (n *Node) GenerationKey(patient string, gen uint64) (seal.Key, error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return seal.Key{}, err
	}
	return n.vault.key(c, gen)
}

// Heads are the generations of a chart that are handed to whom it is opened.
func (n *Node) Heads(patient string) (gens []uint64, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	l, err := n.lineage(c)
	for i := range l.heads {
		gens = append(gens, l.heads[i].gen)
	}
	return gens, err
}

// ForgetKeys leaves the keys of charts on the disk alone, as a start does.
func (n *Node) ForgetKeys() {
	n.vault.mu.Lock()
	defer n.vault.mu.Unlock()
	clear(n.vault.known)
}

// RecordsOf are the records of a chart of a kind, in its order.
func (n *Node) RecordsOf(patient string, kind record.Kind) (rids []string, err error) {
	c, err := record.ParseCompartmentID(patient)
	if err != nil {
		return nil, err
	}
	recs, err := n.store.Compartment(c)
	for i := range recs {
		if r := &recs[i].Record; r.Core.Kind == kind {
			rids = append(rids, r.RID().String())
		}
	}
	return rids, err
}

// CopyCard writes the first card of a chart down as one of another chart, as who reads both can.
func (n *Node) CopyCard(ctx context.Context, from, to string) error {
	a, err := record.ParseCompartmentID(from)
	if err != nil {
		return err
	}
	b, err := record.ParseCompartmentID(to)
	if err != nil {
		return err
	}
	recs, err := n.store.Compartment(a)
	if err != nil {
		return err
	}
	for i := range recs {
		if recs[i].Record.Core.Kind != record.KindCard {
			continue
		}
		plain, _, _, err := n.openCosigned(&recs[i])
		if err != nil {
			return err
		}
		d, err := n.sealedDraft(record.LaneControl, record.KindCard, b, 0, plain)
		if err == nil {
			_, err = n.append(ctx, []store.Draft{d}, nil)
		}
		return err
	}
	return errNotHere
}
