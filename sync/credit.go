package peersync

import (
	"math"
	"time"
)

// credit is the window of bulk bytes. Between WindowSlow and the smaller of both
// ends' windows it follows the link: it grows while answers come about as fast
// as the fastest one did, up to twice what the link carries in that time, and
// shrinks when bytes queue for longer than queueDelayMax, so that an urgent record
// never waits long behind bulk.
type credit struct {
	window uint64 // for what is sent
	most   uint64
	sent   uint64
	acked  uint64

	received   uint64
	receivedIn uint64 // of received, what the last ACK told

	careful bool // the session before was cut: frames begin small, and less is under way

	now      func() time.Time // nil: the window stays
	marks    []mark           // bulk frames under way, oldest first
	least    time.Duration    // fastest answer
	shrunkAt uint64           // bytes sent when the window shrank last
	limited  bool             // more could have been sent
	pace     pace
}

type mark struct {
	sent uint64
	at   time.Time
}

// Pace is what a session found out about a slow link.
type Pace struct {
	Rate   uint64        // bytes a second that it carries; 0 when that is not known
	Answer time.Duration // how soon the fastest answer came
}

const (
	queueDelayMax = 2 * time.Second
	windowStart   = WindowSlow
	marksMax      = 256
	// slowAnswer is the fastest answer from which on a link counts as slow.
	slowAnswer     = 100 * time.Millisecond
	frameBytesMin  = 1 << 10
	frameBytesSlow = 16 << 10
	windowLeast    = 4 << 10
	windowCareful  = 2 << 10
	// carefulBytes is after how many acknowledged bytes a link that was cut counts
	// as any other.
	carefulBytes = 64 << 10
)

// resume has the session go on after one that was cut, on a link of which that much
// is known.
func (c *credit) resume(p Pace) {
	c.careful = true
	if p.Rate != 0 && p.Answer >= slowAnswer {
		c.least, c.pace.steady, c.pace.spans[0], c.pace.next = p.Answer, true, p.Rate, 1
	}
}

// found is what the next session on this link may begin with.
func (c *credit) found() Pace {
	if !c.slow() || !c.pace.steady {
		return Pace{}
	}
	return Pace{c.pace.rate(), c.least}
}

// open sets the window once both ends are known.
func (c *credit) open(own, theirs uint64) {
	c.most = min(own, theirs)
	c.window = c.most
	switch {
	case c.now == nil:
	case c.careful:
		c.window = min(windowLeast, c.goal())
	default:
		c.window = min(windowStart, c.most)
	}
}

func (c *credit) room() bool {
	if c.sent-c.acked < c.window {
		return true
	}
	c.limited = true
	return false
}

func (c *credit) send(n int) {
	if n == 0 {
		return
	}
	if c.now != nil {
		now := c.now()
		if c.sent == c.acked {
			c.pace.begin(now, c.acked)
		}
		if len(c.marks) < marksMax {
			c.marks = append(c.marks, mark{c.sent + uint64(n), now})
		}
	}
	c.sent += uint64(n)
}

// take moves the window by an answer up to acked.
func (c *credit) take(acked uint64) {
	gained := acked - c.acked
	c.acked = acked
	c.careful = c.careful && acked < carefulBytes
	var last mark
	for len(c.marks) > 0 && c.marks[0].sent <= acked {
		last, c.marks = c.marks[0], c.marks[1:]
	}
	if last.sent == 0 {
		return
	}
	now := c.now()
	took := now.Sub(last.at)
	if c.least == 0 || took < c.least {
		c.least = took
	}
	c.pace.answer(now, acked, c.least, c.limited)
	goal := c.goal()
	switch {
	case took-c.least > queueDelayMax:
		if last.sent > c.shrunkAt {
			c.window, c.shrunkAt = max(c.window*3/4, min(c.floor(), c.most)), c.sent
		}
	case c.window > goal:
		c.window = max(goal, c.window-gained/4)
	case took-c.least < queueDelayMax/2 && c.limited:
		c.window = min(c.window+gained, goal)
	}
	c.limited = false
}

// slow reports that answers take so long that what is under way matters.
func (c *credit) slow() bool { return c.least >= slowAnswer }

// goal is twice what the link carries until the fastest answer comes back, where
// that is known and the link slow. After a cut it is once that: what is under way
// when the next one comes goes again.
func (c *credit) goal() uint64 {
	if !c.slow() || !c.pace.steady {
		return c.most
	}
	if c.careful {
		return min(max(c.carried()+uint64(c.frameBytes()), windowCareful), c.most)
	}
	return min(max(2*c.carried()+uint64(c.frameBytes()), windowLeast), c.most)
}

// floor is what the window does not fall below.
func (c *credit) floor() uint64 {
	if !c.pace.steady {
		return WindowSlow
	}
	return max(c.carried(), windowLeast)
}

// carried is how many bytes are on the link at a time: without the frame itself,
// for which the answer waited.
func (c *credit) carried() uint64 {
	n := uint64(float64(c.pace.rate()) * c.least.Seconds())
	return n - min(n, uint64(c.frameBytes()))
}

// frameCost is about what a frame costs besides its records, with its answer. Of a
// link that is cut after so many bytes least is lost with frames of the root of
// twice their product: half of one frame, and the cost of all.
const frameCost = 100

// frameBytes is how large a bulk frame should be: a quarter of the window, and on
// a slow link what goes over it in half a second and no more than half the window.
func (c *credit) frameBytes() int {
	if c.careful {
		return min(c.usualBytes(), int(math.Sqrt(2*frameCost*float64(c.acked)))+1) // one record always goes
	}
	return c.usualBytes()
}

func (c *credit) usualBytes() int {
	if c.now == nil || !c.slow() {
		return int(min(max(c.window/4, frameBytesMin), controlBytesMax))
	}
	n := c.window / 4
	if rate := c.pace.rate(); rate != 0 {
		n = max(n, min(rate/2, c.window/2))
	}
	return int(min(max(n, 2*frameBytesMin), max(c.pace.rate(), frameBytesMin), frameBytesSlow))
}

// pace measures how many bytes a second a link carries: the most of the last few
// spans, each of at least a second and two answers.
type pace struct {
	at    time.Time
	acked uint64
	busy  bool      // all the span more could have been sent
	spans [4]uint64 // bytes a second
	next  int

	steady bool // a larger window brought no more
}

const paceSpan = time.Second

// begin starts a span when nothing is under way.
func (p *pace) begin(now time.Time, acked uint64) { p.at, p.acked, p.busy = now, acked, true }

func (p *pace) answer(now time.Time, acked uint64, least time.Duration, limited bool) {
	p.busy = p.busy && limited
	took := now.Sub(p.at)
	if took < max(paceSpan, 2*least) {
		return
	}
	rate, before := uint64(float64(acked-p.acked)/took.Seconds()), p.rate()
	p.steady = p.steady || p.busy && before != 0 && rate < before*5/4
	if p.busy || rate > before { // else it tells how much there was to send
		p.spans[p.next] = rate
		p.next = (p.next + 1) % len(p.spans)
	}
	p.begin(now, acked)
}

// rate is 0 as long as it is not known.
func (p *pace) rate() uint64 {
	most := uint64(0)
	for _, r := range p.spans {
		most = max(most, r)
	}
	return most
}
