package chip

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
	"golang.org/x/sys/unix"
)

// TPM is a chip with a memory of its own.
type TPM struct {
	Path string // of its Unix socket
	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	said bytes.Buffer // what the program complained of
}

// New makes a chip that was never used, and has power until the test ends.
func New(t testing.TB) *TPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "chip") // short: addresses of Unix sockets are
	if err != nil {
		t.Fatal(err)
	}
	c := &TPM{Path: filepath.Join(dir, "tpm"), t: t, dir: dir}
	t.Cleanup(func() {
		c.Off()
		os.RemoveAll(dir)
	})
	c.On()
	return c
}

// On gives it power again.
func (c *TPM) On() {
	c.t.Helper()
	ours, its, err := control()
	if err != nil {
		c.t.Fatal(err)
	}
	defer ours.Close()
	c.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+c.dir, "--server", "type=unixio,path="+c.Path,
		"--ctrl", "type=unixio,clientfd=3", "--flags", "not-need-init,startup-clear")
	c.cmd.ExtraFiles, c.cmd.Stderr = []*os.File{its}, &c.said
	err = c.cmd.Start()
	its.Close()
	if err != nil {
		c.t.Fatalf("starting a TPM: %v (test/setup.sh installs swtpm)", err)
	}
	_, err = ours.Write([]byte{0, 0, 0, 1}) // which commands there are
	if err == nil {
		_, err = ours.Read(make([]byte, 64)) // it listens by then
	}
	if err != nil {
		c.Off()
		c.t.Fatalf("the TPM did not start: %v, %s", err, c.said.Bytes())
	}
}

// control is the way on which the program is asked whether it runs.
func control() (ours, its *os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control of the TPM"), nil
}

// Off takes its power, without a word before.
func (c *TPM) Off() {
	if c.cmd != nil && c.cmd.Process != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait() // killed: it says so
	}
	c.cmd = nil
}

// Forgive ends its lockout, as its owner can.
func (c *TPM) Forgive() {
	c.t.Helper()
	link, err := linuxudstpm.Open(c.Path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer link.Close()
	answer, err := link.Send(lockReset)
	if err != nil || len(answer) < 10 || !bytes.Equal(answer[6:10], make([]byte, 4)) {
		c.t.Fatalf("ending the lockout: %x, %v", answer, err)
	}
}

// lockReset is TPM2_DictionaryAttackLockReset by the lockout hierarchy, whose password is empty.
var lockReset = []byte{0x80, 0x02, 0, 0, 0, 27, 0, 0, 0x01, 0x39, 0x40, 0, 0, 0x0a, 0, 0, 0, 9, 0x40, 0, 0, 0x09, 0, 0, 0, 0, 0}
