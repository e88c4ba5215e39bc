package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Cage is a limit on the memory of the processes in it, a control group of the
// kernel's first or second kind. Wrap runs a command inside.
type Cage struct {
	t        testing.TB
	dir      string
	counters string // file that tells of kills
	Wrap     []string
}

var cages atomic.Int64

// NewCage makes a control group; root is needed.
func NewCage(t testing.TB, bytes int64) *Cage {
	t.Helper()
	c := &Cage{t: t}
	name := fmt.Sprintf("healthpost-%d-%d", os.Getpid(), cages.Add(1))
	limit := strconv.FormatInt(bytes, 10)
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		c.make(filepath.Join("/sys/fs/cgroup/memory", name), "memory.oom_control")
		c.write("memory.limit_in_bytes", limit)
	} else {
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
			t.Fatalf("limiting memory: %v", err)
		}
		c.make(filepath.Join("/sys/fs/cgroup", name), "memory.events")
		c.write("memory.max", limit)
		if _, err := os.Stat(filepath.Join(c.dir, "memory.swap.max")); err == nil {
			c.write("memory.swap.max", "0")
		}
	}
	c.Wrap = []string{"sh", "-c", `echo $$ > ` + c.dir + `/cgroup.procs && exec "$@"`, "sh"}
	return c
}

func (c *Cage) make(dir, counters string) {
	c.t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatalf("making a control group (root is needed): %v", err)
	}
	c.dir, c.counters = dir, filepath.Join(dir, counters)
	c.t.Cleanup(func() { // the kernel lets go of the dead a moment later
		if why := Poll(10*time.Second, func() string {
			if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
				return err.Error()
			}
			return ""
		}); why != "" {
			c.t.Errorf("removing a control group: %s", why)
		}
	})
}

func (c *Cage) write(file, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, file), []byte(text), 0); err != nil {
		c.t.Fatalf("limiting memory: %v", err)
	}
}

// Kills is how often the kernel ended a process in here because memory ran out.
func (c *Cage) Kills() int {
	c.t.Helper()
	raw, err := os.ReadFile(c.counters)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, line := range strings.Split(string(raw), "\n") {
		if text, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				c.t.Fatal(err)
			}
			return n
		}
	}
	c.t.Fatalf("%s does not count kills:\n%s", c.counters, raw)
	return 0
}
