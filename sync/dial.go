package peersync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/healthpost/healthpost/record"
)

var errRefused = errors.New("another session with this peer goes on")

// target is a peer to dial now.
type target struct {
	device    record.DeviceID
	addresses []ma.Multiaddr
	lan       bool
}

// dialDue starts an attempt for every peer that should have a session and has
// waited long enough. It gives the time until it should look again.
func (l *Links) dialDue() time.Duration {
	l.partFromStrangers()
	list, wait := l.due()
	for _, t := range list {
		ctx, done := l.begin()
		if done == nil {
			return wait
		}
		go func() {
			defer done()
			if err := l.dial(ctx, t); err != nil {
				l.dialled(t.device, err)
			}
		}()
	}
	return wait
}

// partFromStrangers ends the sessions of devices whose membership ended. A hub that
// was taken out keeps its own for a moment: it may have agreed, and waits to hear.
func (l *Links) partFromStrangers() {
	l.mu.Lock()
	var gone []record.DeviceID
	for d, c := range l.contacts {
		if c.live == nil || l.o.Allow(d) {
			c.strange = time.Time{}
			continue
		}
		if c.strange.IsZero() {
			c.strange = time.Now()
		}
		if c.status.Role == string(record.RoleHub) && time.Since(c.strange) < lookInterval {
			continue
		}
		c.live.cancel()
		gone = append(gone, d)
	}
	l.mu.Unlock()
	for _, d := range gone {
		if id, err := PeerID(d); err == nil {
			_ = l.host.h.Network().ClosePeer(id)
		}
	}
}

// due picks the peers to dial and marks them.
func (l *Links) due() ([]target, time.Duration) {
	hubs, neighbours := l.o.Hubs(), l.o.Neighbours()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off || l.closed || l.ctx == nil || l.ctx.Err() != nil {
		return nil, lookInterval
	}
	var list []target
	if !l.mayCallLocked(time.Now()) {
		hubs = nil
	}
	wanted := l.o.HubsWanted
	if wanted == 0 {
		wanted = len(hubs)
	}
	for _, h := range hubs {
		if c := l.contacts[h.Device]; c != nil && (c.live != nil || c.dialling) && !c.doubted() && !c.glance {
			wanted--
		}
	}
	wanted -= l.promoteLocked(wanted)
	for _, h := range l.trustedFirstLocked(hubs) {
		if wanted > 0 && l.dueLocked(h, false, &list) {
			wanted--
		}
	}
	if wanted <= 0 && len(list) == 0 {
		l.glanceLocked(hubs, &list)
	}
	for _, n := range neighbours {
		if l.hasWayLocked(n) {
			l.dueLocked(n, true, &list)
		}
	}
	for d, c := range l.contacts {
		if len(c.neighbour) > 0 && time.Since(c.heard) < neighbourTTL && l.readyLocked(d, c, true) {
			c.dialling = true
			list = append(list, target{d, c.neighbour, true})
		}
	}
	return list, l.waitLocked()
}

// waitLocked is the time until the first peer may be dialled again.
func (l *Links) waitLocked() time.Duration {
	wait := lookInterval
	for _, c := range l.contacts {
		if d := time.Until(c.notBefore); d > 0 && c.live == nil && !c.dialling {
			wait = min(wait, d)
		}
	}
	return wait
}

func (l *Links) dueLocked(a Address, lan bool, list *[]target) bool {
	if a.Device == l.host.device || !l.o.Allow(a.Device) {
		return false
	}
	c := l.contactLocked(a.Device)
	if c == nil {
		return false
	}
	c.configured = true
	if !l.readyLocked(a.Device, c, lan) {
		return false
	}
	addresses, err := dialable(a.Device, a.Addresses)
	if err != nil {
		c.status.LastError = err.Error()
		l.failLocked(c, err)
		return false
	}
	c.dialling = true
	*list = append(*list, target{a.Device, addresses, lan})
	return true
}

// readyLocked reports whether a peer may be dialled now. Between two boxes that
// can dial each other the one with the smaller id goes first.
func (l *Links) readyLocked(d record.DeviceID, c *contact, lan bool) bool {
	if c.live != nil || c.dialling || time.Now().Before(c.notBefore) {
		return false
	}
	mutual := lan || l.betweenHubs(d)
	if mutual && !c.deferred && bytes.Compare(l.host.device[:], d[:]) > 0 {
		c.deferred, c.notBefore = true, time.Now().Add(retryMin+rand.N(retryMin))
		return false
	}
	return true
}

func (l *Links) dial(ctx context.Context, t target) error {
	limit := dialTimeout
	if l.betweenHubs(t.device) {
		limit = hubDialTimeout
	}
	ctx2, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	id, err := l.host.connect(ctx2, t.device, t.addresses, t.lan, l.circuits)
	if err != nil {
		return err
	}
	s, err := l.host.stream(ctx2, id, SyncProtocol)
	if err != nil {
		return err
	}
	if err = l.session(t.device, s, true); err != nil {
		_ = s.Reset()
	}
	return err
}

// dialled notes how an attempt ended that did not come to a session.
func (l *Links) dialled(d record.DeviceID, err error) {
	l.mu.Lock()
	if c := l.contacts[d]; c != nil {
		c.dialling, c.glance = false, false
		if !errors.Is(err, errRefused) {
			c.status.LastError = err.Error()
			l.failLocked(c, err)
		}
	}
	l.ringLocked()
	l.mu.Unlock()
	l.look()
}

// betweenHubs reports whether this box and the other are hubs: while they do not hear
// each other nothing may be ordered, so they try often, and give up a try early, for the
// pauses between TCP's own tries grow.
func (l *Links) betweenHubs(d record.DeviceID) bool { return l.isHub(l.host.device) && l.isHub(d) }

// failLocked sets when the peer may be dialled again.
func (l *Links) failLocked(c *contact, err error) {
	c.failures++
	least, most := retryMin, retryMax
	if c.barred = errors.Is(err, ErrMisbehaved); c.barred {
		least, most = barMin, barMax
	}
	if !c.barred && l.betweenHubs(c.status.Device) {
		most = hubRetryMax
	}
	wait := min(least<<min(c.failures-1, 10), most)
	c.notBefore = time.Now().Add(wait/2 + rand.N(wait))
}

// session runs one session with a peer; errRefused when another goes on.
func (l *Links) session(d record.DeviceID, s *stream, dialled bool) error {
	run, done := l.begin()
	if done == nil {
		return errRefused
	}
	defer done()
	ctx, cancel := context.WithCancel(run)
	defer cancel()
	v := &live{cancel: cancel, wake: make(chan struct{}, 1), dialled: dialled, began: time.Now(), paid: l.host.pays(s.Conn()), relayed: relayed(s.Conn().RemoteMultiaddr())}
	if !l.enter(d, v, s.Conn()) {
		return errRefused
	}
	o := l.o.Session
	o.Answers = !dialled
	o.Resumed, o.Pace = l.wasCut(d)
	if v.paid {
		o = l.paidOptions(o)
	}
	if (!dialled || !l.isHub(d)) && !v.relayed {
		o.Window = WindowLAN // the other side, when it is on a slow link, asks for less
	}
	if push := o.PushPending; dialled && l.glances(d) {
		o.PushPending = func(peer record.DeviceID) bool { return !l.glances(peer) && (push == nil || push(peer)) }
	}
	err := Run(ctx, s, NewSession(l.r, d, o), RunOptions{Wake: v.wake, Progress: func(p Progress) { l.progress(d, v, p) }})
	l.leave(d, v, err)
	if l.hungUp(v) {
		_ = s.Conn().Close() // an idle connection costs something too; one that is gone already costs nothing
	}
	return nil
}

// enter makes v the session of the peer, ending the one before, unless that one
// is to be kept.
func (l *Links) enter(d record.DeviceID, v *live, conn network.Conn) bool {
	l.mu.Lock()
	c := l.contactLocked(d)
	if c == nil || l.off || c.barred && time.Now().Before(c.notBefore) || c.live != nil && l.keepLocked(d, c.live, v) {
		l.mu.Unlock()
		return false
	}
	if v.dialled {
		c.dialling = false
	}
	old := c.live
	c.live = v
	c.status.Connected, c.status.Address = false, conn.RemoteMultiaddr().String()
	l.mu.Unlock()
	if old != nil {
		old.cancel()
	}
	return true
}

// keepLocked decides between two sessions with one peer. When both sides dialled
// at the same time, both keep what the smaller id dialled; otherwise the newer
// one shows that the older is dead.
func (l *Links) keepLocked(d record.DeviceID, old, next *live) bool {
	if old.dialled == next.dialled || next.began.Sub(old.began) > sameTime {
		return false
	}
	smaller := bytes.Compare(l.host.device[:], d[:]) < 0
	return old.dialled == smaller
}

func (l *Links) progress(d record.DeviceID, v *live, p Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.contacts[d]
	if c == nil || c.live != v {
		return
	}
	changed := v.now.Settled != p.Settled || v.looked != p.Looked
	if !p.Settled {
		v.quietAt = time.Time{}
	} else if v.quietAt.IsZero() {
		v.quietAt = time.Now()
		defer l.look() // whether the call is over
	}
	if p.BytesIn != v.now.BytesIn {
		c.status.LastContact = time.Now()
	}
	if !c.status.Connected && p.Greeted {
		c.status.Connected, c.status.Since, c.status.Role, c.status.LastError, c.lastErr, changed = true, time.Now(), p.Role, "", nil, true
		l.o.Log.Info().Stringer("peer", d).Str("role", p.Role).Msg("session began")
	}
	v.now, v.looked = p, p.Looked
	if changed {
		l.ringLocked()
	}
}

// leave notes how a session ended.
func (l *Links) leave(d record.DeviceID, v *live, err error) {
	l.mu.Lock()
	c := l.contacts[d]
	n := v.now
	c.totals.BytesIn, c.totals.BytesOut = c.totals.BytesIn+n.BytesIn, c.totals.BytesOut+n.BytesOut
	c.totals.Sent, c.totals.Received = c.totals.Sent+n.Sent, c.totals.Received+n.Received
	if c.live == v {
		if c.glance && n.BytesIn > 0 {
			l.looks = 0
		}
		c.live, c.deferred, c.glance, c.status.Connected, c.status.Settled = nil, false, false, false, false
		c.status.Size, c.status.Target = n.Size, n.Target
		if c.cut = !n.Settled; n.Pace != (Pace{}) {
			c.pace = n.Pace
		}
		if (time.Since(v.began) > goodSession || n.Sent+n.Received > 0) && !errors.Is(err, ErrMisbehaved) {
			c.failures = 0 // a link that never lasts long is used as it comes
		}
		if v.relayed && l.host.direct(d) {
			c.deferred, c.notBefore = v.dialled, time.Time{} // to go on without the relay
		} else if err != nil && !errors.Is(err, ErrStopped) {
			c.status.LastError, c.lastErr = err.Error(), err
			l.failLocked(c, err)
		}
	}
	l.ringLocked()
	l.mu.Unlock()
	l.o.Log.Info().Stringer("peer", d).AnErr("reason", err).Uint64("sent", n.Sent).Uint64("received", n.Received).
		Uint64("bytes_in", n.BytesIn).Uint64("bytes_out", n.BytesOut).Msg("session ended")
	l.look()
}

// Fetch pulls the ordered range up to exactly this head, which the caller
// trusts, from whichever hub has it. The ledger keeps what arrived when it fails.
func (l *Links) Fetch(ctx context.Context, head record.TreeHead) error {
	errs := []error{ErrNoPeer}
	for _, h := range l.o.Hubs() {
		if h.Device == l.host.device || !l.o.Allow(h.Device) {
			continue
		}
		if l.r.Head().Size >= head.Size {
			break
		}
		if err := l.fetchFrom(ctx, h, head); err != nil {
			errs = append(errs, fmt.Errorf("from %s: %w", h.Device.Short(), err))
		}
		if ctx.Err() != nil {
			return fmt.Errorf("fetching entries: %w", ctx.Err())
		}
	}
	if l.r.Head().Size < head.Size {
		return fmt.Errorf("fetching entries up to size %d: %w", head.Size, errors.Join(errs...))
	}
	root, err := l.r.RootAt(head.Size)
	if err != nil {
		return local("fetching entries", err)
	}
	if root != head.Root {
		return fmt.Errorf("fetching entries: size %d has another root here: %w", head.Size, ErrLocal)
	}
	return nil
}

func (l *Links) fetchFrom(ctx context.Context, h Address, head record.TreeHead) error {
	addresses, err := dialable(h.Device, h.Addresses)
	if err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	id, err := l.host.connect(dial, h.Device, addresses, false, l.circuits)
	if err != nil {
		return err
	}
	s, err := l.host.stream(dial, id, FetchProtocol)
	if err != nil {
		return err
	}
	return Run(ctx, s, newFetch(l.r, h.Device, head, l.o.Session), RunOptions{})
}
