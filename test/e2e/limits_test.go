package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/healthpost/healthpost/test/rig"
)

// TestFewFiles: a box that may open too few files says so and touches nothing; it is
// not taken for a damaged one. One whose files run out while it works goes on for who
// is connected, and for everybody when there are files again.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	b := rig.NewBox(t, "Narrow clinic", "standalone")
	b.Start()
	s, p := rig.NewSaved(), b.Page()
	patient := p.Register("Tatu", "Narrow")
	save := func() {
		t.Helper()
		v := rig.NewVisit(rnd, patient)
		s.Posted(v)
		if err := s.Acked(v, p.MustSave(v)); err != nil {
			t.Fatal(err)
		}
	}
	save()
	b.Kill()
	for _, limit := range []int{13, 16, 19, 64} {
		b.Wrap = []string{"prlimit", fmt.Sprintf("--nofile=%d", limit), "--"}
		err := b.TryStart()
		if err == nil {
			t.Fatalf("started with %d files", limit)
		}
		if code := b.WaitEnd(); code != 1 || !strings.Contains(b.LogTail(), fmt.Sprintf("this process may have %d files open at once and needs", limit)) || strings.Contains(b.LogTail(), "amaged") {
			t.Errorf("with %d files: exit code %d\n%s", limit, code, b.LogTail())
		}
	}
	b.Wrap = nil
	b.Start()
	if err := p.SignIn(); err != nil {
		t.Fatal(err)
	}
	save()

	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	few := unix.Rlimit{Cur: uint64(len(open) + 8)}
	if err := unix.Prlimit(b.PID(), unix.RLIMIT_NOFILE, nil, &before); err != nil {
		t.Fatal(err)
	}
	few.Max = before.Max // what is taken away here, nobody could give back
	if err := unix.Prlimit(b.PID(), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	b.Eventually(rig.ConvergeMax, "the box to run out of files", func() string {
		c, err := net.Dial("tcp", b.PageAddress)
		if err != nil {
			return err.Error()
		}
		conns = append(conns, c)
		now, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.PID()))
		if err != nil {
			return err.Error()
		}
		if uint64(len(now)) < few.Cur {
			return fmt.Sprintf("%d of %d", len(now), few.Cur)
		}
		return ""
	})
	for range 5 {
		save() // over the connection that stands
	}
	for _, c := range conns {
		c.Close()
	}
	if err := unix.Prlimit(b.PID(), unix.RLIMIT_NOFILE, &before, nil); err != nil {
		t.Fatal(err)
	}
	other := rig.NewPage(b)
	if a, err := other.Get("/sign-in"); err != nil || a.Status != 200 {
		t.Errorf("a new browser when there are files again: %v, status %d", err, a.Status)
	}
	save()
	s.MarkersOnce(t, b)
	b.Stop()
	b.Verify()
}

const (
	cageBytes = 192 << 20 // a box works in this, with the memory that a PIN takes
	hogBytes  = 256 << 20
)

// TestOutOfMemory: a box works in little memory; when somebody else there takes the
// rest, the kernel kills it, and what it called saved is there afterwards.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	rnd := rig.NewRand(t)
	rounds := 1 + int(kills(t))/20
	cage := rig.NewCage(t, cageBytes)
	b := rig.NewBox(t, "Small clinic", "standalone")
	b.Wrap = cage.Wrap
	b.Start()
	s := rig.NewSaved()
	k := &killed{t: t, box: b, saved: s, rnd: rnd, patient: b.Page().Register("Subira", "Squeezed")}
	for round := range rounds {
		was := cage.Kills()
		end := k.load()
		b.Eventually(rig.ConvergeMax, "load", func() string {
			if cage.Kills() != was {
				t.Fatalf("killed under load alone, in %d MiB", cageBytes>>20)
			}
			if _, acked := s.All(); len(acked) < 20*(round+1) {
				return fmt.Sprintf("%d visits", len(acked))
			}
			return ""
		})
		k.squeeze(cage)
		end()
		if cage.Kills() == was {
			t.Error("the box ended, and the kernel killed nobody")
		}
		k.open = nil
		b.Start()
		if err := b.Page().SignIn(); err != nil {
			t.Fatal(err)
		}
		s.MarkersOnce(t, b)
	}
	b.Stop()
	b.Verify()
	_, acked := s.All()
	t.Logf("killed %d times, %d acknowledged visits", rounds, len(acked))
}

// squeeze takes memory until the kernel kills the box, which it is told to prefer.
func (k *killed) squeeze(cage *rig.Cage) {
	k.t.Helper()
	pid := k.box.PID()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0); err != nil {
		k.t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	line := append(append([]string{}, cage.Wrap...), "sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tail -c %d | wc -c", hogBytes, hogBytes))
	hog := exec.Command(line[0], line[1:]...)
	hog.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := hog.Start(); err != nil {
		k.t.Fatal(err)
	}
	wg.Go(func() { hog.Wait() }) // however it ends
	if why := rig.Poll(time.Minute, func() string {
		if k.box.Running() {
			return "the box lives"
		}
		return ""
	}); why != "" {
		k.t.Fatal(why)
	}
	k.box.WaitEnd()
}
