package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/healthpost/healthpost/node"
	peersync "github.com/healthpost/healthpost/sync"
)

func TestLinkSettings(t *testing.T) {
	for _, x := range []struct {
		name string
		in   linkFile
		want node.Link
		bad  bool
	}{
		{name: "nothing said"},
		{name: "metered alone", in: linkFile{Metered: true}, want: node.Link{Metered: true, Schedule: peersync.Schedule{Every: time.Hour}}},
		{name: "times", in: linkFile{Metered: true, MonthMB: 50, Schedule: "06:00, 18:30"},
			want: node.Link{Metered: true, MonthBytes: 50_000_000, Schedule: peersync.Schedule{At: []time.Duration{6 * time.Hour, 18*time.Hour + 30*time.Minute}}}},
		{name: "every", in: linkFile{Metered: true, Every: "2h"}, want: node.Link{Metered: true, Schedule: peersync.Schedule{Every: 2 * time.Hour}}},
		{name: "both", in: linkFile{Metered: true, Every: "2h", Schedule: "06:00"}, bad: true},
		{name: "no time of the day", in: linkFile{Metered: true, Schedule: "6 o'clock"}, bad: true},
		{name: "too often", in: linkFile{Metered: true, Every: "1s"}, bad: true},
		{name: "not metered", in: linkFile{MonthMB: 50}, bad: true},
		{name: "overflow", in: linkFile{Metered: true, MonthMB: 1 << 60}, bad: true},
	} {
		got, err := x.in.read()
		if x.bad {
			if err == nil {
				t.Errorf("%s: %+v, want an error", x.name, got)
			}
			continue
		}
		if d := cmp.Diff(x.want, got); err != nil || d != "" {
			t.Errorf("%s: %v, %s", x.name, err, d)
		}
	}
}
