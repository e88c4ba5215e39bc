package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func staffCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "staff", Short: "See, add and end the people who sign in on this box"}
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
	add.Flags().StringVar(&role, "role", "", "roles, separated by commas: "+strings.Join(node.RoleNames(), ", ")+" (default: nurse, and administrator for the first)")
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
					fmt.Fprintf(w, "%s  %s  %s\n", t.ID[:8], t.Name, strings.Join(t.Roles, ","))
				}
			})
		},
	}
	revoke := &cobra.Command{
		Use: "revoke ID|NAME", Short: "End somebody's account on this box; what they wrote stays", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			tiles, err := cl.Staff(c.Context())
			if err != nil {
				return err
			}
			id, err := staffID(tiles, args[0])
			if err != nil {
				return err
			}
			return cl.EndStaff(c.Context(), id)
		},
	}
	onlyParent(c)
	c.AddCommand(add, list, revoke)
	return c
}

// staffID finds one account by the first digits of its id, at least eight, or by its whole name.
func staffID(tiles []node.StaffTile, text string) (string, error) {
	var found []string
	for _, t := range tiles {
		if t.Name == text || len(text) >= 8 && strings.HasPrefix(t.ID, strings.ToLower(text)) {
			found = append(found, t.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", errors.New("ending an account: nobody here has this name or id: see 'healthpost staff list'")
	case 1:
		return found[0], nil
	}
	return "", errors.New("ending an account: several people here have this name: give the id that 'healthpost staff list' shows")
}
