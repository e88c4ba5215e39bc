package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// disk is a small file system in a mount namespace of its own, so that no other
// process of the machine holds on to it.
type disk struct {
	t    *testing.T
	dir  string   // mount point
	wrap []string // runs a command where the disk is mounted
}

func newDisk(t *testing.T, mebibytes int) *disk {
	t.Helper()
	base := t.TempDir()
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "disk")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(mebibytes) << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-qF", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	holder := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", `mount -o loop "$0" "$1" && rmdir "$1/lost+found" && echo mounted && read x`, image, dir)
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	holder.Stderr = os.Stderr
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); io.Copy(io.Discard, out); holder.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		t.Fatalf("mounting a small disk (root is needed): %q, %v", line, err)
	}
	return &disk{t, dir, []string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", holder.Process.Pid), "--"}}
}

func (d *disk) shell(script string) string {
	d.t.Helper()
	out, err := exec.Command(d.wrap[0], append(d.wrap[1:], "sh", "-c", "cd \"$0\" && "+script, d.dir)...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// leftMiB is what the other programs of the machine leave free.
const leftMiB = 24

// TestDiskFull: a disk fills up under a box that saves. The page says so and
// nothing more is called saved; with room again everything that was is there.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	d := newDisk(t, 448)
	b := newBoxIn(t, filepath.Join(d.dir, "box"), "Small clinic", "standalone", d.wrap...)
	b.Start()
	p := b.Page()
	patient := p.Register("Tatu", "Room")
	s := newSaved()
	var refused atomic.Pointer[answer]
	var load sync.WaitGroup
	mine := rand.New(rand.NewPCG(rnd.Uint64(), 0))
	load.Go(func() {
		for refused.Load() == nil {
			v := newVisit(mine, patient)
			s.posted(v)
			rid, a, err := p.Save(v)
			switch {
			case err == nil:
				err = s.acked(v, rid)
			case a.status == http.StatusInsufficientStorage:
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
		d.shell(fmt.Sprintf("fallocate -l 8M fill-%d 2>/dev/null || true; sync", i))
	}
	load.Wait()
	_, rid := s.all()
	t.Logf("%d visits saved before the disk was full", len(rid))
	if a := refused.Load(); a == nil || !strings.Contains(words(a.body), "This box has no room left: nothing was saved.") {
		t.Fatalf("a save on a full disk: %+v", a)
	}
	d.shell(fmt.Sprintf("free=$(df --output=avail -BM . | tail -1 | tr -dc 0-9); [ $free -le %[1]d ] || fallocate -l $((free - %[1]d))M rest", leftMiB))

	a, err := p.Get("/sign-in")
	if got := words(a.body); err != nil || !strings.Contains(got, "This box has no room left.") {
		t.Errorf("the page of a box on a full disk: %v, status %d: %.300s", err, a.status, got)
	}
	for range 3 {
		if rid, a, err := p.Save(newVisit(rnd, patient)); err == nil || a.status != http.StatusInsufficientStorage || !strings.Contains(words(a.body), "nothing was saved") {
			t.Errorf("a save on a full disk: record %q, status %d: %.300s", rid, a.status, words(a.body))
		}
	}
	if f := b.Status().Faults; len(f) != 1 || !strings.Contains(f[0], "no room left") {
		t.Errorf("status tells of %q", f)
	}
	b.Kill()
	d.shell("rm -f fill-* rest")
	b.Start()
	if err := p.SignIn(); err != nil {
		t.Fatal(err)
	}
	v := newVisit(rnd, patient)
	b.eventually(convergeMax, "saving to go on when there is room", func() string {
		rid, _, err := p.Save(v)
		if err == nil {
			err = s.acked(v, rid)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	if got := words(p.must("/")); strings.Contains(got, "no room left") {
		t.Errorf("the page still tells of a full disk: %s", got)
	}
	s.markersOnce(t, b)
	b.Verify()
	b.Stop()
	b.Verify()
}

// TestFsyncFails: one sync of the disk fails under load. From then on nothing is
// called saved, the page says what is wrong, and the box ends; what it called
// saved before is there at the next start.
func TestFsyncFails(t *testing.T) {
	t.Parallel()
	rnd := newRand(t)
	for i, when := range []string{"1", "1+"} {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
		t.Run("when="+when, func(t *testing.T) {
			t.Parallel()
			fsyncFails(t, mine, when)
		})
	}
}

func fsyncFails(t *testing.T, rnd *rand.Rand, when string) {
	b := newBox(t, "Failing clinic", "standalone")
	b.Start()
	p := b.Page()
	patient := p.Register("Subira", "Synced")
	s := newSaved()
	var load sync.WaitGroup
	var count atomic.Int64
	for range savers {
		mine := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		load.Go(func() {
			for {
				v := newVisit(mine, patient)
				s.posted(v)
				rid, a, err := p.Save(v)
				if err == nil {
					count.Add(1)
					err = s.acked(v, rid)
				} else if got := words(a.body); a.status != http.StatusInsufficientStorage || !strings.Contains(got, "The disk of this box is faulty: nothing was saved.") {
					t.Errorf("a save that the disk did not take: %v: status %d: %.300s", err, a.status, got)
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
	b.eventually(convergeMax, "load", func() string {
		if n := count.Load(); n < goal {
			return fmt.Sprintf("%d saves", n)
		}
		return ""
	})
	begun := time.Now()
	failSync(t, b, when)
	load.Wait()
	_, before := s.all()
	a, err := p.Get("/sign-in")
	if got := words(a.body); err != nil || !strings.Contains(got, "The disk of this box is faulty. Nothing can be saved. Charts stay closed. Call for support.") {
		t.Errorf("the page after a failed sync: %v, status %d: %.300s", err, a.status, got)
	}
	for range 3 { // a disk that works again proves nothing
		if rid, a, err := p.Save(newVisit(rnd, patient)); err == nil || a.status != http.StatusInsufficientStorage {
			t.Errorf("a save after a failed sync: record %q, status %d", rid, a.status)
		}
	}
	if code := b.waitEnd(); code != 1 {
		t.Errorf("the box ended with exit code %d", code)
	}
	t.Logf("%d visits acknowledged, the box ended %s after strace came", len(before), time.Since(begun).Round(time.Second))
	if log := b.logTail(); !strings.Contains(log, "the disk failed, nothing after that was saved") {
		t.Errorf("the last words of the box: %s", log[max(0, len(log)-500):])
	}
	b.Start()
	if err := p.SignIn(); err != nil {
		t.Fatal(err)
	}
	v := newVisit(rnd, patient)
	if err := s.acked(v, p.mustSave(v)); err != nil {
		t.Fatal(err)
	}
	s.markersOnce(t, b)
	b.Verify()
	b.Stop()
	b.Verify()
}

// failSync makes the next sync of each thread fail, as strace counts them.
func failSync(t *testing.T, b *Box, when string) {
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
