package node

import (
	"time"

	"github.com/healthpost/healthpost/web"
)

// clockWords say how far the clock is to be believed.
var clockWords = map[uint8]string{
	clockWrong: "it shows a time that is over: this is a guess",
	clockMoves: "set by nobody since the start",
	clockHubs:  "as the hubs have it",
}

func (n *Node) webClock() web.Clock {
	c := web.Clock{Now: n.o.Now()}
	switch n.clock.trust() {
	case clockWrong:
		c.Wrong = true
	case clockHubs:
		c.Trusted, c.Source = true, "hub"
	}
	return c
}

// why is why nothing moves, or not everything. Links know most of it; what the hubs
// owe is known from the counts.
func (n *Node) why(r *running, c web.Counts) string {
	live := r.links.live.Load()
	switch {
	case live == nil:
		return web.WhyAlone
	case n.box.Role.Orders():
		return web.WhyNothing
	}
	why := live.Why()
	if why != web.WhyNothing && why != web.WhyNoLink {
		return why
	}
	var connected, hub bool
	for _, p := range live.Peers() {
		connected, hub = connected || p.Connected, hub || p.Connected && p.Hub
	}
	switch waits := c.Pending > 0 || c.Shared > 0; {
	case connected && !hub && waits:
		return web.WhyNoHub
	case connected && !hub:
		return web.WhyNothing
	case hub && c.Shared > 0 && c.Pending == 0:
		return web.WhyOrder
	}
	return why
}

// linkStatus adds why nothing moves, and what the link cost.
func (n *Node) linkStatus(r *running, c web.Counts, s *Status) {
	s.Why = n.why(r, c)
	s.WhyWords = whyWords[s.Why]
	live := r.links.live.Load()
	if live == nil {
		return
	}
	u := live.Usage()
	if !u.Next.IsZero() {
		next := n.ahead(u.Next)
		s.NextCall = &next
	}
	if u.Metered {
		s.Usage = &UsageStatus{u.Month, u.BytesIn, u.BytesOut, u.Budget}
	}
}

func (n *Node) webLink(r *running, p *web.SyncPage) {
	p.Why = n.why(r, p.Counts)
	live := r.links.live.Load()
	if live == nil {
		return
	}
	u := live.Usage()
	if !u.Next.IsZero() {
		p.NextCall = n.ahead(u.Next)
	}
	p.Usage = web.Usage{Metered: u.Metered, Month: u.Month, Bytes: u.BytesIn + u.BytesOut, Budget: u.Budget}
}

// ahead is a moment of the process's clock by the box's clock.
func (n *Node) ahead(t time.Time) time.Time { return n.o.Now().Add(time.Until(t)) }

// whyWords say it to whoever runs commands.
var whyWords = map[string]string{
	web.WhyCut:     "the links of this box are switched off",
	web.WhyAlone:   "this box knows no other box: 'healthpost join' makes it part of a region, a hub's address in the configuration (dial) leads there",
	web.WhyNoLink:  "nobody answers: look at the modem or the cable; work goes on and is kept",
	web.WhyNoHub:   "no hub answers; the boxes that are connected take copies and pass them on",
	web.WhyWaiting: "the link is used on schedule: what is urgent goes at once, 'healthpost sync' calls now",
	web.WhyLow:     "less than a fifth is left of this month's bytes: visits go, the rest waits",
	web.WhyEmpty:   "this month's bytes are used: only what is urgent goes",
	web.WhyFull:    "the disk is full: nothing can be taken in; free space on it",
	web.WhyRefused: "a hub ends every exchange with this box: 'trouble' below says more, the hub's log too",
	web.WhyForked:  "a hub shows another ledger than this box: 'healthpost evidence list' has what is known",
	web.WhyOrder:   "other boxes hold all of it, the hubs have given it no place yet: look whether more than half of them run",
}
