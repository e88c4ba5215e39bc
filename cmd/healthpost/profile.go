package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

func regionAssign(g *global) *cobra.Command {
	var q node.AssignRequest
	c := &cobra.Command{
		Use: "assign BOX [full|partial]", Short: "Say what a box's replica holds: everything, or its own people and those assigned to it", Args: cobra.RangeArgs(1, 2),
		Long: `Say what a box's replica holds. A full one holds every record of the region. A partial one holds what its box wrote, the people
it wrote about, those assigned to it, and what everybody must know; of all else only what proves that nothing was left out.
A hub says so for every box that does not order, a clinic for field devices. What a box holds already it keeps until
'healthpost release' runs on it.`,
		RunE: func(c *cobra.Command, args []string) error {
			q.Box = args[0]
			if len(args) == 2 {
				q.Mode = record.Mode(args[1])
				if q.Mode != record.ModeFull && q.Mode != record.ModePartial {
					return usagef("%q is neither full nor partial", args[1])
				}
			}
			if q.Mode == "" && len(q.Add)+len(q.Remove) == 0 {
				return usagef("nothing to assign: say full or partial, or name compartments")
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			p, err := cl.Assign(c.Context(), q)
			if err != nil {
				return err
			}
			return g.print(c, p, func(w io.Writer) {
				if p.Waiting {
					fmt.Fprintf(w, "Saved. %q holds it when a hub has ordered this and the box has synced.\n", p.Name)
					return
				}
				fmt.Fprintf(w, "%q holds a %s replica, %d people assigned.\n", p.Name, p.Mode, p.Assigned)
			})
		},
	}
	c.Flags().StringArrayVar(&q.Add, "compartment", nil, "compartment to assign, 32 hexadecimal digits; may be repeated")
	c.Flags().StringArrayVar(&q.Remove, "remove", nil, "compartment to assign no longer; may be repeated")
	return c
}

func releaseCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "release", Short: "On a partial replica: remove what its profile does not hold any more and what is confirmed", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			r, err := cl.Release(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, r, func(w io.Writer) {
				fmt.Fprintf(w, "Removed %d records (%d bytes) of %d people; %d stay because they are this box's own or not confirmed.\n", r.Entries, r.Bytes, r.People, r.Kept)
			})
		},
	}
}
