package peersync

import (
	"context"
	"slices"
	"time"

	"github.com/healthpost/healthpost/record"
)

// Another hub is looked for when one makes no progress for this box: its own
// records stay pending while the session stands, the hub's ledger stays behind this
// one or contradicts it, or the caller has found out otherwise. The doubted hub
// keeps its session until another one works; then it is let go, and for an hour it
// is dialled after all others. Whether a hub is behind shows by a look at another
// one now and then.

const (
	doubtTime         = time.Hour
	noProgressDefault = 30 * time.Second
	lookAroundDefault = 6 * time.Hour
	lookAroundFirst   = 20 * time.Second
	glanceMin         = 3 * time.Second // that a look at another hub lasts
	looksMax          = 3               // attempts at it
	doubtfulMin       = 2 * goodSession // a doubted hub's session stays so long at least
)

// Another makes this box find another hub than peer, at once.
func (l *Links) Another(peer record.DeviceID) {
	l.mu.Lock()
	if c := l.contacts[peer]; c != nil {
		l.doubtLocked(c)
	}
	for d, c := range l.contacts {
		if d != peer && l.isHub(d) && c.live == nil && !c.barred {
			c.notBefore, c.failures = time.Time{}, 0
		}
	}
	l.mu.Unlock()
	l.look()
}

func (l *Links) doubtLocked(c *contact) {
	if !c.doubted() {
		l.o.Log.Warn().Stringer("peer", c.status.Device).Msg("no progress with this hub, another one is tried")
	}
	c.doubtedAt = time.Now()
}

func (c *contact) doubted() bool { return !c.doubtedAt.IsZero() && time.Since(c.doubtedAt) < doubtTime }

// progress is whether anything that this box wrote was ordered of late. Its
// owner is the goroutine that watches.
type progress struct {
	at      time.Time // of the last progress
	ordered map[record.Feed]uint64
	size    uint64
}

// watchProgress looks now and then whether hubs order what this box wrote.
func (l *Links) watchProgress(ctx context.Context) {
	every := max(l.o.NoProgress/6, 10*time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	p := &progress{at: time.Now(), ordered: map[record.Feed]uint64{}}
	around := time.NewTimer(min(l.o.LookAround, lookAroundFirst))
	defer around.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-around.C:
			around.Reset(l.o.LookAround)
			l.lookAround()
		case now := <-tick.C:
			if want := l.o.Session.WantOrdered; want == nil || !want() {
				p.at = now // nothing can be seen here
				continue
			}
			if err := l.lookForProgress(p, now); err != nil {
				l.o.Log.Debug().Err(err).Msg("progress is not known")
			}
		}
	}
}

func (l *Links) lookForProgress(p *progress, now time.Time) error {
	feeds, err := l.r.PendingFeeds()
	if err != nil {
		return err
	}
	waits, moved := false, false
	ordered := make(map[record.Feed]uint64, len(p.ordered))
	for _, f := range feeds {
		if f.Author != l.o.Session.Device || f.HeldN <= f.OrderedN && !f.Opening {
			continue
		}
		waits = true
		ordered[f.Feed] = f.OrderedN
		if before, ok := p.ordered[f.Feed]; !ok && len(p.ordered) == 0 || f.OrderedN > before {
			moved = true
		}
	}
	for f := range p.ordered {
		if _, ok := ordered[f]; !ok {
			moved = true // all of it is ordered
		}
	}
	size := l.r.Head().Size
	grows := size > p.size && l.fetching(size)
	p.ordered, p.size = ordered, size
	if !waits || moved || grows {
		p.at = now
	}
	l.judgeHubs(now, p.at, size)
	return nil
}

// fetching reports whether the ledger is still on its way to what hubs announced.
func (l *Links) fetching(size uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.contacts {
		if c.live != nil && c.live.now.Target > size {
			return true
		}
	}
	return false
}

// judgeHubs doubts the hubs whose sessions stood all the time without progress or
// that know less than this box, and once there is progress again lets go of those
// that are not needed.
func (l *Links) judgeHubs(now, progressAt time.Time, size uint64) {
	stuck := now.Sub(progressAt) >= l.o.NoProgress
	l.mu.Lock()
	good, looks := 0, false
	var spare []*live
	for d, c := range l.contacts {
		v := c.live
		if v == nil || !c.status.Connected || !l.isHub(d) {
			continue
		}
		if v.now.Size >= size {
			c.levelAt = now
		}
		switch stood := now.Sub(c.status.Since); {
		case v.now.Forked || stood >= l.o.NoProgress && (stuck || now.Sub(c.levelAt) >= l.o.NoProgress):
			looks = looks || !c.doubted()
			l.doubtLocked(c)
		case c.glance && v.now.Settled && stood >= glanceMin, c.doubted() && v.dialled && stood > doubtfulMin:
			spare = append(spare, v)
		case !c.doubted() && !c.glance:
			good++
		}
	}
	enough := l.o.HubsWanted > 0 && good >= l.o.HubsWanted && !stuck
	l.mu.Unlock()
	if enough {
		for _, v := range spare {
			v.cancel()
		}
	}
	if looks {
		l.look()
	}
}

// lookAround has one hub more met for a moment: one of three that can be reached.
func (l *Links) lookAround() {
	l.mu.Lock()
	if l.o.HubsWanted > 0 {
		l.looks = looksMax
	}
	l.mu.Unlock()
	l.look()
}

// glanceLocked picks the hub that was not met for longest and may be dialled.
func (l *Links) glanceLocked(hubs []Address, list *[]target) {
	if l.looks == 0 || slices.ContainsFunc(hubs, func(h Address) bool { c := l.contacts[h.Device]; return c != nil && c.glance }) {
		return
	}
	met := func(h Address) time.Time {
		if c := l.contacts[h.Device]; c != nil {
			return c.status.LastContact
		}
		return time.Time{}
	}
	others := slices.SortedStableFunc(slices.Values(hubs), func(a, b Address) int { return met(a).Compare(met(b)) })
	for _, h := range others {
		if c := l.contacts[h.Device]; c != nil && c.doubted() {
			continue
		}
		if l.dueLocked(h, false, list) {
			l.contacts[h.Device].glance = true
			l.looks--
			return
		}
	}
}

// promoteLocked keeps hubs that were met for a moment, where hubs are wanted.
func (l *Links) promoteLocked(wanted int) (n int) {
	for _, c := range l.contacts {
		if n < wanted && c.glance && c.live != nil && !c.doubted() {
			c.glance = false
			c.live.nudge()
			n++
		}
	}
	return n
}

// glances reports whether a hub is met for a moment only.
func (l *Links) glances(d record.DeviceID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.contacts[d]
	return c != nil && c.glance
}

// trustedFirst puts the doubted hubs behind the others.
func (l *Links) trustedFirstLocked(hubs []Address) []Address {
	out := make([]Address, 0, len(hubs))
	for _, doubted := range []bool{false, true} {
		for _, h := range hubs {
			if c := l.contacts[h.Device]; (c != nil && c.doubted()) == doubted {
				out = append(out, h)
			}
		}
	}
	return out
}
