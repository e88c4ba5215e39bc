package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
)

const (
	startMax    = 60 * time.Second
	convergeMax = 20 * time.Minute
)

// box is one folder and, while it runs, one process.
type box struct {
	tb              testing.TB
	name, role, dir string
	page, peerPort  string
	links           []*link // of a clinic: one to each hub
	cmd             *exec.Cmd
	ended           chan struct{} // closed when cmd has ended
	startedIn       time.Duration // from the start of the process to its own word that the page is there
}

func newBox(tb testing.TB, name, role string) *box {
	tb.Helper()
	b := &box{tb: tb, name: name, role: role, dir: filepath.Join(tb.TempDir(), "box"), page: "127.0.0.1:" + freePort(tb), peerPort: freePort(tb)}
	b.must("init", "--role", role, "--name", name)
	b.configure(nil)
	tb.Cleanup(b.stop)
	return b
}

// configure writes config.toml; no dial address leaves the hubs of the ledger.
func (b *box) configure(dial []string) {
	b.tb.Helper()
	text := fmt.Sprintf("page = %q\nlisten = [\"/ip4/127.0.0.1/tcp/%s\"]\nlan = false\nprofile = \"lan\"\nlanguages = [\"en\"]\n", b.page, b.peerPort)
	if len(dial) > 0 {
		text += fmt.Sprintf("dial = [\"%s\"]\n", strings.Join(dial, "\", \""))
	}
	check(b.tb, "writing the configuration", os.WriteFile(filepath.Join(b.dir, "config.toml"), []byte(text), 0o600))
}

func (b *box) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, append(args, "--data", b.dir)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + os.Getenv("HOME")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// must runs a command that has to work and gives what it printed.
func (b *box) must(args ...string) string {
	b.tb.Helper()
	cmd := b.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.tb.Fatalf("%s: healthpost %s: %v\n%s%s", b.name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// try runs the program once on this box and says why it did not work.
func (b *box) try(args ...string) string {
	out, err := b.command(args...).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return ""
}

// start runs the box and waits until it says that its page is there.
func (b *box) start() {
	b.tb.Helper()
	log, err := os.OpenFile(filepath.Join(b.dir, "..", "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	check(b.tb, "opening the log", err)
	defer log.Close()
	cmd := b.command("run")
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	check(b.tb, "starting", err)
	begun := time.Now()
	check(b.tb, "starting", cmd.Start())
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		if s := bufio.NewScanner(out); s.Scan() {
			close(ready)
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		close(ended)
	}()
	b.cmd, b.ended = cmd, ended
	select {
	case <-ready:
		b.startedIn = time.Since(begun)
	case <-ended:
		raw, _ := os.ReadFile(log.Name())
		b.tb.Fatalf("%s ended at its start: %s\n%s", b.name, cmd.ProcessState, raw)
	case <-time.After(startMax):
		b.tb.Fatalf("%s: no page within %s", b.name, startMax)
	}
}

// stop ends the process as a shutdown would and gives the time that took.
func (b *box) stop() { b.stopped() }

func (b *box) stopped() time.Duration {
	if b.cmd == nil {
		return 0
	}
	begun := time.Now()
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(startMax):
		b.tb.Errorf("%s did not stop within %s", b.name, startMax)
		b.cmd.Process.Kill()
		<-b.ended
	}
	b.cmd = nil
	return time.Since(begun)
}

// status of the running box, over its control socket.
func (b *box) status() node.Status {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := node.Dial(ctx, node.NewOptions(b.dir))
	check(b.tb, b.name+": status", err)
	defer c.Close()
	s, err := c.Status(ctx)
	check(b.tb, b.name+": status", err)
	return s
}

func (b *box) importAll(dir string) node.ImportReport {
	b.tb.Helper()
	var rep node.ImportReport
	check(b.tb, "reading the report", json.Unmarshal([]byte(b.must("import", "--json", dir)), &rep))
	return rep
}

func (b *box) verify() node.VerifyReport {
	b.tb.Helper()
	var rep node.VerifyReport
	check(b.tb, "reading the report", json.Unmarshal([]byte(b.must("verify", "--full", "--json")), &rep))
	return rep
}

// proc reads a field of a file of the process, in the file's own unit.
func (b *box) proc(file, field string) int64 {
	b.tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", b.cmd.Process.Pid, file))
	check(b.tb, "reading the process", err)
	for _, line := range strings.Split(string(raw), "\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			check(b.tb, "reading the process", err)
			return n
		}
	}
	b.tb.Fatalf("%s: no %s", file, field)
	return 0
}

// cpu is what the process used of a core so far.
func (b *box) cpu() time.Duration {
	b.tb.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	check(b.tb, "reading the process", err)
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	user, err := strconv.ParseInt(f[11], 10, 64)
	check(b.tb, "reading the process", err)
	system, err := strconv.ParseInt(f[12], 10, 64)
	check(b.tb, "reading the process", err)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// dirBytes is what a folder takes on the disk: blocks, not lengths.
func dirBytes(tb testing.TB, dir string) int64 {
	tb.Helper()
	var total int64
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
			total += st.Blocks * 512
		}
		return nil
	})
	check(tb, "measuring "+dir, err)
	return total
}
