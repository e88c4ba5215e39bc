package peersync

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
)

// Schedule says when a box that pays for its link calls a hub: at times of the
// day, or else every so often. The zero schedule keeps the connection.
type Schedule struct {
	At    []time.Duration // after midnight of the box's clock
	Every time.Duration
}

func (s Schedule) none() bool { return len(s.At) == 0 && s.Every == 0 }

// next is when to call after now, without the random part.
func (s Schedule) next(now time.Time) time.Time {
	if len(s.At) == 0 {
		return now.Add(s.Every)
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	for _, at := range slices.Sorted(slices.Values(s.At)) {
		if t := midnight.Add(at); t.After(now) {
			return now.Add(t.Sub(now)) // by the monotonic clock from here on
		}
	}
	first := slices.Min(s.At)
	return now.Add(midnight.AddDate(0, 0, 1).Add(first).Sub(now))
}

// jitter keeps clinics with one schedule from calling in the same second.
func (s Schedule) jitter() time.Duration {
	most := callJitterMax
	if s.Every != 0 {
		most = min(most, s.Every/10)
	}
	return rand.N(max(most, time.Millisecond))
}

const (
	callJitterMax = 5 * time.Minute
	callMax       = 15 * time.Minute // that no hub answers before the call is given up
	lingerQuiet   = time.Second      // nothing is left to exchange and nothing is waited for
	lingerOrder   = 10 * time.Second // what was handed over may come back ordered
)

// calls is how a box with a schedule stands. Guarded by Links.mu.
type calls struct {
	schedule Schedule
	on       bool      // a call goes on
	began    time.Time // of it
	next     time.Time // of the next one
	urgent   bool      // something urgent is at no hub yet
}

func (c *calls) active() bool { return !c.schedule.none() }

// begin starts a call.
func (c *calls) begin(now time.Time) {
	if c.active() && !c.on {
		c.on, c.began = true, now
	}
}

func (c *calls) end(now time.Time) {
	c.on, c.urgent = false, false // what no hub takes waits for the next change or call
	c.next = c.schedule.next(now).Add(c.schedule.jitter())
}

// mayCallLocked reports whether hubs are dialled now.
func (l *Links) mayCallLocked(now time.Time) bool {
	c := &l.calls
	if !c.active() {
		return true
	}
	if c.urgent || !now.Before(c.next) {
		c.begin(now)
	}
	return c.on
}

// hangUp ends a call that has nothing left to do, or that nobody answers. It gives
// the time until it should look again.
func (l *Links) hangUp(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.calls
	if !c.active() {
		return lookInterval
	}
	if !c.on {
		return max(time.Until(c.next), 0)
	}
	linger := lingerQuiet
	if l.waiting {
		linger = lingerOrder
	}
	var done []*contact
	wait := lookInterval
	for _, x := range l.contacts {
		if x.live == nil || !x.live.paid {
			continue
		}
		if left := linger - now.Sub(x.live.quietAt); x.live.quietAt.IsZero() || left > 0 {
			if !x.live.quietAt.IsZero() {
				wait = min(wait, left)
			}
			return wait
		}
		done = append(done, x)
	}
	if len(done) == 0 && (c.urgent || now.Sub(c.began) < callMax) {
		return lookInterval
	}
	for _, x := range done {
		x.live.hangUp = true
		x.live.cancel()
	}
	c.end(now)
	return lookInterval
}

// watchUrgent looks after every change whether something urgent that this box
// wrote is at no hub yet, and whether anything waits to be ordered.
func (l *Links) watchUrgent(ctx context.Context) {
	changed := l.r.Subscribe(ctx)
	for {
		urgent, waiting, err := l.pendingOwn()
		if err != nil {
			l.o.Log.Debug().Err(err).Msg("what is urgent is not known")
		} else {
			l.mu.Lock()
			changes := urgent && !l.calls.urgent || waiting != l.waiting
			l.calls.urgent, l.waiting = urgent, waiting
			l.mu.Unlock()
			if changes {
				l.look()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		select { // a busy box changes more often than there is anything to see
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

// pendingOwn reports whether something urgent of this box is at no hub yet, and
// whether anything of it waits to be ordered.
func (l *Links) pendingOwn() (urgent, waiting bool, err error) {
	feeds, err := l.r.PendingFeeds()
	if err != nil {
		return false, false, err
	}
	var acked map[record.Feed]uint64
	for _, f := range feeds {
		if f.Author != l.o.Session.Device || f.HeldN <= f.OrderedN {
			continue
		}
		waiting = true
		if f.Lane != record.LaneControl {
			continue
		}
		if acked == nil {
			if acked, err = l.ackedByHubs(); err != nil {
				return false, false, err
			}
		}
		recs, err := l.r.Pending(f.Feed, max(f.OrderedN, acked[f.Feed])+1, controlBytesMax)
		if err != nil {
			return false, false, err
		}
		urgent = urgent || slices.ContainsFunc(recs, func(r record.Record) bool {
			return r.Core.Kind == record.KindClinical || r.Core.Kind == record.KindMemberRevoke
		})
	}
	return urgent, waiting, nil
}

func (l *Links) ackedByHubs() (map[record.Feed]uint64, error) {
	out := map[record.Feed]uint64{}
	for _, h := range l.o.Hubs() {
		heads, err := l.r.Acked(h.Device)
		if err != nil {
			return nil, err
		}
		for _, x := range heads {
			out[x.Feed] = max(out[x.Feed], x.N)
		}
	}
	return out, nil
}

func (l *Links) hungUp(v *live) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return v.hangUp
}
