package disks_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/fusedisk"
	"github.com/healthpost/healthpost/test/rig"
)

const (
	cutsFew     = 4
	cutsPerDisk = 25 // then another box: an export of everything takes longer each time
)

// TestPowerCut cuts the power of a box while staff save, drops what was not synced,
// and starts it again: everything that was called saved before the cut is there, once.
// Every third start is cut as well.
func TestPowerCut(t *testing.T) {
	rnd := rig.NewRand(t)
	n := rounds(t, "HEALTHPOST_CUTS", cutsFew)
	total, kept, begun := 0, 0, time.Now()
	for done := 0; done < n; {
		c := newClinic(t, rand.New(rand.NewPCG(rnd.Uint64(), 1)))
		for i := 0; i < cutsPerDisk && done < n && !t.Failed(); i++ {
			m := fusedisk.Modes[done%len(fusedisk.Modes)]
			visits, rid := c.cutUnderLoad(m)
			if done%3 == 2 {
				c.cutAtStart(m)
			}
			c.keep(visits, rid)
			c.whole(t)
			if t.Failed() {
				t.Fatalf("after cut %d, %s, %d acknowledged before it", done+1, m, len(rid))
			}
			c.again(visits[max(0, len(visits)-savers):])
			total, done = total+len(rid), done+1
			kept = max(kept, len(visits)-len(rid))
			if done%25 == 0 {
				t.Logf("%d cuts, %d saves, none lost, %s", done, total, time.Since(begun).Round(time.Second))
			}
		}
		c.Stop()
		c.Verify()
	}
	t.Logf("%d cuts, %d acknowledged saves, none lost", n, total)
	if total < n {
		t.Error("less than one save before each cut: the test shows little")
	}
}

// TestCutAfterInit cuts the power right after a box was made, on a disk that
// promises no more than POSIX does: the box is there.
func TestCutAfterInit(t *testing.T) {
	t.Parallel()
	d := fusedisk.Start(t, rig.NewSeed(t))
	d.Set(fusedisk.State{Strict: true})
	b := rig.NewBoxIn(t, filepath.Join(d.Dir, "boxes", "box"), "New clinic", "standalone", d.Wrap...)
	d.Cut(fusedisk.Dropped)
	b.Configure(nil) // an editor's business
	b.Start()
	b.Page()
	b.Stop()
	b.Verify()
}

// cutUnderLoad cuts the power while staff save. It gives what was acknowledged
// before the power went, and kills the box.
func (c *clinic) cutUnderLoad(m fusedisk.Mode) (visits []rig.Visit, rid map[string]string) {
	c.T.Helper()
	l := c.work()
	l.until(1 + c.rnd.IntN(40))
	if m == fusedisk.Reordered {
		c.disk.Flush() // the kernel writes at its own time too
	}
	visits, rid = l.book.All()
	c.disk.Freeze()
	l.stop.Store(true)
	c.Kill()
	l.wg.Wait()
	c.disk.Cut(m)
	return visits, rid
}

// cutAtStart cuts the power again at some operation while the box starts.
func (c *clinic) cutAtStart(m fusedisk.Mode) {
	c.T.Helper()
	c.disk.Set(fusedisk.State{CutAfter: 1 + c.rnd.IntN(60)})
	started := make(chan error, 1)
	go func() { started <- c.TryStart() }()
	ended := false
	c.Eventually(startMax, "the box to start or the power to go", func() string {
		select {
		case <-started: // it may come that far
			ended = true
			return ""
		default:
		}
		if !c.disk.Stats().Frozen {
			return "it starts"
		}
		return ""
	})
	c.disk.Freeze()
	if c.Running() {
		c.Kill()
	}
	if !ended {
		<-started
	}
	c.disk.Cut(m)
}

// TestControlLies shows that TestPowerCut sees a loss: on a disk whose syncs lie,
// acknowledged saves are gone, or the box says that it is damaged.
func TestControlLies(t *testing.T) {
	t.Parallel()
	c := newClinic(t, rig.NewRand(t))
	c.Stop()
	c.Start()
	if err := c.page.SignIn(); err != nil {
		t.Fatal(err)
	}
	c.disk.Set(fusedisk.State{Lies: true})
	visits, rid := c.cutUnderLoad(fusedisk.Dropped)
	if len(rid) == 0 {
		t.Fatal("nothing was saved")
	}
	c.keep(visits, rid)
	if err := c.TryStart(); err != nil {
		t.Logf("a box whose disk lied does not start: %v", err)
		return
	}
	seen := &counted{TB: t}
	c.saved.MarkersOnce(seen, c.Box)
	if seen.errors == 0 {
		t.Errorf("%d saves on a disk that lies, and none is lost: these tests prove nothing", len(rid))
	}
}

// counted counts the errors of a check that has to find some.
type counted struct {
	testing.TB
	errors int
}

func (c *counted) Errorf(format string, args ...any) { c.errors++; c.Logf(format, args...) }
