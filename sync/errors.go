package peersync

import (
	"errors"
	"fmt"
)

// Errors of a session, in families by what the caller does next.
//
// ErrMisbehaved means that the peer broke the protocol or sent bytes that do not
// verify: nothing of what it sent last was stored, and the peer is left alone
// for a while. ErrFork, ErrRegion and ErrVersion are kinds of it that a person
// has to look at. ErrLocal means that this box could not read or write its own
// replica. Any other error is the link's: try again.
var (
	ErrMisbehaved = errors.New("peer broke the protocol")
	ErrFork       = fmt.Errorf("%w: its ledger is not this one", ErrMisbehaved)
	ErrRegion     = fmt.Errorf("%w: it belongs to another region", ErrMisbehaved)
	ErrVersion    = fmt.Errorf("%w: no protocol version in common", ErrMisbehaved)
	ErrLocal      = errors.New("own replica failed")
	ErrStalled    = errors.New("no progress on the link")
	ErrBye        = errors.New("peer ended the session")
	ErrStopped    = errors.New("session stopped here")
	ErrNotAllowed = errors.New("peer is not a member")
	ErrNoPeer     = errors.New("no peer can be reached")
	ErrBehind     = errors.New("peer does not hold the range")
)

func misbehaved(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrMisbehaved, fmt.Errorf(format, a...))
}

func local(what string, err error) error { return fmt.Errorf("%s: %w: %w", what, ErrLocal, err) }
