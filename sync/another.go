package peersync

import (
	"context"
	"time"

	"github.com/healthpost/healthpost/record"
)

// Another hub is looked for when one makes no progress for this box: its own
// records stay pending while the session stands, the two ledgers contradict each
// other, or the caller has found out otherwise. The doubted hub keeps its session
// until another one works; then it is let go, and for an hour it is dialled after
// all others.

const (
	doubtTime         = time.Hour
	noProgressDefault = 30 * time.Second
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
	for {
		select {
		case <-ctx.Done():
			return
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
	l.judgeHubs(now, p.at)
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

// judgeHubs doubts the hubs whose sessions stood all the time without progress,
// and once there is progress again lets go of doubted ones that are not needed.
func (l *Links) judgeHubs(now, progressAt time.Time) {
	stuck := now.Sub(progressAt) >= l.o.NoProgress
	l.mu.Lock()
	good, looks := 0, false
	var spare []*live
	for d, c := range l.contacts {
		v := c.live
		if v == nil || !c.status.Connected || !l.isHub(d) {
			continue
		}
		switch stood := now.Sub(c.status.Since); {
		case v.now.Forked || stuck && stood >= l.o.NoProgress:
			looks = looks || !c.doubted()
			l.doubtLocked(c)
		case !c.doubted():
			good++
		case v.dialled && stood > doubtfulMin:
			spare = append(spare, v)
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
