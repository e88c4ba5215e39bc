package node

import (
	"testing"
	"time"
)

// ticking is a clock that a test moves.
type ticking struct{ t time.Time }

func (c *ticking) now() time.Time { return c.t }

func TestClockOfAForgetfulBoard(t *testing.T) {
	raw := &ticking{time.Unix(40, 0)}
	c := newBoxClock(raw.now)
	if got := c.now(); !got.Equal(builtAfter) || c.trust() != clockWrong {
		t.Errorf("in 1970: got %s, trust %d; want %s, %d", got, c.trust(), builtAfter, clockWrong)
	}
	signed := builtAfter.Add(300 * 24 * time.Hour)
	c.signed(signed, time.Hour)
	if got, want := c.now(), signed.Add(-agreeBehind); !got.Equal(want) || c.trust() != clockWrong {
		t.Errorf("after a checkpoint: got %s, trust %d; want %s, %d", got, c.trust(), want, clockWrong)
	}
	before := c.now()
	raw.t = raw.t.Add(30 * 24 * time.Hour)
	if got := c.now().Sub(before); got != 30*24*time.Hour {
		t.Errorf("30 days on: the clock moved by %s", got)
	}
	next := newBoxClock((&ticking{time.Unix(7, 0)}).now)
	next.notBefore(signed)
	next.resume(c.now(), signed)
	if got := next.now(); !got.Equal(c.now()) {
		t.Errorf("after a power cut: got %s, want %s", got, c.now())
	}
	raw.t = signed.Add(40 * 24 * time.Hour) // somebody set it
	if got := c.now(); !got.Equal(raw.t) || c.trust() == clockWrong {
		t.Errorf("set: got %s, trust %d; want %s", got, c.trust(), raw.t)
	}
}

func TestClockThatHubsVouchFor(t *testing.T) {
	at := builtAfter.Add(500 * 24 * time.Hour)
	for _, x := range []struct {
		name   string
		behind time.Duration // of the clock
		want   uint8
	}{
		{"the same time", 0, clockHubs}, {"a checkpoint of 50 minutes ago", -50 * time.Minute, clockHubs}, {"hubs a little ahead", 2 * time.Minute, clockHubs},
		{"a day ahead", -24 * time.Hour, clockMoves}, {"an hour behind", time.Hour, clockWrong},
	} {
		c := newBoxClock((&ticking{at.Add(-x.behind)}).now)
		c.signed(at, time.Hour)
		if got := c.trust(); got != x.want {
			t.Errorf("%s: trust %d, want %d", x.name, got, x.want)
		}
		if x.want != clockWrong && !c.now().Equal(at.Add(-x.behind)) {
			t.Errorf("%s: the clock was moved to %s", x.name, c.now())
		}
	}
}

// A run in which the clock showed a far year leaves no trace once it shows less.
func TestClockDoesNotKeepAFarYear(t *testing.T) {
	signed := builtAfter.Add(24 * time.Hour)
	c := newBoxClock((&ticking{time.Unix(9, 0)}).now)
	c.notBefore(signed)
	c.resume(builtAfter.AddDate(14, 0, 0), signed)
	if got := c.now(); !got.Equal(signed) {
		t.Errorf("got %s, want %s", got, signed)
	}
}
