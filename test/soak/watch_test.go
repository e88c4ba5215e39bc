package soak_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/rig"
	"github.com/healthpost/healthpost/test/soak"
)

// life is one process from its start on.
type life struct {
	box     *rig.Box
	pid     int
	samples []soak.Sample
}

// watch takes samples of every box that runs.
type watch struct {
	t     *testing.T
	tell  int // samples from one that is printed to the next, 0 for none
	begun time.Time
	boxes []*rig.Box

	mu    sync.Mutex
	lives []*life // guarded by mu
}

func (w *watch) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for _, b := range w.boxes {
			w.look(b)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look takes one sample; a box that is killed meanwhile gives none.
func (w *watch) look(b *rig.Box) {
	if !b.Running() {
		return
	}
	pid := b.PID()
	var st node.Status
	err := b.Ask(func(ctx context.Context, c *node.Client) (err error) {
		st, err = c.Status(ctx)
		return err
	})
	if err != nil || st.Process == nil {
		return
	}
	s := soak.Sample{At: time.Since(w.begun), Goroutines: st.Process.Goroutines, HeapLive: st.Process.HeapLive, Entries: st.Size + uint64(st.Pending+st.Shared)}
	if s.Files, err = openFiles(pid); err != nil {
		return
	}
	if s.Anonymous, s.Resident, err = memoryOf(pid); err != nil {
		return
	}
	s.Disk = diskOf(b.Dir)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lives {
		if l.box == b && l.pid == pid {
			if l.samples = append(l.samples, s); w.tell > 0 && len(l.samples)%w.tell == 0 {
				w.t.Logf("%s %s: %+v", s.At.Round(time.Second), b.Name, s)
			}
			return
		}
	}
	w.lives = append(w.lives, &life{b, pid, []soak.Sample{s}})
}

func openFiles(pid int) (uint64, error) {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return uint64(len(list)), err
}

func memoryOf(pid int) (anonymous, resident uint64, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		var kib uint64
		switch name {
		case "RssAnon":
			_, err = fmt.Sscan(value, &kib)
			anonymous = kib << 10
		case "VmRSS":
			_, err = fmt.Sscan(value, &kib)
			resident = kib << 10
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if resident == 0 {
		return 0, 0, fmt.Errorf("process %d has ended", pid)
	}
	return anonymous, resident, nil
}

// diskOf is what the files of a folder take; what disappears meanwhile takes nothing.
func diskOf(dir string) uint64 {
	var total uint64
	// What disappears while it is walked is no error: the function below never gives one.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "ballast" {
			return nil
		}
		var st syscall.Stat_t
		if syscall.Lstat(path, &st) == nil {
			total += uint64(st.Blocks) * 512
		}
		return nil
	})
	return total
}
