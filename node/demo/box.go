package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

// box is one process of the region.
type box struct {
	program string
	dir     string
	name    string
	role    record.Role
	page    string // host:port
	peer    string // host:port of its libp2p TCP listener
	links   []*forwarder

	mu     sync.Mutex
	cmd    *exec.Cmd   // guarded by mu; nil while it does not run
	ended  chan error  // closed cmd's result
	linked bool        // guarded by mu
	last   node.Status // guarded by mu
}

func quotedList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(quoted, ", ")
}

func (b *box) config(dial, away []string) string {
	var c strings.Builder
	fmt.Fprintf(&c, "page = %q\nlisten = [\"/ip4/127.0.0.1/tcp/%s\"]\nlan = false\nprofile = \"lan\"\n", b.page, port(b.peer))
	if away != nil { // each box stands for a place of its own, though all are on one machine
		fmt.Fprintf(&c, "away = [%s]\n", quotedList(away))
	}
	if dial != nil {
		fmt.Fprintf(&c, "dial = [%s]\n", quotedList(dial))
	}
	return c.String()
}

func port(hostport string) string { return hostport[strings.LastIndex(hostport, ":")+1:] }

func (b *box) writeConfig(dial, away []string) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, "config.toml"), []byte(b.config(dial, away)), 0o600)
}

// command runs this program once on the box and gives what it prints.
func (b *box) command(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.program, append(args, "--data", b.dir)...)
	cmd.Stdin = strings.NewReader(stdin)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: healthpost %s: %w: %s", b.name, args[0], err, strings.TrimSpace(errOut.String()))
	}
	return string(out), nil
}

// start runs the box and returns when its page answers.
func (b *box) start(ctx context.Context) error {
	log, err := os.OpenFile(b.dir+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own copy
	cmd := exec.Command(b.program, "run", "--data", b.dir)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ready := make(chan bool, 1)
	ended := make(chan error, 1)
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "Page: ") {
				ready <- true
				break
			}
		}
		io.Copy(io.Discard, out)
		ended <- cmd.Wait()
	}()
	b.mu.Lock()
	b.cmd, b.ended = cmd, ended
	b.mu.Unlock()
	select {
	case <-ready:
		return nil
	case err := <-ended:
		return fmt.Errorf("%s stopped at its start (%w): see %s.log", b.name, err, b.dir)
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startMax):
		return fmt.Errorf("%s did not answer within %s: see %s.log", b.name, startMax, b.dir)
	}
}

const (
	startMax = 60 * time.Second
	stopMax  = 15 * time.Second
)

// stop asks the process to end and makes it when it does not.
func (b *box) stop() error {
	b.mu.Lock()
	cmd, ended := b.cmd, b.ended
	b.cmd = nil
	b.mu.Unlock()
	for _, l := range b.links {
		defer l.close()
	}
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-time.After(stopMax):
		return errors.Join(fmt.Errorf("%s did not end within %s", b.name, stopMax), cmd.Process.Kill())
	}
}

func (b *box) client(ctx context.Context) (*node.Client, error) {
	c, err := node.Dial(ctx, node.NewOptions(b.dir))
	if err != nil {
		return nil, err
	}
	if !c.Running {
		return nil, errors.Join(fmt.Errorf("%s is not running", b.name), c.Close())
	}
	return c, nil
}

// status asks the running box.
func (b *box) status(ctx context.Context) (node.Status, error) {
	c, err := b.client(ctx)
	if err != nil {
		return node.Status{}, err
	}
	defer c.Close()
	return c.Status(ctx)
}

func (b *box) setLinked(up bool) {
	b.mu.Lock()
	b.linked = up
	b.mu.Unlock()
	for _, l := range b.links {
		l.setUp(up)
	}
}
