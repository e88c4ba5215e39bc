package peersync

import (
	"bytes"
	"slices"
	"sync"
)

// Turn lets one session at a time fetch the ordered range, so that two hubs do
// not send the same entries over a metered link. A box has one Turn.
type Turn struct {
	mu     sync.Mutex
	holder *Session
	idle   bool // holder has all that its peer announced
	moves  uint64
	freed  func()
	claims []claim
}

// claim is a hole that a session asked its peer to fill.
type claim struct {
	by *Session
	ask
}

const claimsMax = 1024

// NewTurn makes a free turn. freed, which may be nil, is called without locks
// held when the turn becomes free; it must not block.
func NewTurn(freed func()) *Turn { return &Turn{freed: freed} }

// take gives the turn to s when nobody has it, or, with steal, when its holder
// has nothing to fetch from its own peer.
func (t *Turn) take(s *Session, steal bool) bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holder != nil && t.holder != s && !(steal && t.idle) {
		return false
	}
	t.holder, t.idle = s, false
	return true
}

// seize takes the turn from a holder that does not move.
func (t *Turn) seize(s *Session) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holder, t.idle = s, false
	return true
}

// step counts a piece that the holder fetched.
func (t *Turn) step() {
	if t != nil {
		t.mu.Lock()
		t.moves++
		t.mu.Unlock()
	}
}

func (t *Turn) moved() uint64 {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.moves
}

func (t *Turn) rest(s *Session) { t.change(s, s) }

func (t *Turn) drop(s *Session) { t.change(s, nil) }

func (t *Turn) change(s, next *Session) {
	if t == nil {
		return
	}
	t.mu.Lock()
	was := t.holder == s && (next == nil || !t.idle)
	if t.holder == s {
		t.holder, t.idle = next, true
	}
	t.mu.Unlock()
	if was && t.freed != nil {
		t.freed()
	}
}

// claim says that s asks for what fills a hole, unless another session did.
func (t *Turn) claim(s *Session, m *ask) bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.claims {
		if c := &t.claims[i]; c.Kind == m.Kind && c.From < m.To && m.From < c.To && bytes.Equal(c.Of, m.Of) {
			return false
		}
	}
	if len(t.claims) >= claimsMax {
		return false
	}
	t.claims = append(t.claims, claim{s, *m})
	return true
}

// unclaim gives back one claim of s, or with nil all.
func (t *Turn) unclaim(s *Session, m *ask) {
	if t == nil {
		return
	}
	t.mu.Lock()
	n := len(t.claims)
	t.claims = slices.DeleteFunc(t.claims, func(c claim) bool {
		return c.by == s && (m == nil || c.Kind == m.Kind && c.From == m.From && bytes.Equal(c.Of, m.Of))
	})
	was := m == nil && len(t.claims) < n
	t.mu.Unlock()
	if was && t.freed != nil {
		t.freed()
	}
}
