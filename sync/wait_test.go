package peersync_test

import (
	"testing"

	"github.com/healthpost/healthpost/record"
	peersync "github.com/healthpost/healthpost/sync"
)

// TestPendingAfterMissedEntries: a neighbour that must first fetch many entries
// still takes what follows on them in the same session, and lanes that miss
// nothing do not wait for it.
func TestPendingAfterMissedEntries(t *testing.T) {
	w := newWorld(t, 21, 2)
	a, b := w.clinics[0], w.clinics[1]
	for range 40 {
		w.save(a, record.LaneClinical, 5)
		for range 2 {
			if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
				t.Fatal(err)
			}
			w.orderAll()
		}
	}
	if _, _, err := w.meet(a.memory, w.hub, noLimit); err != nil {
		t.Fatal(err)
	}
	w.save(a, record.LaneClinical, 1)
	w.save(a, record.LaneBulk, 1)
	oa, ob := w.options(a.memory), w.options(b.memory)
	oa.Window, ob.Window = 1<<10, 1<<10
	x := &exchange{a: peersync.NewSession(a.memory, b.self, oa), b: peersync.NewSession(b.memory, a.self, ob)}
	defer x.a.Close()
	defer x.b.Close()
	if _, err := x.run(t.Context(), w.rng, noLimit); err != nil {
		t.Fatal(err)
	}
	for _, f := range a.allFeeds() {
		if _, ok, err := b.HeldRID(record.Position{Epoch: f.Epoch, Lane: f.Lane, N: f.HeldN}); err != nil || !ok {
			t.Errorf("lane %d n %d did not reach the neighbour (%v)", f.Lane, f.HeldN, err)
		}
	}
	if sent := x.frames[peersync.TypePending]; sent > 6 {
		t.Errorf("%d frames of pending records for two records", sent)
	}
}

func (m *memory) allFeeds() []peersync.PendingFeed {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.feedsLocked()
}
