// Command healthpost is the box: it keeps health records where power and
// network fail, shows the page, and reconciles with its peers.
//
// Exit codes: 0 done, 1 it did not work, 2 used wrongly, 3 verification found damage or another ledger.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/healthpost/healthpost/node"
)

// memoryShare is how much of the memory that it may use the program takes for itself before
// it collects harder. The rest is for the pages of its files.
const memoryShare = 0.5

const (
	exitFailed = 1
	exitUsage  = 2
	exitDamage = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A machine that tells no size has no limit, as without this line.
	memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "healthpost:", err)
	var u usageError
	switch {
	case errors.As(err, &u):
		fmt.Fprintln(os.Stderr, "Try 'healthpost --help'.")
		return exitUsage
	case errors.Is(err, node.ErrDamaged), errors.Is(err, node.ErrOtherRoot):
		return exitDamage
	}
	return exitFailed
}

// usageError is a mistake in the command line, not in the world.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
