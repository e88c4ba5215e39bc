package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node/demo"
)

func demoCommand(g *global) *cobra.Command {
	var patients int
	var seed uint64
	var console string
	var noOpen bool
	c := &cobra.Command{
		Use: "demo", Short: "Run a whole region on this machine: 3 hubs, 2 clinics, a field device, sample patients", Args: cobra.NoArgs,
		Long: "Run a whole region on this machine: 3 hubs, 2 clinics, a field device, sample patients. The console page cuts and restores links.\nThe boxes stay in the data folder (default healthpost-demo) and are used again at the next start.",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			dir := g.data
			if dir == "" {
				dir = "healthpost-demo"
			}
			if dir, err = filepath.Abs(dir); err != nil {
				return err
			}
			l, err := net.Listen("tcp", console)
			if err != nil {
				return fmt.Errorf("opening the console page: %w: choose another address with --console", err)
			}
			o := demo.NewOptions(program, dir)
			o.Patients, o.Seed, o.Console, o.Out = patients, seed, console, c.OutOrStdout()
			r, err := demo.Start(c.Context(), o)
			if err != nil {
				return errors.Join(err, l.Close())
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			url := "http://" + l.Addr().String()
			fmt.Fprintf(c.OutOrStdout(), "\nConsole: %s\n", url)
			r.WritePages(c.OutOrStdout())
			fmt.Fprintln(c.OutOrStdout(), "Stop with Ctrl-C.")
			if !noOpen {
				open(url)
			}
			return r.Serve(c.Context(), l, newLogger(os.Stderr, g.verbose))
		},
	}
	c.Flags().IntVar(&patients, "patients", 12, "sample patients at each clinic")
	c.Flags().Uint64Var(&seed, "seed", 1, "seed of the sample patients")
	c.Flags().StringVar(&console, "console", "localhost:8080", "address of the console page")
	c.Flags().BoolVar(&noOpen, "no-open", false, "do not open a browser")
	return c
}

// open shows a page in the desktop's browser, where there is a desktop.
func open(url string) {
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return
	}
	if cmd := exec.Command("xdg-open", url); cmd.Start() == nil {
		go cmd.Wait() // it ends by itself once the browser has the address
	}
}
