package peersync

import "time"

// credit is the window of bulk bytes. Between WindowSlow and the smaller of both
// ends' windows it follows the link: it grows while answers come about as fast
// as the fastest one did, and shrinks when bytes queue for longer than
// queueDelayMax, so that an urgent record never waits long behind bulk.
type credit struct {
	window uint64 // for what is sent
	most   uint64
	sent   uint64
	acked  uint64

	received   uint64
	receivedIn uint64 // of received, what the last ACK told

	now      func() time.Time // nil: the window stays
	marks    []mark           // bulk frames under way, oldest first
	least    time.Duration    // fastest answer
	shrunkAt uint64           // bytes sent when the window shrank last
	limited  bool             // more could have been sent
}

type mark struct {
	sent uint64
	at   time.Time
}

const (
	queueDelayMax = 2 * time.Second
	windowStart   = 16 << 10
	marksMax      = 256
)

// open sets the window once both ends are known.
func (c *credit) open(own, theirs uint64) {
	c.most = min(own, theirs)
	c.window = c.most
	if c.now != nil {
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
	c.sent += uint64(n)
	if c.now != nil && len(c.marks) < marksMax {
		c.marks = append(c.marks, mark{c.sent, c.now()})
	}
}

// take moves the window by an answer up to acked.
func (c *credit) take(acked uint64) {
	gained := acked - c.acked
	c.acked = acked
	var last mark
	for len(c.marks) > 0 && c.marks[0].sent <= acked {
		last, c.marks = c.marks[0], c.marks[1:]
	}
	if last.sent == 0 {
		return
	}
	took := c.now().Sub(last.at)
	if c.least == 0 || took < c.least {
		c.least = took
	}
	switch {
	case took-c.least > queueDelayMax:
		if last.sent > c.shrunkAt {
			c.window, c.shrunkAt = max(c.window*3/4, min(WindowSlow, c.most)), c.sent
		}
	case took-c.least < queueDelayMax/2 && c.limited:
		c.window = min(c.window+gained, c.most)
	}
	c.limited = false
}
