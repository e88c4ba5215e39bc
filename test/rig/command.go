package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/healthpost/healthpost/node"
)

// Result is how a command ended.
type Result struct {
	Out, Err string
	Code     int
}

// Command runs the program once on this box.
func (b *Box) Command(stdin string, args ...string) Result {
	b.T.Helper()
	b.program()
	ctx, cancel := context.WithTimeout(context.Background(), commandMax)
	defer cancel()
	cmd := b.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	err := b.begin(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.T.Errorf("%s: healthpost %s: %v", b.Name, strings.Join(args, " "), err)
	}
	return Result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// Must runs a command that has to work and gives what it printed.
func (b *Box) Must(args ...string) string {
	b.T.Helper()
	return b.MustWith("", args...)
}

// MustWith is Must for a command that reads from standard input.
func (b *Box) MustWith(stdin string, args ...string) string {
	b.T.Helper()
	r := b.Command(stdin, args...)
	if r.Code != 0 {
		b.T.Fatalf("%s: healthpost %s: exit code %d\n%s%s", b.Name, strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Status asks the running or stopped box.
func (b *Box) Status() node.Status {
	b.T.Helper()
	s, why := b.TryStatus()
	if why != "" {
		b.T.Fatal(why)
	}
	return s
}

// TryStatus asks a running box over its control socket, a stopped one by command.
func (b *Box) TryStatus() (s node.Status, why string) {
	if b.Running() && b.reached() {
		err := b.Ask(func(ctx context.Context, c *node.Client) (err error) {
			s, err = c.Status(ctx)
			return err
		})
		if err != nil {
			return s, fmt.Sprintf("%s: status: %v", b.Name, err)
		}
		return s, ""
	}
	r := b.Command("", "status", "--json")
	if r.Code != 0 {
		return s, fmt.Sprintf("%s: status: exit code %d: %s", b.Name, r.Code, r.Err)
	}
	if err := json.Unmarshal([]byte(r.Out), &s); err != nil {
		return s, fmt.Sprintf("%s: status: %v\n%s", b.Name, err, r.Out)
	}
	return s, ""
}

// reached tells whether the folder is where it is for the test too.
func (b *Box) reached() bool {
	_, err := os.Stat(filepath.Join(b.Dir, "config.toml"))
	return err == nil
}

// Ask connects to the running box's control socket.
func (b *Box) Ask(f func(context.Context, *node.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), askMax)
	defer cancel()
	c, err := node.Dial(ctx, node.NewOptions(b.Dir))
	if err != nil {
		return err
	}
	defer c.Close()
	if !c.Running {
		return fmt.Errorf("%s is not running", b.Name)
	}
	return f(ctx, c)
}

// Verify checks everything on disk and has to find nothing.
func (b *Box) Verify() {
	b.T.Helper()
	if r := b.Command("", "verify", "--full", "--json"); r.Code != 0 {
		b.T.Errorf("%s: verify: exit code %d\n%s%s", b.Name, r.Code, r.Out, r.Err)
	}
}

// Export gives one resource a line.
func (b *Box) Export() []string {
	b.T.Helper()
	return strings.FieldsFunc(b.Must("export"), func(r rune) bool { return r == '\n' })
}

// Import takes files in and gives the report.
func (b *Box) Import(paths ...string) node.ImportReport {
	b.T.Helper()
	var rep node.ImportReport
	if err := json.Unmarshal([]byte(b.Must(append([]string{"import", "--json"}, paths...)...)), &rep); err != nil {
		b.T.Fatal(err)
	}
	return rep
}

// RecordState asks where a record is: saved, copied, confirmed, refused.
func (b *Box) RecordState(rid string) (s node.RecordState, err error) {
	err = b.Ask(func(ctx context.Context, c *node.Client) (err error) {
		s, err = c.Record(ctx, rid)
		return err
	})
	return s, err
}
