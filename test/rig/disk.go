package rig

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a small file system in a mount namespace of its own, so that no other
// process of the machine holds on to it.
type Disk struct {
	t    testing.TB
	Dir  string   // mount point
	Wrap []string // runs a command where the disk is mounted
}

// NewDisk makes and mounts one; root is needed.
func NewDisk(t testing.TB, mebibytes int) *Disk {
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
	return &Disk{t, dir, []string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", holder.Process.Pid), "--"}}
}

// Shell runs a script on the disk.
func (d *Disk) Shell(script string) string {
	d.t.Helper()
	out, err := exec.Command(d.Wrap[0], append(d.Wrap[1:], "sh", "-c", "cd \"$0\" && "+script, d.Dir)...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}
