package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/healthpost/healthpost/node"
)

const (
	startMax   = 3 * time.Minute
	stopMax    = 2 * time.Minute
	commandMax = 5 * time.Minute
	askMax     = 2 * time.Minute // one question over the control socket
)

// Place is a network that a box lives in, when it is not that of the test itself.
type Place interface {
	Start(*exec.Cmd) error
	Dial(address string) (net.Conn, error)
}

// Box is one folder and, while it runs, one process. What is exported may be set
// while the box is stopped; Configure writes it down.
type Box struct {
	T           testing.TB
	Name        string
	Role        string
	Dir         string
	LogFile     string        // takes the process's standard error
	PageAddress string        // host:port
	PeerPort    string        // of its libp2p listener, when it listens on loopback
	Listen      []string      // multiaddrs
	Settings    string        // more lines of its configuration
	Dial        []string      // multiaddrs; none leaves the hubs of the ledger
	Wrap        []string      // command in front of the program, which must end up as the same process
	Program     string        // instead of the program under test
	Env         []string      // besides the usual
	Place       Place         // nil is the network of the test
	StartedIn   time.Duration // from the start of the process to its own word that the page is there
	pages       pages

	mu    sync.Mutex
	cmd   *exec.Cmd          // guarded by mu; nil before its first start
	ready chan time.Duration // gives once how long the page took
	ended chan struct{}      // closed when cmd has ended
}

// NewBox makes the folder of a box. The process, if any, ends with the test.
func NewBox(t testing.TB, name, role string, wrap ...string) *Box {
	t.Helper()
	return NewBoxIn(t, filepath.Join(t.TempDir(), "box"), name, role, wrap...)
}

// NewBoxIn is NewBox with a folder that is not there yet.
func NewBoxIn(t testing.TB, dir, name, role string, wrap ...string) *Box {
	t.Helper()
	b := &Box{T: t, Name: name, Role: role, Dir: dir, Wrap: wrap}
	b.TakePorts()
	b.init()
	return b
}

// NewBoxAt makes a box in a network of its own; listen are the addresses there.
func NewBoxAt(t testing.TB, place Place, name, role, page string, listen ...string) *Box {
	t.Helper()
	b := &Box{T: t, Name: name, Role: role, Dir: filepath.Join(t.TempDir(), "box"), Place: place, PageAddress: page, Listen: listen}
	b.init()
	return b
}

// TakePorts gives the box ports of loopback.
func (b *Box) TakePorts() {
	b.T.Helper()
	b.PageAddress, b.PeerPort = "127.0.0.1:"+FreePort(b.T), FreePort(b.T)
	b.Listen = []string{"/ip4/127.0.0.1/tcp/" + b.PeerPort}
}

func (b *Box) init() {
	b.T.Helper()
	b.Must("init", "--role", b.Role, "--name", b.Name)
	b.Configure(nil)
	b.ends()
}

// ends gives the box its log, ends it with the test and keeps the log's end when the test failed.
func (b *Box) ends() {
	b.LogFile = filepath.Join(b.T.TempDir(), "log")
	b.T.Cleanup(func() {
		if b.Running() {
			b.Kill()
		}
		if b.T.Failed() {
			b.T.Logf("end of the log of %s:\n%s", b.Name, b.LogTail())
		}
	})
}

// Configure writes config.toml; no address to dial leaves the hubs of the ledger.
func (b *Box) Configure(dial []string) {
	b.T.Helper()
	b.Dial = dial
	text := fmt.Sprintf("page = %q\nlisten = [%s]\nlan = false\nprofile = \"lan\"\nlanguages = [\"en\"]\n", b.PageAddress, quoted(b.Listen))
	if len(dial) > 0 {
		text += "dial = [" + quoted(dial) + "]\n"
	}
	text += b.Settings
	if len(b.Wrap) > 0 { // the folder is seen by the wrapped program alone
		b.shell(text, "cat > config.toml")
		return
	}
	if err := os.WriteFile(filepath.Join(b.Dir, "config.toml"), []byte(text), 0o600); err != nil {
		b.T.Fatal(err)
	}
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, strconv.Quote(s))
	}
	return strings.Join(out, ", ")
}

// PeerID is what others call the box's libp2p host.
func (b *Box) PeerID() string {
	b.T.Helper()
	id, err := node.PeerIDOf(b.Dir)
	if err != nil {
		b.T.Fatal(err)
	}
	return id
}

// Address is where another box dials this one.
func (b *Box) Address() string { return b.Listen[0] + "/p2p/" + b.PeerID() }

// shell runs a script in the box's folder as the box sees it.
func (b *Box) shell(stdin, script string) string {
	b.T.Helper()
	cmd := exec.Command("sh", "-c", "cd \"$0\" && "+script, b.Dir)
	if len(b.Wrap) > 0 {
		cmd = exec.Command(b.Wrap[0], append(b.Wrap[1:], "sh", "-c", "cd \"$0\" && "+script, b.Dir)...)
	}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.T.Fatalf("%s: %s: %v\n%s", b.Name, script, err, out)
	}
	return string(out)
}

// program is what the box runs. It is built when the first box asks for it, which may
// take longer than a command is given.
func (b *Box) program() string {
	b.T.Helper()
	if b.Program != "" {
		return b.Program
	}
	return MustProgram(b.T)
}

func (b *Box) command(ctx context.Context, args ...string) *exec.Cmd {
	b.T.Helper()
	line := append(append(append([]string{}, b.Wrap...), b.program()), args...)
	cmd := exec.CommandContext(ctx, line[0], append(line[1:], "--data", b.Dir)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "TZ=UTC", "HOME=" + os.Getenv("HOME")}
	cmd.Env = append(cmd.Env, b.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// begin starts a process where the box lives.
func (b *Box) begin(cmd *exec.Cmd) error {
	if b.Place != nil {
		return b.Place.Start(cmd)
	}
	return cmd.Start()
}

// LogTail is the end of what the box wrote to its log.
func (b *Box) LogTail() string {
	raw, err := os.ReadFile(b.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-6000):])
}

// Eventually waits for f to say "" and fails the test with its last words.
func (b *Box) Eventually(limit time.Duration, what string, f func() string) {
	b.T.Helper()
	Eventually(b.T, limit, what, f)
}
