package fusedisk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Disk is a mounted disk, driven by a test.
type Disk struct {
	t      testing.TB
	client *http.Client
	// Dir is the mount point. Only what was started through Wrap sees the disk there.
	Dir  string
	Wrap []string
}

// Start mounts an empty disk until the test ends. Root is needed.
func Start(t testing.TB, seed uint64) *Disk {
	t.Helper()
	folder, err := os.MkdirTemp("", "fusedisk") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	d := &Disk{t: t, Dir: filepath.Join(folder, "disk"), client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(folder, "s"))
		}}, Timeout: time.Minute}}
	for _, name := range []string{"disk", "bytes"} {
		if err := os.Mkdir(filepath.Join(folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+folder, fmt.Sprintf("%s_SEED=%d", roleEnv, seed))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	d.start(cmd)
	d.Wrap = []string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", cmd.Process.Pid), "--"}
	return d
}

func (d *Disk) start(cmd *exec.Cmd) {
	d.t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("starting a disk (root is needed): %v", err)
	}
	d.t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			d.t.Errorf("ending a disk: %v", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		d.t.Fatalf("mounting a disk (root and /dev/fuse are needed): %q, %v", line, err)
	}
}

func (d *Disk) ask(path string, in, out any) {
	d.t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := d.client.Post("http://disk"+path, "application/json", bytes.NewReader(raw))
	if err != nil {
		d.t.Fatalf("asking the disk: %v", err)
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && out != nil {
		err = json.Unmarshal(raw, out)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("asking the disk for %s: %v, %s", path, err, raw)
	}
}

// Set tells the disk what to do from now on.
func (d *Disk) Set(s State) {
	d.t.Helper()
	d.ask("/state", s, nil)
}

// Stats counts what was done since Set.
func (d *Disk) Stats() (s Stats) {
	d.t.Helper()
	d.ask("/stats", nil, &s)
	return s
}

// Freeze is the moment at which the power goes: from its return on nothing is
// written and nothing succeeds.
func (d *Disk) Freeze() {
	d.t.Helper()
	d.ask("/freeze", nil, nil)
}

// Cut is what the disk is after the power came back. The processes that used it
// were killed. It freezes the disk if nobody did.
func (d *Disk) Cut(m Mode) {
	d.t.Helper()
	d.ask("/cut?mode="+url.QueryEscape(string(m)), nil, nil)
}

// Flush has the kernel write what processes changed in mapped memory; it stays
// unsynced.
func (d *Disk) Flush() {
	d.t.Helper()
	d.Run("sync", "-f", d.Dir)
}

// Run runs a command that sees the disk.
func (d *Disk) Run(args ...string) string {
	d.t.Helper()
	line := append(append([]string{}, d.Wrap...), args...)
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}
