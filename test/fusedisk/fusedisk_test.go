package fusedisk_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/healthpost/healthpost/test/fusedisk"
)

// The test binary starts itself as a process that uses the disk.
const stepsEnv = "HEALTHPOST_FUSEDISK_TEST_STEPS"

func TestMain(m *testing.M) {
	fusedisk.Main()
	if steps := os.Getenv(stepsEnv); steps != "" {
		os.Exit(child(steps))
	}
	os.Exit(m.Run())
}

// child does steps in its folder and tells of the first that fails by its exit
// code: 0 for none, 1 for the first, and so on.
func child(steps string) int {
	for n, step := range strings.Split(steps, ";") {
		if err := do(strings.Fields(step)); err != nil {
			fmt.Println(err)
			return n + 1
		}
	}
	return 0
}

var mapped []byte

func do(s []string) error {
	name := s[1]
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if s[0] == "write" {
		f, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	}
	if s[0] == "syncdir" {
		f, err = os.Open(name)
	}
	if err != nil && s[0] != "rename" && s[0] != "remove" {
		return err
	}
	defer f.Close()
	switch s[0] {
	case "write": // name, byte, count, offset
		count, _ := strconv.Atoi(s[3])
		at, _ := strconv.ParseInt(s[4], 10, 64)
		_, err = f.WriteAt(bytes.Repeat([]byte(s[2]), count), at)
	case "map": // name, byte, count: changes mapped memory
		count, _ := strconv.Atoi(s[3])
		if mapped, err = unix.Mmap(int(f.Fd()), 0, count, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			return err
		}
		copy(mapped, bytes.Repeat([]byte(s[2]), count))
	case "msync":
		err = unix.Msync(mapped, unix.MS_SYNC)
	case "sync", "syncdir":
		err = f.Sync()
	case "rename":
		err = os.Rename(name, s[2])
	case "remove":
		err = os.Remove(name)
	case "read":
		_, err = f.Read(make([]byte, 1))
	default:
		err = errors.New("unknown step " + s[0])
	}
	return err
}

func steps(t *testing.T, d *fusedisk.Disk, list string) (failed int) {
	t.Helper()
	line := append(append([]string{}, d.Wrap...), "env", "-C", d.Dir, os.Args[0])
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), stepsEnv+"="+list)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(out) > 0 {
		t.Logf("%s: %s", list, bytes.TrimSpace(out))
	}
	return cmd.ProcessState.ExitCode()
}

// files is what the disk holds, runs of equal bytes shortened.
func files(d *fusedisk.Disk) string {
	var all []string
	for _, name := range strings.Fields(d.Run("ls", d.Dir)) {
		raw := d.Run("cat", filepath.Join(d.Dir, name))
		short := ""
		for len(raw) > 0 {
			rest := strings.TrimLeft(raw, raw[:1])
			short += fmt.Sprintf("%s%d", strings.ReplaceAll(raw[:1], "\x00", "_"), len(raw)-len(rest))
			raw = rest
		}
		all = append(all, name+"="+short)
	}
	return strings.Join(all, " ")
}

func newDisk(t *testing.T) *fusedisk.Disk {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HEALTHPOST_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("HEALTHPOST_TEST_SEED: %v", err)
		}
	}
	t.Logf("HEALTHPOST_TEST_SEED=%d", seed)
	return fusedisk.Start(t, rand.New(rand.NewPCG(seed, 0)).Uint64())
}

// TestCut writes, cuts the power and looks at what is there.
func TestCut(t *testing.T) {
	for _, c := range []struct{ name, steps, want string }{
		{"nothing synced", "write a x 5000 0", ""},
		{"file synced", "write a x 5000 0;sync a", "a=x5000"},
		{"file synced, not its folder, strict", "write a x 5000 0;sync a", ""},
		{"folder synced, not the file", "write a x 5000 0;syncdir .", "a="},
		{"both synced", "write a x 5000 0;sync a;syncdir .", "a=x5000"},
		{"written over after a sync", "write a x 5000 0;sync a;syncdir .;write a y 100 4000;write a y 5000 6000", "a=x5000"},
		{"renamed over a synced file", "write a x 10 0;sync a;syncdir .;write b y 10 0;sync b;rename b a", "a=x10 b=y10"},
		{"renamed and synced", "write a x 10 0;sync a;syncdir .;write b y 10 0;sync b;rename b a;syncdir .", "a=y10"},
		{"renamed before its bytes are synced", "write a x 10 0;sync a;write b y 10 0;rename b a;syncdir .", "a="},
		{"removed", "write a x 10 0;sync a;syncdir .;remove a", "a=x10"},
		{"removed and synced", "write a x 10 0;sync a;syncdir .;remove a;syncdir .", ""},
		{"mapped memory, synced", "write a x 8192 0;sync a;syncdir .;map a y 5000;msync a", "a=y5000x3192"},
		{"mapped memory, not synced", "write a x 8192 0;sync a;syncdir .;map a y 5000", "a=x8192"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			d.Set(fusedisk.State{Strict: strings.Contains(c.name, "strict")})
			if n := steps(t, d, c.steps); n != 0 {
				t.Fatalf("step %d failed", n)
			}
			if strings.Contains(c.name, "mapped") {
				d.Flush()
				if d.Stats().Mapped == 0 {
					t.Error("the disk saw no write from mapped memory")
				}
			}
			d.Cut(fusedisk.Dropped)
			if got := files(d); got != c.want {
				t.Errorf("after a cut there is %q, want %q", got, c.want)
			}
		})
	}
}

// TestCutKeepsSome looks at what the other cuts keep: never anything that was not
// written, and over many cuts something of each kind.
func TestCutKeepsSome(t *testing.T) {
	for _, m := range []fusedisk.Mode{fusedisk.Torn, fusedisk.Reordered} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			seen := map[string]int{}
			for range 25 {
				if n := steps(t, d, "write a x 16384 0;sync a;syncdir .;write a y 8192 0;write a z 4096 8192"); n != 0 {
					t.Fatalf("step %d failed", n)
				}
				d.Cut(m)
				seen[files(d)]++
			}
			t.Log(seen)
			if len(seen) < 4 {
				t.Errorf("25 cuts left %v", seen)
			}
			for left := range seen {
				if m == fusedisk.Torn && strings.Contains(left, "y") {
					t.Errorf("more than the last write was kept: %s", left)
				}
			}
		})
	}
}

// TestFaults makes operations fail, and cuts the power.
func TestFaults(t *testing.T) {
	const ready = "write a x 8192 0;sync a;syncdir ."
	for _, c := range []struct {
		name   string
		state  fusedisk.State
		steps  string
		failed int
		want   string
	}{
		{"write fails", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Write, Nth: 2, Times: 1, How: fusedisk.Fails}}, "write a y 10 0;write a z 10 10;sync a", 2, "a=x8192"},
		{"write fails but persisted", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Write, Nth: 1, Times: 1, How: fusedisk.Persisted}}, "write a y 512 0", 1, "a=y512x7680"},
		{"sync fails, its data is gone", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Sync, Nth: 1, Times: 1, How: fusedisk.Fails}}, "write a y 512 0;sync a", 2, "a=x8192"},
		{"sync fails but persisted", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Sync, Nth: 1, Times: 1, How: fusedisk.Persisted}}, "write a y 512 0;sync a", 2, "a=y512x7680"},
		{"sync of mapped memory fails", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Sync, Nth: 1, Times: 1, How: fusedisk.Fails}}, "map a y 512;msync a", 2, "a=x8192"},
		{"other files are spared", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Sync, Path: "b", Nth: 1, How: fusedisk.Fails}}, "write a y 512 0;sync a", 0, "a=y512x7680"},
		{"read fails", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Read, Nth: 1, How: fusedisk.Fails}}, "read a", 1, "a=x8192"},
		{"a name cannot be made", fusedisk.State{Fault: fusedisk.Fault{Op: fusedisk.Name, Nth: 1, How: fusedisk.Fails}}, "rename a b", 1, "a=x8192"},
		{"syncs lie", fusedisk.State{Lies: true}, "write a y 512 0;sync a", 0, "a=x8192"},
		{"read only", fusedisk.State{ReadOnly: true}, "read a;write a y 512 0", 2, "a=x8192"},
		{"no room", fusedisk.State{Budget: 64 << 10}, "write a y 16384 0;write a y 65536 16384", 2, "a=x8192"},
		{"slow sync", fusedisk.State{SyncWait: 50 * time.Millisecond}, "write a y 512 0;sync a", 0, "a=y512x7680"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			if n := steps(t, d, ready); n != 0 {
				t.Fatalf("step %d failed", n)
			}
			if c.state.Fault.Op == fusedisk.Read { // what the kernel has in memory is not read again
				d.Cut(fusedisk.Dropped)
			}
			d.Set(c.state)
			if n := steps(t, d, c.steps); n != c.failed {
				t.Errorf("step %d failed, want %d", n, c.failed)
			}
			if c.state.Fault.Nth == 1 && c.failed != 0 && d.Stats().Failed == 0 {
				t.Error("no fault was injected")
			}
			d.Cut(fusedisk.Dropped)
			if got := files(d); got != c.want {
				t.Errorf("after a cut there is %q, want %q", got, c.want)
			}
		})
	}
}

// TestFrozen kills a process that waits for a sync that never returns, at a disk
// that is frozen.
func TestFrozen(t *testing.T) {
	d := newDisk(t)
	if n := steps(t, d, "write a x 100 0;sync a;syncdir ."); n != 0 {
		t.Fatalf("step %d failed", n)
	}
	d.Set(fusedisk.State{SyncWait: -1})
	line := append(append([]string{}, d.Wrap...), "env", "-C", d.Dir, os.Args[0])
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), stepsEnv+"=write a y 100 0;sync a")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for d.Stats().Writes == 0 {
		<-tick.C
	}
	d.Freeze()
	if n := steps(t, d, "write a z 100 0"); n != 1 {
		t.Errorf("step %d failed on a frozen disk, want 1", n)
	}
	cmd.Process.Kill()
	d.Cut(fusedisk.Dropped)
	cmd.Wait()
	if got := files(d); got != "a=x100" {
		t.Errorf("after a cut there is %q", got)
	}
}
