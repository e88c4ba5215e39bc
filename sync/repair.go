package peersync

import (
	"context"
	"errors"
	"fmt"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
)

// FetchRange asks other members for the entries [from, to) of the ledger, which
// lie under their final checkpoints: neighbours on the LAN first, then hubs, then
// whoever is connected. take gets them in order, piece by piece, with bodies where
// the peer has them; it compares leaf hashes with the tree, which this does not.
// When take refuses a piece or a peer fails, the next peer is asked from there. An
// error of take that Session.LocalFault knows is given back at once; without a
// peer that has the range the error wraps ErrNoPeer.
func (l *Links) FetchRange(ctx context.Context, from, to uint64, take func([]record.Entry) error) error {
	p := &span{from: from, to: to, take: take}
	errs := []error{ErrNoPeer}
	for _, t := range l.sources() {
		if p.from >= p.to {
			break
		}
		p.asked = false
		err := l.rangeFrom(ctx, t, p)
		switch {
		case p.from >= p.to:
		case ctx.Err() != nil:
			return fmt.Errorf("fetching entries: %w", ctx.Err())
		case errors.Is(err, ErrLocal):
			return fmt.Errorf("fetching entries: %w", err)
		case err != nil:
			errs = append(errs, fmt.Errorf("from %s: %w", t.device.Short(), err))
		}
	}
	if p.from < p.to {
		return fmt.Errorf("fetching entries %d to %d: %w", p.from, p.to, errors.Join(errs...))
	}
	return nil
}

// sources lists the members to ask, best first.
func (l *Links) sources() []target {
	hubs, neighbours := l.o.Hubs(), l.o.Neighbours()
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []target
	seen := map[record.DeviceID]bool{l.host.device: true}
	add := func(d record.DeviceID, addresses []ma.Multiaddr, lan bool) {
		if !seen[d] && l.o.Allow(d) {
			seen[d] = true
			list = append(list, target{d, addresses, lan})
		}
	}
	for d, c := range l.contacts {
		if len(c.neighbour) > 0 {
			add(d, c.neighbour, true)
		}
	}
	for i, group := range [][]Address{neighbours, l.trustedFirstLocked(hubs)} {
		for _, a := range group {
			if addresses, err := dialable(a.Device, a.Addresses); err == nil {
				add(a.Device, addresses, i == 0)
			}
		}
	}
	for d, c := range l.contacts {
		if c.live != nil {
			add(d, nil, false)
		}
	}
	return list
}

func (l *Links) rangeFrom(ctx context.Context, t target, p *span) error {
	s, o, err := l.fetchStream(ctx, t)
	if err != nil {
		return err
	}
	return Run(ctx, s, newRange(l.r, t.device, p, o), RunOptions{})
}
