package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func staffCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "staff", Short: "See and add the people who sign in on this box"}
	var role string
	add := &cobra.Command{
		Use: "add NAME", Short: "Add a staff member; the PIN is read from standard input", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			fmt.Fprint(c.ErrOrStderr(), "PIN (6 digits): ")
			line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), 64)).ReadString('\n')
			if err != nil && err != io.EOF {
				return fmt.Errorf("reading the PIN: %w", err)
			}
			return cl.AddStaff(c.Context(), node.NewStaff{Name: args[0], PIN: strings.TrimSpace(line), Role: role})
		},
	}
	add.Flags().StringVar(&role, "role", "", "staff or administrator (default: administrator for the first, staff for others)")
	list := &cobra.Command{
		Use: "list", Short: "List who can sign in here", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			tiles, err := cl.Staff(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, tiles, func(w io.Writer) {
				for _, t := range tiles {
					fmt.Fprintf(w, "%s  %s\n", t.ID[:8], t.Name)
				}
			})
		},
	}
	onlyParent(c)
	c.AddCommand(add, list)
	return c
}
