package web

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits on what one browser may take from the others.
const (
	turnsEach    = 8               // requests at work for one session, or for one address without a session
	waitingEach  = 64              // and those that wait behind them
	turnWait     = 5 * time.Second // for this long
	streamsEach  = 8               // open /events answers of one staff member
	streamsMax   = 128             // and of all
	triesEach    = 10              // wrong PINs from one address
	triesWithin  = 10 * time.Minute
	addressesMax = 1000 // told apart; more share one count
)

// addressOf is where a request comes from, as far as it can be told apart: of IPv6 the network,
// because a device has as many addresses there as it likes.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap(); a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// turns gives each caller a bounded number of requests at work; more wait a little. So who asks
// for much waits for it, and not the others.
type turns struct {
	mu sync.Mutex
	of map[string]*turn // guarded by mu
}

type turn struct {
	work  chan struct{} // one slot for each request at work
	users int           // at work or waiting; guarded by turns.mu
}

func newTurns() *turns { return &turns{of: make(map[string]*turn)} }

// take waits for a turn; leave gives it back. Not ok: it did not come.
func (t *turns) take(ctx context.Context, caller string) (leave func(), ok bool) {
	t.mu.Lock()
	mine := t.of[caller]
	if mine == nil {
		mine = &turn{work: make(chan struct{}, turnsEach)}
		t.of[caller] = mine
	}
	if mine.users >= turnsEach+waitingEach {
		t.mu.Unlock()
		return nil, false
	}
	mine.users++
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	select {
	case mine.work <- struct{}{}:
		return func() { <-mine.work; t.gone(caller, mine) }, true
	case <-ctx.Done():
		t.gone(caller, mine)
		return nil, false
	}
}

func (t *turns) gone(caller string, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.of, caller)
	}
}

// streamRoom has a bounded number of places for streams of events. A staff member's newest page
// takes the place of the oldest one: that may be of a phone that went away without a word.
type streamRoom struct {
	mu    sync.Mutex
	of    map[string][]chan struct{} // by owner, oldest first; guarded by mu
	total int                        // guarded by mu
}

func newStreamRoom() *streamRoom { return &streamRoom{of: make(map[string][]chan struct{})} }

// join takes a place. ended is closed when it is given to another page.
func (s *streamRoom) join(owner string) (ended <-chan struct{}, leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.of[owner]) >= streamsEach {
		s.endOldestLocked(owner)
	}
	if s.total >= streamsMax {
		greedy := s.greedyLocked()
		if len(s.of[greedy]) <= len(s.of[owner])+1 {
			return nil, nil, false
		}
		s.endOldestLocked(greedy)
	}
	mine := make(chan struct{})
	s.of[owner] = append(s.of[owner], mine)
	s.total++
	return mine, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.of[owner], mine); i >= 0 {
			s.removeLocked(owner, i)
		}
	}, true
}

// end ends all streams of an owner; those that may go on come back by themselves.
func (s *streamRoom) end(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.of[owner]) > 0 {
		s.endOldestLocked(owner)
	}
}

func (s *streamRoom) endOldestLocked(owner string) {
	close(s.of[owner][0])
	s.removeLocked(owner, 0)
}

func (s *streamRoom) removeLocked(owner string, i int) {
	s.total--
	if s.of[owner] = slices.Delete(s.of[owner], i, i+1); len(s.of[owner]) == 0 {
		delete(s.of, owner)
	}
}

func (s *streamRoom) greedyLocked() (greedy string) {
	most := 0
	for owner, open := range s.of {
		if len(open) > most {
			greedy, most = owner, len(open)
		}
	}
	return greedy
}

// tries counts wrong PINs by address, so that one browser cannot lock the accounts of all. The
// tries of an account are the box's to count, across restarts; these are forgotten with the process.
type tries struct {
	mu sync.Mutex
	of map[string]*tryCount // guarded by mu
}

type tryCount struct {
	n     int
	since time.Time
}

func newTries() *tries { return &tries{of: make(map[string]*tryCount)} }

// begin counts a try; how long to wait when there were too many, and then it is none.
func (t *tries) begin(address string, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.countLocked(address, now)
	if c.n >= triesEach {
		return c.since.Add(triesWithin).Sub(now)
	}
	c.n++
	return 0
}

// takeBack takes a try back that was not wrong.
func (t *tries) takeBack(address string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.of[address]
	if c == nil {
		c = t.of[""]
	}
	if c != nil && c.n > 0 {
		c.n--
	}
}

func (t *tries) countLocked(address string, now time.Time) *tryCount {
	over := func(c *tryCount) bool { d := now.Sub(c.since); return d < 0 || d >= triesWithin || c.n == 0 }
	if len(t.of) >= addressesMax && t.of[address] == nil {
		for a, c := range t.of {
			if over(c) {
				delete(t.of, a)
			}
		}
		if len(t.of) >= addressesMax {
			address = ""
		}
	}
	c := t.of[address]
	if c == nil {
		c = &tryCount{}
		t.of[address] = c
	}
	if over(c) {
		*c = tryCount{since: now}
	}
	return c
}
