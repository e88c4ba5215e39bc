package link_test

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/test/link"
)

const (
	startMax = time.Minute
	stopMax  = time.Minute
)

// box is one folder and, while it runs, one process in a namespace.
type box struct {
	tb              testing.TB
	in              *link.Space
	name, role, dir string
	page, peers     string // host:port inside of the namespace; multiaddr to listen on
	quic            string // one more multiaddr to listen on, or empty
	settings        string // more lines of config.toml
	dial            []string
	cmd             *exec.Cmd
	ended           chan struct{} // closed when cmd has ended
	browser         *page
}

func newBox(tb testing.TB, in *link.Space, address, name, role string, port int) *box {
	tb.Helper()
	b := &box{tb: tb, in: in, name: name, role: role, dir: filepath.Join(tb.TempDir(), "box"),
		page: fmt.Sprintf("127.0.0.1:%d", 8080+port), peers: fmt.Sprintf("/ip4/%s/tcp/%d", address, 4001+port)}
	b.must("init", "--role", role, "--name", name)
	b.configure()
	tb.Cleanup(func() {
		b.kill()
		if tb.Failed() {
			raw, _ := os.ReadFile(b.log())
			tb.Logf("end of the log of %s:\n%s", b.name, raw[max(0, len(raw)-4000):])
		}
	})
	return b
}

func (b *box) log() string { return filepath.Join(filepath.Dir(b.dir), "log") }

// address is where another box dials this one.
func (b *box) address() string {
	b.tb.Helper()
	id, err := node.PeerIDOf(b.dir)
	check(b.tb, "reading an identity", err)
	return b.peers + "/p2p/" + id
}

// configure writes config.toml.
func (b *box) configure() {
	b.tb.Helper()
	listen := fmt.Sprintf("%q", b.peers)
	if b.quic != "" {
		listen += fmt.Sprintf(", %q", b.quic)
	}
	text := fmt.Sprintf("page = %q\nlisten = [%s]\nlan = false\nprofile = \"lan\"\nlanguages = [\"en\"]\nsession_idle_minutes = 600\n", b.page, listen)
	if len(b.dial) > 0 {
		text += fmt.Sprintf("dial = [\"%s\"]\n", strings.Join(b.dial, "\", \""))
	}
	check(b.tb, "writing the configuration", os.WriteFile(filepath.Join(b.dir, "config.toml"), []byte(text+b.settings), 0o600))
}

func (b *box) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, append(args, "--data", b.dir)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + os.Getenv("HOME")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// try runs the program once in the box's namespace.
func (b *box) try(args ...string) (string, error) {
	cmd := b.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := b.in.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s: healthpost %s: %w: %s%s", b.name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (b *box) must(args ...string) string {
	b.tb.Helper()
	out, err := b.try(args...)
	check(b.tb, "running the program", err)
	return out
}

// start runs the box and waits until it says that its page is there.
func (b *box) start() {
	b.tb.Helper()
	log, err := os.OpenFile(b.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	check(b.tb, "opening the log", err)
	defer log.Close()
	cmd := b.command("run")
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	check(b.tb, "starting", err)
	check(b.tb, "starting", b.in.Start(cmd))
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
	case <-ended:
		b.tb.Fatalf("%s ended at its start: %s", b.name, cmd.ProcessState)
	case <-time.After(startMax):
		b.tb.Fatalf("%s: no page within %s", b.name, startMax)
	}
}

// stop ends the process as a shutdown would.
func (b *box) stop() {
	b.tb.Helper()
	b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(stopMax):
		b.tb.Errorf("%s did not stop within %s", b.name, stopMax)
	}
	b.kill()
}

// kill ends the process, if it runs, as a power cut would.
func (b *box) kill() {
	if b.cmd != nil {
		b.cmd.Process.Kill()
		<-b.ended
		b.cmd = nil
	}
}

// with connects to the running box's control socket.
func (b *box) with(f func(context.Context, *node.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := node.Dial(ctx, node.NewOptions(b.dir))
	if err != nil {
		return err
	}
	defer c.Close()
	return f(ctx, c)
}

func (b *box) status() (s node.Status) {
	b.tb.Helper()
	check(b.tb, b.name+": status", b.with(func(ctx context.Context, c *node.Client) (err error) {
		s, err = c.Status(ctx)
		return err
	}))
	return s
}

// verify checks everything on disk.
func (b *box) verify() {
	b.tb.Helper()
	b.must("verify", "--full")
}

func (b *box) importAll(dir string) (rep node.ImportReport) {
	b.tb.Helper()
	check(b.tb, "reading the report", json.Unmarshal([]byte(b.must("import", "--json", dir)), &rep))
	return rep
}
