package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
)

const (
	startMax   = 60 * time.Second
	stopMax    = 30 * time.Second
	commandMax = 120 * time.Second
)

// Box is one folder and, while it runs, one process.
type Box struct {
	t        testing.TB
	name     string
	role     string
	dir      string
	log      string // file that takes the process's standard error
	page     string // host:port
	peerPort string // of its libp2p listener
	dial     []string
	wrap     []string // command in front of the program, which must end up as the same process
	program  string   // instead of the program under test
	env      []string // besides the usual
	pages    pages

	mu    sync.Mutex
	cmd   *exec.Cmd     // guarded by mu; nil while it does not run
	ended chan struct{} // closed when cmd has ended
}

// newBox makes the folder of a box. The process, if any, ends with the test.
func newBox(t testing.TB, name, role string, wrap ...string) *Box {
	t.Helper()
	return newBoxIn(t, filepath.Join(t.TempDir(), "box"), name, role, wrap...)
}

func newBoxIn(t testing.TB, dir, name, role string, wrap ...string) *Box {
	t.Helper()
	b := &Box{t: t, name: name, role: role, dir: dir, log: filepath.Join(t.TempDir(), "log"), page: "127.0.0.1:" + freePort(t), peerPort: freePort(t), wrap: wrap}
	b.must("init", "--role", role, "--name", name)
	b.configure(nil)
	t.Cleanup(func() {
		if b.Running() {
			b.Kill()
		}
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", b.name, b.logTail())
		}
	})
	return b
}

// configure writes config.toml; dial nil leaves the hubs of the ledger.
func (b *Box) configure(dial []string) {
	b.t.Helper()
	b.dial = dial
	var c strings.Builder
	fmt.Fprintf(&c, "page = %q\nlisten = [\"/ip4/127.0.0.1/tcp/%s\"]\nlan = false\nprofile = \"lan\"\nlanguages = [\"en\"]\n", b.page, b.peerPort)
	if dial != nil {
		fmt.Fprintf(&c, "dial = [%q", dial[0])
		for _, d := range dial[1:] {
			fmt.Fprintf(&c, ", %q", d)
		}
		c.WriteString("]\n")
	}
	if len(b.wrap) > 0 { // the folder is seen by the wrapped program alone
		b.shell(c.String(), "cat > config.toml")
		return
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.toml"), []byte(c.String()), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// shell runs a script in the box's folder as the box sees it.
func (b *Box) shell(stdin, script string) string {
	b.t.Helper()
	cmd := exec.Command("sh", "-c", "cd \"$0\" && "+script, b.dir)
	if len(b.wrap) > 0 {
		cmd = exec.Command(b.wrap[0], append(b.wrap[1:], "sh", "-c", "cd \"$0\" && "+script, b.dir)...)
	}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %s: %v\n%s", b.name, script, err, out)
	}
	return string(out)
}

func (b *Box) command(ctx context.Context, args ...string) *exec.Cmd {
	bin := program
	if b.program != "" {
		bin = b.program
	}
	line := append(append(append([]string{}, b.wrap...), bin), args...)
	cmd := exec.CommandContext(ctx, line[0], append(line[1:], "--data", b.dir)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + os.Getenv("HOME")}
	cmd.Env = append(cmd.Env, b.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// result is how a command ended.
type result struct {
	out, err string
	code     int
}

// Command runs the program once on this box.
func (b *Box) Command(stdin string, args ...string) result {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandMax)
	defer cancel()
	cmd := b.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Errorf("%s: healthpost %s: %v", b.name, strings.Join(args, " "), err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to work and gives what it printed.
func (b *Box) must(args ...string) string {
	b.t.Helper()
	return b.mustWith("", args...)
}

func (b *Box) mustWith(stdin string, args ...string) string {
	b.t.Helper()
	r := b.Command(stdin, args...)
	if r.code != 0 {
		b.t.Fatalf("%s: healthpost %s: exit code %d\n%s%s", b.name, strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// Start runs the box and waits for its page.
func (b *Box) Start() {
	b.t.Helper()
	if err := b.TryStart(); err != nil {
		b.t.Fatalf("starting %s: %v\n%s", b.name, err, b.logTail())
	}
}

// TryStart is Start for a box that may not come up.
func (b *Box) TryStart() error {
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := b.command(context.Background(), "run")
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		for s, once := bufio.NewScanner(out), true; s.Scan(); {
			if once && strings.HasPrefix(s.Text(), "Page: ") {
				once = false
				close(ready)
			}
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		close(ended)
	}()
	b.mu.Lock()
	b.cmd, b.ended = cmd, ended
	b.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ended:
		return fmt.Errorf("it ended at its start: %s", cmd.ProcessState)
	case <-time.After(startMax):
		return fmt.Errorf("no page within %s", startMax)
	}
}

func (b *Box) process() (*exec.Cmd, chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmd, b.ended
}

// Running tells whether the process lives.
func (b *Box) Running() bool {
	_, ended := b.process()
	if ended == nil {
		return false
	}
	select {
	case <-ended:
		return false
	default:
		return true
	}
}

// PID of the running process.
func (b *Box) PID() int {
	cmd, _ := b.process()
	return cmd.Process.Pid
}

// Kill ends the process as a power cut would.
func (b *Box) Kill() {
	b.signal(syscall.SIGKILL)
	b.waitEnd()
}

// Stop ends the process as a shutdown would; it has to end well.
func (b *Box) Stop() {
	b.t.Helper()
	b.signal(syscall.SIGTERM)
	if code := b.waitEnd(); code != 0 {
		b.t.Errorf("%s ended with exit code %d when stopped\n%s", b.name, code, b.logTail())
	}
}

func (b *Box) signal(s syscall.Signal) {
	cmd, _ := b.process()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.t.Errorf("%s: sending %s: %v", b.name, s, err)
	}
}

// waitEnd gives the exit code, -1 after a signal.
func (b *Box) waitEnd() int {
	b.t.Helper()
	cmd, ended := b.process()
	for _, s := range []syscall.Signal{0, syscall.SIGQUIT, syscall.SIGKILL} { // after SIGQUIT its log says where it waits
		if s != 0 {
			b.t.Errorf("%s did not end within %s, sending %s; its log:\n%s", b.name, stopMax, s, b.logTail())
			cmd.Process.Signal(s)
		}
		select {
		case <-ended:
			return cmd.ProcessState.ExitCode()
		case <-time.After(stopMax):
		}
	}
	b.t.Fatalf("%s cannot be ended", b.name)
	return 0
}

// Status asks the running or stopped box.
func (b *Box) Status() node.Status {
	b.t.Helper()
	s, why := b.tryStatus()
	if why != "" {
		b.t.Fatal(why)
	}
	return s
}

func (b *Box) tryStatus() (s node.Status, why string) {
	r := b.Command("", "status", "--json")
	if r.code != 0 {
		return s, fmt.Sprintf("%s: status: exit code %d: %s", b.name, r.code, r.err)
	}
	if err := json.Unmarshal([]byte(r.out), &s); err != nil {
		return s, fmt.Sprintf("%s: status: %v\n%s", b.name, err, r.out)
	}
	return s, ""
}

// Verify checks everything on disk and has to find nothing.
func (b *Box) Verify() {
	b.t.Helper()
	if r := b.Command("", "verify", "--full", "--json"); r.code != 0 {
		b.t.Errorf("%s: verify: exit code %d\n%s%s", b.name, r.code, r.out, r.err)
	}
}

// Export gives one resource a line.
func (b *Box) Export() []string {
	b.t.Helper()
	return strings.FieldsFunc(b.must("export"), func(r rune) bool { return r == '\n' })
}

// Import takes files in and gives the report.
func (b *Box) Import(paths ...string) node.ImportReport {
	b.t.Helper()
	var rep node.ImportReport
	if err := json.Unmarshal([]byte(b.must(append([]string{"import", "--json"}, paths...)...)), &rep); err != nil {
		b.t.Fatal(err)
	}
	return rep
}

// recordState asks where a record is: saved, copied, confirmed, refused.
func (b *Box) recordState(rid string) (node.RecordState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := node.Dial(ctx, node.NewOptions(b.dir))
	if err != nil {
		return node.RecordState{}, err
	}
	defer c.Close()
	if !c.Running {
		return node.RecordState{}, fmt.Errorf("%s is not running", b.name)
	}
	return c.Record(ctx, rid)
}

func (b *Box) logTail() string {
	raw, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-6000):])
}

// eventually waits for f to say "" and fails the test with its last words.
func (b *Box) eventually(limit time.Duration, what string, f func() string) {
	b.t.Helper()
	if why := poll(limit, f); why != "" {
		b.t.Fatalf("waited %s for %s: %s", limit, what, why)
	}
}
