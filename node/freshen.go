package node

import (
	"context"
	"time"
)

// freshness notes when the regional view last became younger, by this process's own
// monotonic clock: a hub that shows an old ledger on and on shows nothing false, and
// only another hub can tell. Hubs sign an unchanged ledger every CosignEvery.
type freshness struct {
	at    int64     // time of the newest final checkpoint, Unix seconds
	since time.Time // when that came, or when another hub was last asked
}

// freshen asks another hub when the view did not become younger for as long as hubs
// take to sign twice. The watch alone calls it.
func (n *Node) freshen(context.Context) error {
	if n.box.Role.Orders() {
		return nil
	}
	f := &n.fresh
	if at := n.finalTime(); at > f.at || f.since.IsZero() {
		f.at, f.since = at, time.Now()
		return nil
	}
	if time.Since(f.since) < 2*n.o.CosignEvery {
		return nil
	}
	f.since = time.Now()
	r := n.up.Load()
	if r == nil {
		return nil
	}
	live := r.links.live.Load()
	if live == nil {
		return nil
	}
	for _, p := range live.Peers() {
		if p.Hub && p.Connected {
			n.log.Info().Str("peer", p.Device.Short()).Msg("the regional view does not become younger with this hub, another one is asked")
			live.Another(p.Device)
		}
	}
	return nil
}
