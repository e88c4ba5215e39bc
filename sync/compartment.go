package peersync

import (
	"context"
	"errors"
	"fmt"

	"github.com/healthpost/healthpost/record"
)

// FetchCompartment asks other members for the entries of a compartment that this
// box's profile does not have, or not all of them: neighbours on the LAN first,
// then hubs, then whoever is connected, until nothing of it is known to be missing.
// What comes is verified and in the replica on return; n is how many entries were
// new. missing says, when it is asked after each peer, whether another one is to be
// tried. The error wraps ErrNotAllowed when a peer answered that this box may not
// have the compartment and none gave it, ErrNoPeer when nobody could be asked.
func (l *Links) FetchCompartment(ctx context.Context, c record.CompartmentID, missing func() (bool, error)) (n int, err error) {
	errs := []error{ErrNoPeer}
	for _, t := range l.sources() {
		w := &wanted{compartment: c}
		err := l.compartmentFrom(ctx, t, w)
		n += w.took
		switch {
		case ctx.Err() != nil:
			return n, fmt.Errorf("fetching a compartment: %w", ctx.Err())
		case errors.Is(err, ErrLocal):
			return n, fmt.Errorf("fetching a compartment: %w", err)
		case w.why == filledNotYours:
			errs = append(errs, fmt.Errorf("from %s: %w", t.device.Short(), errNotGranted))
			continue
		case !w.done || w.why != filledAll:
			errs = append(errs, fmt.Errorf("from %s: %w", t.device.Short(), errOr(err, ErrBehind)))
			continue
		}
		more, err := missing()
		if err != nil {
			return n, fmt.Errorf("fetching a compartment: %w", err)
		}
		if !more {
			return n, nil
		}
		errs = append(errs, fmt.Errorf("from %s: %w", t.device.Short(), ErrBehind))
	}
	return n, fmt.Errorf("fetching a compartment: %w", errors.Join(errs...))
}

var errNotGranted = fmt.Errorf("%w: it is outside of what this box holds", ErrNotAllowed)

func (l *Links) compartmentFrom(ctx context.Context, t target, w *wanted) error {
	s, o, err := l.fetchStream(ctx, t)
	if err != nil {
		return err
	}
	return Run(ctx, s, newWanted(l.r, t.device, w, o), RunOptions{})
}

// fetchStream opens a stream for one question.
func (l *Links) fetchStream(ctx context.Context, t target) (*stream, Options, error) {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	id, err := l.host.connect(dial, t.device, t.addresses, t.lan, l.circuits)
	if err != nil {
		return nil, Options{}, err
	}
	s, err := l.host.stream(dial, id, FetchProtocol)
	o := l.o.Session
	if t.lan {
		o.Window = WindowLAN
	}
	return s, o, err
}
