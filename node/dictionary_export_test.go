package node

import (
	"context"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// ForgetDictionaries makes the box one to which no dictionary came.
func (n *Node) ForgetDictionaries() error {
	n.vault.dictionaries = seal.Dictionaries{}
	return n.reproject(func(p *projection) error {
		list, err := n.store.Compartments()
		for _, c := range list {
			p.touch(c)
		}
		return err
	})
}

// DictionaryComes is the arrival of one.
func (n *Node) DictionaryComes() error {
	return n.reproject(func(p *projection) error {
		return p.dictionaryCame(store.Arrival{}, &record.Record{Core: record.Core{Kind: record.KindDictionary}})
	})
}

func (n *Node) reproject(f func(*projection) error) error {
	n.projectMu.Lock()
	defer n.projectMu.Unlock()
	p := &projection{n: n, ctx: context.Background(), dirty: map[record.CompartmentID]bool{}}
	if err := f(p); err != nil {
		return err
	}
	for _, c := range p.order {
		if err := p.compartment(c); err != nil {
			return err
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.tellWaiting()
}
