package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is where this process keeps the programs that it built.
var built struct {
	sync.Mutex
	dir  string // guarded by the mutex
	path string // of the program under test; guarded by the mutex
	root string // of the source tree; guarded by the mutex
}

// Main runs a package's tests and throws away what was built for them. A
// package that starts boxes has it as its TestMain.
func Main(m *testing.M) (code int) {
	defer func() {
		built.Lock()
		defer built.Unlock()
		if built.dir != "" {
			os.RemoveAll(built.dir)
		}
	}()
	return m.Run()
}

// Program is the binary under test, built when it is first asked for.
func Program() (string, error) {
	built.Lock()
	defer built.Unlock()
	if built.path != "" {
		return built.path, nil
	}
	if err := prepareLocked(); err != nil {
		return "", err
	}
	path := filepath.Join(built.dir, "healthpost")
	if err := buildLocked(path); err != nil {
		return "", err
	}
	built.path = path
	return path, nil
}

// MustProgram is program for a test.
func MustProgram(tb testing.TB) string {
	tb.Helper()
	path, err := Program()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// prepareLocked finds the source tree, upwards from where the test runs, and
// makes the folder for what is built.
func prepareLocked() error {
	if built.dir != "" {
		return nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return fmt.Errorf("no go.mod above the folder of the test")
		}
	}
	built.root = dir
	built.dir, err = os.MkdirTemp("", "healthpost-rig-")
	return err
}

// buildLocked builds the program with more arguments of go build.
func buildLocked(to string, args ...string) error {
	args = append([]string{"build", "-buildvcs=false", "-trimpath"}, args...)
	build := exec.Command("go", append(args, "-o", to, "./cmd/healthpost")...)
	build.Dir, build.Env = built.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return nil
}
