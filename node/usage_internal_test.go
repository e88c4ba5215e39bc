package node

import (
	"testing"
	"time"

	"github.com/healthpost/healthpost/store"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestUsageOutlivesTheProcess: a month that was used up is used up after a start
// too, and the next month begins anew.
func TestUsageOutlivesTheProcess(t *testing.T) {
	o := store.NewOptions()
	now := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	meter := func(s *store.Store) *peersync.Meter {
		t.Helper()
		n := &Node{store: s, o: Options{Link: Link{Metered: true, MonthBytes: 1000}, Now: func() time.Time { return now }}}
		m, err := n.newMeter()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if u := meter(s).Usage(); u.Month != "2026-11" || u.Left() != 1000 {
		t.Errorf("a new box has used %+v", u)
	}
	if err := (usageRows{s.KV("link")}).save(peersync.Usage{Month: "2026-11", BytesIn: 300, BytesOut: 600}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(dir, o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if u := meter(s).Usage(); u.BytesIn != 300 || u.BytesOut != 600 || u.Left() != 100 {
		t.Errorf("after a start: %+v, want 300 in and 600 out", u)
	}
	now = time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC) // no battery in the clock
	if u := meter(s).Usage(); u.Left() != 100 {
		t.Errorf("a clock that was never set gave the budget back: %+v", u)
	}
	now = time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC)
	if u := meter(s).Usage(); u.Month != "2026-12" || u.Left() != 1000 {
		t.Errorf("the next month: %+v", u)
	}
}
