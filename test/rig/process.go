package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Start runs the box and waits for its page.
func (b *Box) Start() {
	b.T.Helper()
	if err := b.TryStart(); err != nil {
		b.T.Fatalf("starting %s: %v\n%s", b.Name, err, b.LogTail())
	}
}

// TryStart is Start for a box that may not come up.
func (b *Box) TryStart() error {
	if err := b.Launch(); err != nil {
		return err
	}
	return b.Await()
}

// Launch starts the process and does not wait for its page; Await does.
func (b *Box) Launch() error {
	log, err := os.OpenFile(b.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
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
	begun := time.Now()
	if err := b.begin(cmd); err != nil {
		return err
	}
	ready, ended := make(chan time.Duration, 1), make(chan struct{})
	go func() {
		for s, once := bufio.NewScanner(out), true; s.Scan(); {
			if once && strings.HasPrefix(s.Text(), "Page: ") {
				once = false
				ready <- time.Since(begun)
			}
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		close(ended)
	}()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cmd, b.ready, b.ended = cmd, ready, ended
	return nil
}

// Await waits for the page of a launched box.
func (b *Box) Await() error {
	b.mu.Lock()
	cmd, ready, ended := b.cmd, b.ready, b.ended
	b.mu.Unlock()
	select {
	case b.StartedIn = <-ready:
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
	b.Signal(syscall.SIGKILL)
	b.WaitEnd()
}

// Stop ends the process as a shutdown would; it has to end well.
func (b *Box) Stop() {
	b.T.Helper()
	b.Signal(syscall.SIGTERM)
	if code := b.WaitEnd(); code != 0 {
		b.T.Errorf("%s ended with exit code %d when stopped\n%s", b.Name, code, b.LogTail())
	}
}

// Signal sends a signal to the process.
func (b *Box) Signal(s syscall.Signal) {
	cmd, _ := b.process()
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		b.T.Errorf("%s: sending %s: %v", b.Name, s, err)
	}
}

// WaitEnd gives the exit code, -1 after a signal.
func (b *Box) WaitEnd() int {
	b.T.Helper()
	cmd, ended := b.process()
	for _, s := range []syscall.Signal{0, syscall.SIGQUIT, syscall.SIGKILL} { // after SIGQUIT its log says where it waits
		if s != 0 {
			b.T.Errorf("%s did not end within %s, sending %s; its log:\n%s", b.Name, stopMax, s, b.LogTail())
			cmd.Process.Signal(s)
		}
		select {
		case <-ended:
			return cmd.ProcessState.ExitCode()
		case <-time.After(stopMax):
		}
	}
	b.T.Fatalf("%s cannot be ended", b.Name)
	return 0
}
