package disks_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/fusedisk"
	"github.com/healthpost/healthpost/test/rig"
)

// TestFault makes the disk of a box fail under staff who save. From the fault on
// nothing is called saved, the page says what is wrong, the box ends with exit code
// 1; with a sound disk it starts and holds whatever it called saved. One fault of the
// journal and a read-only disk; HEALTHPOST_TEST_OPS=all takes every one.
func TestFault(t *testing.T) {
	const journal = "box/db/journal/"
	cases := []struct {
		name  string
		state fusedisk.State
	}{
		{"a sync fails once, its data is gone", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Sync, Path: journal, Nth: 3, Times: 1, How: fusedisk.Fails}}},
		{"a sync fails but persisted", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Sync, Path: journal, Nth: 2, Times: 1, How: fusedisk.Persisted}}},
		{"a write is torn", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Write, Path: journal, Nth: 4, Times: 1, How: fusedisk.TornHalf}}},
		{"mounted read-only", fusedisk.State{ReadOnly: true}},
	}
	if os.Getenv("HEALTHPOST_TEST_OPS") != "all" {
		last := len(cases) - 1
		cases = append(cases[last:], cases[rig.NewRand(t).IntN(last)])
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newClinic(t, rig.NewRand(t))
			l := b.work()
			l.until(5)
			b.disk.Set(c.state)
			l.wg.Wait()
			told := 0
			for _, a := range l.refused() {
				if a.Status == 0 { // it came when the box had ended, which it does below
					continue
				}
				told++
				if a.Status != http.StatusInsufficientStorage || !strings.Contains(rig.Words(a.Body), "The disk of this box is faulty: nothing was saved.") {
					t.Errorf("a save that the disk did not take: status %d: %.300s", a.Status, rig.Words(a.Body))
				}
			}
			if told == 0 {
				t.Error("nobody was told that nothing was saved")
			}
			visits, rid := l.book.All()
			if a, err := b.page.Get("/sign-in"); err == nil && !strings.Contains(rig.Words(a.Body), "The disk of this box is faulty. Nothing can be saved.") {
				t.Errorf("the page of a box with a faulty disk: status %d: %.300s", a.Status, rig.Words(a.Body))
			}
			if code := b.WaitEnd(); code != 1 || !strings.Contains(b.LogTail(), "the disk failed, nothing after that was saved") {
				t.Errorf("the box ended with exit code %d", code)
			}
			b.disk.Cut(fusedisk.Dropped)
			b.keep(visits, rid)
			b.whole(t)
			b.again(visits)
			b.Stop()
			b.Verify()
		})
	}
}

// TestSlowSync saves on a disk whose syncs take long: everything is saved, nobody
// is told of a fault, and savers share syncs.
func TestSlowSync(t *testing.T) {
	t.Parallel()
	b := newClinic(t, rig.NewRand(t))
	for _, wait := range []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second} {
		b.disk.Set(fusedisk.State{SyncWait: wait})
		var took []time.Duration
		for range 3 {
			v := rig.NewVisit(b.rnd, b.patient)
			begun := time.Now()
			rid, _, err := b.page.Save(v)
			took = append(took, time.Since(begun))
			if err == nil {
				err = b.saved.Acked(v, rid)
			}
			if err != nil {
				t.Fatalf("saving at %s a sync: %v", wait, err)
			}
		}
		slices.Sort(took)
		t.Logf("%s a sync: saves took %s", wait, took)
	}
	if f := b.Status().Faults; len(f) > 0 {
		t.Errorf("a slow disk is told of as %q", f)
	}
	b.disk.Set(fusedisk.State{})
	b.saved.MarkersOnce(t, b.Box)
	b.Stop()
	b.Verify()
}
