package node

import (
	"sync"
	"time"
)

// InitialStatus is how far a box that joined, or is to hold everything again, has
// come with the entries that it does not hold yet. It works meanwhile.
type InitialStatus struct {
	Left      uint64        `json:"left"`              // entries
	Size      uint64        `json:"size"`              // of the ledger
	PerSecond float64       `json:"perSecond"`         // entries, of the last minutes; 0 when nothing moves
	Remaining time.Duration `json:"remaining"`         // by that pace, in nanoseconds; 0 when it is not known
	Profile   bool          `json:"profile,omitempty"` // this box holds a part: what is left stays away
}

// headway follows how many entries are left.
type headway struct {
	mu    sync.Mutex
	marks []headwayMark // oldest first
}

type headwayMark struct {
	at   time.Time
	left uint64
}

const (
	paceWindow = 3 * time.Minute
	paceStep   = time.Second // between two marks
)

// note takes how many are left now and gives how many go in a second.
func (p *headway) note(now time.Time, left uint64) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.marks)
	if n > 0 && (left > p.marks[n-1].left || now.Before(p.marks[n-1].at)) { // more is to be fetched, or the clock went back
		p.marks, n = nil, 0
	}
	if n == 0 || now.Sub(p.marks[n-1].at) >= paceStep {
		p.marks = append(p.marks, headwayMark{now, left})
	}
	for len(p.marks) > 1 && now.Sub(p.marks[0].at) > paceWindow {
		p.marks = p.marks[1:]
	}
	first := p.marks[0]
	took := now.Sub(first.at).Seconds()
	if took < 1 || first.left <= left {
		return 0
	}
	return float64(first.left-left) / took
}

// Initial says how many entries are to come; ok is false when none are.
func (n *Node) Initial() (s InitialStatus, ok bool) {
	s.Left, s.Size = n.store.Absent(), n.store.Head().Size
	if s.Left == 0 {
		return s, false
	}
	if s.Profile = n.selfPartial(); s.Profile {
		return s, true
	}
	s.PerSecond = n.headway.note(n.o.Now(), s.Left)
	if s.PerSecond > 0 {
		s.Remaining = time.Duration(float64(s.Left) / s.PerSecond * float64(time.Second)).Round(time.Second)
	}
	return s, true
}
