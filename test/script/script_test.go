package script_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// programDir holds the binary under test.
var programDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "healthpost-script-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(dir, "healthpost"), "../../cmd/healthpost")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	programDir = dir
	return m.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": code, "settings": settings, "up": up, "down": down, "invite": invite, "device": device, "region": region, "until": until, "damage": damage, "cut": cut,
		},
	})
}

// running are the boxes of one script, by folder.
type running struct {
	mu    sync.Mutex
	boxes map[string]*box // guarded by mu
}

type box struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

type runningKey struct{}

func setup(env *testscript.Env) error {
	data, err := filepath.Abs(filepath.Join("..", "testdata"))
	if err != nil {
		return err
	}
	env.Setenv("PATH", programDir+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("TESTDATA", data)
	env.Setenv("LC_ALL", "C.UTF-8")
	r := &running{boxes: map[string]*box{}}
	env.Values[runningKey{}] = r
	env.Defer(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, b := range r.boxes {
			b.cmd.Process.Kill()
			<-b.ended
		}
	})
	return nil
}

const commandMax = "60" // seconds

func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec("timeout", append([]string{commandMax}, args[1:]...)...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// freePort asks the kernel. Nobody else here takes it before the box does.
func freePort(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	return port
}

func settings(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: settings DIR")
	}
	page := "127.0.0.1:" + freePort(ts)
	text := fmt.Sprintf("page = %q\nlisten = [\"/ip4/127.0.0.1/tcp/%s\"]\nlan = false\nprofile = \"lan\"\n", page, freePort(ts))
	ts.Check(os.MkdirAll(ts.MkAbs(args[0]), 0o700))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[0]), "config.toml"), []byte(text), 0o600))
	ts.Setenv("page_"+args[0], page)
}

const startMax = 3 * time.Minute

func up(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: up DIR")
	}
	cmd := exec.Command(filepath.Join(programDir, "healthpost"), "run", "--data", ts.MkAbs(args[0]))
	cmd.Dir = ts.Getenv("WORK")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(ts.MkAbs(args[0])+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	b := &box{cmd, make(chan struct{})}
	ready := make(chan struct{})
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		if strings.HasPrefix(line, "Page: ") {
			close(ready)
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		close(b.ended)
	}()
	r := ts.Value(runningKey{}).(*running)
	r.mu.Lock()
	r.boxes[args[0]] = b
	r.mu.Unlock()
	select {
	case <-ready:
	case <-b.ended:
		ts.Fatalf("%s ended at its start: %s\n%s", args[0], cmd.ProcessState, ts.ReadFile(args[0]+".log"))
	case <-time.After(startMax):
		ts.Fatalf("%s has no page after %s", args[0], startMax)
	}
}

func down(ts *testscript.TestScript, neg bool, args []string) {
	r := ts.Value(runningKey{}).(*running)
	r.mu.Lock()
	defer r.mu.Unlock()
	if neg || len(args) != 1 || r.boxes[args[0]] == nil {
		ts.Fatalf("usage: down DIR, of a box that is up")
	}
	b := r.boxes[args[0]]
	ts.Check(b.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-b.ended:
	case <-time.After(startMax):
		ts.Fatalf("%s did not end", args[0])
	}
	delete(r.boxes, args[0])
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		ts.Fatalf("%s ended with exit code %d\n%s", args[0], code, ts.ReadFile(args[0]+".log"))
	}
}

func invite(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: invite NAME DIR ROLE")
	}
	ts.Check(ts.Exec("healthpost", "region", "invite", "--json", "--role", args[2], "--data", args[1]))
	var inv struct {
		Text string `json:"invitation"`
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &inv))
	ts.Setenv(args[0], inv.Text)
}

func device(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: device NAME DIR BOX")
	}
	ts.Check(ts.Exec("healthpost", "region", "members", "--json", "--data", args[1]))
	var members []struct{ Name, Device string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &members))
	for _, m := range members {
		if m.Name == args[2] {
			ts.Setenv(args[0], m.Device)
			return
		}
	}
	ts.Fatalf("no member is called %s", args[2])
}

func region(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: region NAME DIR")
	}
	ts.Check(ts.Exec("healthpost", "status", "--json", "--data", args[1]))
	var status struct{ Region string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &status))
	ts.Setenv(args[0], status.Region)
}

const (
	untilMax  = 3 * time.Minute
	pollEvery = 200 * time.Millisecond
)

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP PROGRAM ARG...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for end := time.Now().Add(untilMax); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && want.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("waited %s for %q: %v\n%s", untilMax, args[0], err, out)
		}
	}
}

// cut leaves the first bytes of a file.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE BYTES")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	st, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if st.Size() <= n {
		ts.Fatalf("%s has %d bytes", args[0], st.Size())
	}
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage DIR")
	}
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "db", "index", "*.sst"))
	ts.Check(err)
	var largest []byte
	var name string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		ts.Check(err)
		if len(raw) > len(largest) {
			largest, name = raw, f
		}
	}
	if largest == nil {
		ts.Fatalf("%s has no tables", args[0])
	}
	largest[len(largest)/3] ^= 4
	ts.Check(os.WriteFile(name, largest, 0o600))
}
