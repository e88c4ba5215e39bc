package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/rig"
)

// lookedAt is how many charts staff open for the first time while the disk is full.
const lookedAt = 4

// TestDiskFull: a disk fills up under a box that saves. The page says so and
// nothing more is called saved; with room again everything that was is there.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	d := rig.NewDisk(t, 448)
	b := rig.NewBoxIn(t, filepath.Join(d.Dir, "box"), "Small clinic", "standalone", d.Wrap...)
	b.Start()
	p := b.Page()
	patient := p.Register("Tatu", "Room")
	var others []string
	for i := range lookedAt {
		others = append(others, p.Register("Tatu", fmt.Sprintf("Looked At %c", 'A'+i)))
	}
	s := rig.NewSaved()
	var refused atomic.Pointer[rig.Answer]
	var load sync.WaitGroup
	mine := rand.New(rand.NewPCG(rnd.Uint64(), 0))
	load.Go(func() {
		for refused.Load() == nil {
			v := rig.NewVisit(mine, patient)
			s.Posted(v)
			rid, a, err := p.Save(v)
			switch {
			case err == nil:
				err = s.Acked(v, rid)
			case a.Status == http.StatusInsufficientStorage:
				refused.Store(&a)
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := 0; refused.Load() == nil && i < 60 && !t.Failed(); i++ {
		d.Shell(fmt.Sprintf("fallocate -l 8M fill-%d 2>/dev/null || true; sync", i))
	}
	load.Wait()
	_, rid := s.All()
	t.Logf("%d visits saved before the disk was full", len(rid))
	if a := refused.Load(); a == nil || !strings.Contains(rig.Words(a.Body), "This box has no room left: nothing was saved.") {
		t.Fatalf("a save on a full disk: %+v", a)
	}
	d.Shell("free=$(df --output=avail -B1 . | tail -1); [ $free -eq 0 ] || fallocate -l $free rest; cat /dev/zero > rest2 2>/dev/null || true; sync; [ $(df --output=avail -B1 . | tail -1) -eq 0 ]")
	for i, id := range others {
		if a, err := p.Get("/patient/" + id); err != nil || a.Status != http.StatusOK || !strings.Contains(rig.Words(a.Body), fmt.Sprintf("Looked At %c", 'A'+i)) {
			t.Errorf("chart %d with not a byte left: %v, status %d: %.300s", i, err, a.Status, rig.Words(a.Body))
		}
	}

	a, err := p.Get("/sign-in")
	if got := rig.Words(a.Body); err != nil || !strings.Contains(got, "This box has no room left.") {
		t.Errorf("the page of a box on a full disk: %v, status %d: %.300s", err, a.Status, got)
	}
	for range 3 {
		if rid, a, err := p.Save(rig.NewVisit(rnd, patient)); err == nil || a.Status != http.StatusInsufficientStorage || !strings.Contains(rig.Words(a.Body), "nothing was saved") {
			t.Errorf("a save on a full disk: record %q, status %d: %.300s", rid, a.Status, rig.Words(a.Body))
		}
	}
	if f := b.Status().Faults; len(f) != 1 || !strings.Contains(f[0], "no room left") {
		t.Errorf("status tells of %q", f)
	}
	b.Kill()
	d.Shell("rm -f fill-* rest rest2")
	b.Start()
	if err := p.SignIn(); err != nil {
		t.Fatal(err)
	}
	v := rig.NewVisit(rnd, patient)
	b.Eventually(rig.ConvergeMax, "saving to go on when there is room", func() string {
		rid, _, err := p.Save(v)
		if err == nil {
			err = s.Acked(v, rid)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	if got := rig.Words(p.Must("/")); strings.Contains(got, "no room left") {
		t.Errorf("the page still tells of a full disk: %s", got)
	}
	s.MarkersOnce(t, b)
	b.Verify()
	b.Stop()
	b.Verify()
}

// TestFsyncFails: one sync of the disk fails under load. From then on nothing is
// called saved, the page says what is wrong, and the box ends; what it called
// saved before is there at the next start.
func TestFsyncFails(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	for i, when := range []string{"1", "1+"} {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		t.Run("when="+when, func(t *testing.T) {
			t.Parallel()
			fsyncFails(t, mine, when)
		})
	}
}

func fsyncFails(t *testing.T, rnd *rand.Rand, when string) {
	b := rig.NewBox(t, "Failing clinic", "standalone")
	b.Start()
	p := b.Page()
	patient := p.Register("Subira", "Synced")
	s := rig.NewSaved()
	var load sync.WaitGroup
	var count atomic.Int64
	for range savers {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		load.Go(func() {
			for {
				v := rig.NewVisit(mine, patient)
				s.Posted(v)
				rid, a, err := p.Save(v)
				if err == nil {
					count.Add(1)
					err = s.Acked(v, rid)
				} else if got := rig.Words(a.Body); !gone(b, a) && (a.Status != http.StatusInsufficientStorage || !strings.Contains(got, "The disk of this box is faulty: nothing was saved.")) {
					t.Errorf("a save that the disk did not take: %v: status %d: %.300s", err, a.Status, got)
					return
				} else {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	goal := int64(10 + rnd.IntN(20))
	b.Eventually(rig.ConvergeMax, "load", func() string {
		if n := count.Load(); n < goal {
			return fmt.Sprintf("%d saves", n)
		}
		return ""
	})
	begun := time.Now()
	failSync(t, b, when)
	load.Wait()
	_, before := s.All()
	a, err := p.Get("/sign-in")
	if got := rig.Words(a.Body); !gone(b, a) && (err != nil || !strings.Contains(got, "The disk of this box is faulty. Nothing can be saved. Charts stay closed. Call for support.")) {
		t.Errorf("the page after a failed sync: %v, status %d: %.300s", err, a.Status, got)
	}
	for range 3 { // a disk that works again proves nothing
		if rid, a, err := p.Save(rig.NewVisit(rnd, patient)); err == nil || !gone(b, a) && a.Status != http.StatusInsufficientStorage {
			t.Errorf("a save after a failed sync: record %q, status %d", rid, a.Status)
		}
	}
	if code := b.WaitEnd(); code != 1 {
		t.Errorf("the box ended with exit code %d", code)
	}
	t.Logf("%d visits acknowledged, the box ended %s after strace came", len(before), time.Since(begun).Round(time.Second))
	if log := b.LogTail(); !strings.Contains(log, "the disk failed, nothing after that was saved") {
		t.Errorf("the last words of the box: %s", log[max(0, len(log)-500):])
	}
	b.Start()
	if err := p.SignIn(); err != nil {
		t.Fatal(err)
	}
	v := rig.NewVisit(rnd, patient)
	if err := s.Acked(v, p.MustSave(v)); err != nil {
		t.Fatal(err)
	}
	s.MarkersOnce(t, b)
	b.Verify()
	b.Stop()
	b.Verify()
}

// gone tells whether a page did not answer because its box had ended: it has some
// seconds to say why, and a busy machine may ask after them.
func gone(b *rig.Box, a rig.Answer) bool {
	return a.Status == 0 && rig.Poll(rig.ConvergeMax, func() string {
		if b.Running() {
			return "it runs"
		}
		return ""
	}) == ""
}

// failSync makes the next sync of each thread fail, as strace counts them.
func failSync(t *testing.T, b *rig.Box, when string) {
	t.Helper()
	var said strings.Builder
	tracer := exec.Command("strace", "-f", "-qq", "-p", fmt.Sprint(b.PID()), "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when="+when)
	tracer.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	tracer.Stderr = &said
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tracer.Process.Signal(syscall.SIGTERM)
		tracer.Wait()
	})
}
