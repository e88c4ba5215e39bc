package peersync

import (
	"testing"
	"time"
)

func TestScheduleNext(t *testing.T) {
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC) }
	times := Schedule{At: []time.Duration{18 * time.Hour, 6 * time.Hour, 12*time.Hour + 30*time.Minute}}
	for _, x := range []struct {
		s         Schedule
		now, want time.Time
	}{
		{times, at(21, 5, 59), at(21, 6, 0)},
		{times, at(21, 6, 0), at(21, 12, 30)},
		{times, at(21, 18, 1), at(22, 6, 0)},
		{times, at(30, 23, 59), at(31, 6, 0)},
		{Schedule{Every: 2 * time.Hour}, at(21, 23, 0), at(22, 1, 0)},
	} {
		if got := x.s.next(x.now); !got.Equal(x.want) {
			t.Errorf("after %s the next call is at %s, want %s", x.now, got, x.want)
		}
		if j := x.s.jitter(); j < 0 || j >= callJitterMax {
			t.Errorf("a call is put off by %s", j)
		}
	}
}
