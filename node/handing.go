package node

import (
	"bytes"
	"context"
	"errors"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal"
	"github.com/healthpost/healthpost/store"
)

// A permission hands over the keys that its box has. Another box may have made one meanwhile, of which that box did
// not know: who made a head hands it to those who may read by what came since, also when the limits ended.
//
//	hand/ comp    something came of a chart of which this box has closed keys
//
// The row goes when nobody lacks anything.

const handMax = 256 // charts looked at in one go

func handKey(c record.CompartmentID) []byte { return append([]byte("hand/"), c[:]...) }

// hands marks a chart that something came of.
func (p *projection) hands(c record.CompartmentID, decided bool) error {
	if !decided {
		return nil
	}
	gens, err := p.n.vault.generations(c, seal.IsClosed)
	if err == nil && len(gens) > 0 {
		p.put(store.Row{Key: handKey(c), Value: []byte{1}})
	}
	return err
}

// handLoop hands over what others lack until ctx ends.
func (n *Node) handLoop(ctx context.Context) error {
	changed := n.store.Subscribe(ctx)
	for {
		if err := n.handAll(ctx); err != nil && ctx.Err() == nil && n.store.Err() == nil && !errors.Is(err, store.ErrFull) {
			n.log.Warn().Err(err).Msg("handing over keys waits")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (n *Node) handAll(ctx context.Context) error {
	if err := n.projectNow(); err != nil || !n.isMember(n.author.Device) {
		return err
	}
	var charts []record.CompartmentID
	err := n.store.ScanRows([]byte("hand/"), handMax, func(k, _ []byte) bool {
		if c := bytes.TrimPrefix(k, []byte("hand/")); len(c) == len(record.CompartmentID{}) {
			charts = append(charts, record.CompartmentID(c))
		}
		return true
	})
	for _, c := range charts {
		if err == nil {
			err = n.hand(ctx, c)
		}
	}
	return err
}

// hand hands the heads that this box made to whom of the audience lacks them.
func (n *Node) hand(ctx context.Context, c record.CompartmentID) error {
	unlock := n.forms.lock("keys " + c.String())
	defer unlock()
	drafts, err := n.lacking(c)
	if err != nil && !unreadable(err) {
		return err
	}
	if len(drafts) > 0 { // what it brings about marks the chart again
		_, err := n.append(ctx, drafts, func([]record.Record) ([]store.Row, error) { return []store.Row{{Key: handKey(c)}}, nil })
		return err
	}
	return n.store.PutRowsSoon(ctx, []store.Row{{Key: handKey(c)}})
}

// lacking are the wraps that hand those heads over.
func (n *Node) lacking(c record.CompartmentID) ([]store.Draft, error) {
	if _, erased := n.store.ErasedCompartment(c); erased {
		return nil, nil
	}
	l, err := n.lineage(c)
	if err != nil {
		return nil, err
	}
	own := l.heads[:0:0]
	for _, g := range l.heads {
		if g.maker == n.author.Device {
			own = append(own, g)
		}
	}
	if l.heads = own; len(own) == 0 {
		return nil, nil
	}
	d, err := n.directives(c)
	if err != nil {
		return nil, err
	}
	k := d.custody()
	if !k.consent.Limited() {
		return n.toRegion(l, 0)
	}
	escrow, err := n.escrowKey()
	if err != nil || escrow == nil {
		return nil, err
	}
	a, err := n.audience(c, &k, escrow, false)
	if err != nil {
		return nil, err
	}
	return l.handed(0, a.to)
}
