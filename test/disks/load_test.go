package disks_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/healthpost/healthpost/test/fusedisk"
	"github.com/healthpost/healthpost/test/rig"
)

const (
	savers   = 3 // forms posted at the same time
	startMax = 2 * time.Minute
)

// clinic is a box whose folder is a disk that goes wrong.
type clinic struct {
	*rig.Box
	disk    *fusedisk.Disk
	rnd     *rand.Rand
	page    *rig.Page
	patient string
	saved   *rig.Saved // acknowledged before the last cut
}

// newClinic makes a box that orders its records itself and starts it.
func newClinic(t *testing.T, rnd *rand.Rand) *clinic {
	t.Helper()
	d := fusedisk.Start(t, rnd.Uint64())
	c := &clinic{disk: d, rnd: rnd, saved: rig.NewSaved()}
	c.Box = rig.NewBoxIn(t, filepath.Join(d.Dir, "box"), "Failing clinic", "standalone", d.Wrap...)
	d.Run("sync", filepath.Join(c.Dir, "config.toml"), c.Dir) // an editor's business
	c.Start()
	c.page = c.Page()
	c.patient = c.page.Register("Neema", "Durable")
	return c
}

// load is staff at work until the box answers no more.
type load struct {
	c     *clinic
	book  *rig.Saved // what was answered with "saved"
	count atomic.Int64
	wg    sync.WaitGroup
	stop  atomic.Bool
	mu    sync.Mutex
	last  map[int]rig.Answer // what each saver heard that was not "saved"; guarded by mu
}

func (c *clinic) work() *load {
	l := &load{c: c, book: rig.NewSaved(), last: map[int]rig.Answer{}}
	for i := range savers {
		mine := rand.New(rand.NewPCG(c.rnd.Uint64(), uint64(i)))
		l.wg.Go(func() { l.save(i, mine) })
	}
	return l
}

func (l *load) save(i int, r *rand.Rand) {
	for !l.stop.Load() {
		v := rig.NewVisit(r, l.c.patient)
		l.book.Posted(v)
		rid, a, err := l.c.page.Save(v)
		if err != nil {
			l.mu.Lock()
			l.last[i] = a
			l.mu.Unlock()
			return
		}
		if err := l.book.Acked(v, rid); err != nil {
			l.c.T.Error(err)
			return
		}
		l.count.Add(1)
	}
}

// until waits for so many saves.
func (l *load) until(n int) {
	l.c.T.Helper()
	l.c.Eventually(startMax, "staff to save", func() string {
		if got := l.count.Load(); got < int64(n) && len(l.refused()) < savers {
			return fmt.Sprintf("%d saves", got)
		}
		return ""
	})
}

// refused gives what savers heard that was not "saved".
func (l *load) refused() map[int]rig.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[int]rig.Answer{}
	for i, a := range l.last {
		out[i] = a
	}
	return out
}

// keep adds what was acknowledged to what the box has to hold from now on.
func (c *clinic) keep(visits []rig.Visit, rid map[string]string) {
	c.T.Helper()
	for _, v := range visits {
		if id, ok := rid[v.Marker]; ok {
			if err := c.saved.Acked(v, id); err != nil {
				c.T.Error(err)
			}
		}
	}
}

// again posts forms once more, as a browser does whose answer did not come.
func (c *clinic) again(visits []rig.Visit) {
	c.T.Helper()
	for _, v := range visits {
		rid, _, err := c.page.Save(v)
		if err == nil {
			err = c.saved.Acked(v, rid)
		}
		if err != nil {
			c.T.Errorf("posting again: %v", err)
			return
		}
	}
}

// whole starts the box and holds it to everything that it called saved.
func (c *clinic) whole(t *testing.T) {
	t.Helper()
	if err := c.TryStart(); err != nil {
		t.Fatalf("the box does not start: %v\n%s", err, c.LogTail())
	}
	if err := c.page.SignIn(); err != nil {
		t.Fatal(err)
	}
	c.saved.MarkersOnce(t, c.Box)
	c.Verify()
}
