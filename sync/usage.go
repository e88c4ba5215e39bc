package peersync

import (
	"context"
	"errors"
	"time"

	"github.com/healthpost/healthpost/record"
)

// Reasons of Links.Why.
const (
	WhyNothing = ""            // a hub, or where there is none a neighbour, is connected
	WhyCut     = "cut"         // staff cut this box off
	WhyAlone   = "alone"       // no other box is known
	WhyNoLink  = "no_link"     // nobody answers
	WhyWaiting = "waiting"     // the next call is at Usage.Next
	WhyLow     = "budget_low"  // audit, bulk and attachments wait for the next month
	WhyEmpty   = "budget_used" // only what is urgent goes out
	WhyFull    = "full"        // this box's own disk takes nothing more
	WhyRefused = "refused"     // the hub broke a rule of the protocol
	WhyForked  = "forked"      // the hub's ledger contradicts this one
)

// Usage is what the link cost this month, and when the next call is planned.
func (l *Links) Usage() Usage {
	if l.host.meter == nil {
		return Usage{}
	}
	u := l.host.meter.Usage()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls.active() && !l.calls.on {
		u.Next = l.calls.next
	}
	return u
}

// Why says why nothing moves, or not everything, as one of the codes above.
func (l *Links) Why() string {
	level := levelFull
	if m := l.host.meter; m != nil {
		level = m.levelNow()
	}
	hubs := l.o.Hubs()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return WhyCut
	}
	why, connected := l.worstLocked(len(hubs) > 0)
	switch {
	case why != WhyNothing:
		return why
	case level == levelEmpty:
		return WhyEmpty
	case connected && level == levelLow:
		return WhyLow
	case connected:
		return WhyNothing
	case l.calls.active() && !l.calls.on:
		return WhyWaiting
	case len(hubs) == 0 && len(l.contacts) == 0:
		return WhyAlone
	}
	return WhyNoLink
}

// worstLocked looks at hubs, or where there is none at all peers: connected when one
// of them is, and otherwise what stands against it.
func (l *Links) worstLocked(hubsOnly bool) (why string, connected bool) {
	for d, c := range l.contacts {
		if hubsOnly && !l.isHub(d) {
			continue
		}
		switch {
		case c.live != nil && c.status.Connected && c.live.now.Forked:
			why = WhyForked
		case c.live != nil && c.status.Connected:
			return WhyNothing, true
		case why == WhyForked || c.lastErr == nil:
		case errors.Is(c.lastErr, ErrLocal):
			why = WhyFull
		case errors.Is(c.lastErr, ErrMisbehaved):
			why = WhyRefused
		}
	}
	return why, false
}

// paidOptions are those of a session over a connection that this box pays for.
func (l *Links) paidOptions(o Options) Options {
	m, want := l.host.meter, o.WantOrdered
	o.Allowance = m.allowance
	o.WantOrdered = func() bool { return want != nil && want() && m.allowance().Entries }
	return o
}

// wasCut reports whether the last session with a peer ended while something was
// under way, and what is known of the link to it.
func (l *Links) wasCut(d record.DeviceID) (bool, Pace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.contacts[d]
	if c == nil {
		return false, Pace{}
	}
	return c.cut, c.pace
}

const usageLook = time.Minute // at the month

// keepUsage saves what the meter counted and tells sessions when less may go.
func (l *Links) keepUsage(ctx context.Context) {
	m := l.host.meter
	tick := time.NewTicker(usageLook)
	defer tick.Stop()
	save := func() {
		if err := m.save(); err != nil {
			l.o.Log.Warn().Err(err).Msg("usage is not kept")
		}
	}
	defer save()
	level := m.levelNow()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.bell:
		case <-tick.C:
		}
		save()
		if now := m.levelNow(); now != level {
			level = now
			l.Wake()
		}
	}
}
