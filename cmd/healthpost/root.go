package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

// global holds the flags that every command takes.
type global struct {
	data    string
	config  string
	json    bool
	verbose bool
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use:           "healthpost",
		Short:         "Health records that survive power cuts and missing networks",
		Version:       node.Version,
		SilenceErrors: true, SilenceUsage: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	onlyParent(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&g.data, "data", "", "folder of the box (default $HEALTHPOST_DATA, else healthpost-data)")
	f.StringVar(&g.config, "config", "", "configuration file (default DATA/config.toml when it exists)")
	f.BoolVar(&g.json, "json", false, "print results as JSON")
	f.BoolVar(&g.verbose, "verbose", false, "log more")
	root.AddCommand(initCommand(g), runCommand(g), joinCommand(g), regionCommand(g), statusCommand(g), syncCommand(g), parcelCommand(g), releaseCommand(g), importCommand(g),
		exportCommand(g), verifyCommand(g), proveCommand(g), checkProofCommand(g), rootCommand(g), evidenceCommand(g), checkEvidenceCommand(g), staffCommand(g), keysCommand(g), dictionaryCommand(g), demoCommand(g))
	wrapArgs(root)
	return root
}

// onlyParent makes a command that does nothing by itself: alone it shows its
// help, with an unknown subcommand it was used wrongly.
func onlyParent(c *cobra.Command) {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("there is no command %q", args[0])
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
}

// wrapArgs makes a wrong number of arguments a usage error in every command.
func wrapArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			var u usageError
			if err != nil && !errors.As(err, &u) {
				return usagef("%s: %w", cmd.CommandPath(), err)
			}
			return err
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

func (g *global) dataDir() (string, error) {
	dir := g.data
	if dir == "" {
		dir = os.Getenv("HEALTHPOST_DATA")
	}
	if dir == "" {
		dir = "healthpost-data"
	}
	return filepath.Abs(dir)
}

// options are the defaults, changed by the file, the environment and flags, in
// that order.
func (g *global) options() (node.Options, error) {
	dir, err := g.dataDir()
	if err != nil {
		return node.Options{}, err
	}
	o := node.NewOptions(dir)
	o.Stalled = endProcess
	if err := loadConfig(&o, g.config, os.Getenv); err != nil {
		return o, err
	}
	o.Log = newLogger(os.Stderr, g.verbose)
	o.AskLock = askLock
	return o, nil
}

func newLogger(w io.Writer, verbose bool) zerolog.Logger {
	level := zerolog.InfoLevel
	if verbose {
		level = zerolog.DebugLevel
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

// print writes v as JSON when asked for, else what text writes.
func (g *global) print(c *cobra.Command, v any, text func(w io.Writer)) error {
	w := c.OutOrStdout()
	if g.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	text(w)
	return nil
}

// client reaches the box of this command.
func (g *global) client(c *cobra.Command) (*node.Client, error) {
	o, err := g.options()
	if err != nil {
		return nil, err
	}
	if !g.verbose {
		o.Log = o.Log.Level(zerolog.WarnLevel)
	}
	cl, err := node.Dial(c.Context(), o)
	if err != nil {
		return nil, hint(o.Data, err)
	}
	return cl, nil
}

func hint(dir string, err error) error {
	if isNoBox(err) {
		return fmt.Errorf("%w: make one with 'healthpost init --data %s', or choose another folder with --data", err, dir)
	}
	return err
}

// endProcess ends a process whose disk hangs: nothing in it can end in order.
func endProcess(err error) {
	fmt.Fprintf(os.Stderr, "healthpost: the disk does not answer: %v. The box ends here so that another hub can lead; what was saved is safe. Look at the disk, then start the box again.\n", err)
	os.Exit(1)
}
