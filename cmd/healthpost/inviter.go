package main

import (
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func regionInviter(g *global) *cobra.Command {
	var end bool
	c := &cobra.Command{
		Use: "inviter NAME|ID", Short: "Vote that a clinic may invite field devices, or with --end may no more", Args: cobra.ExactArgs(1),
		Long: "Vote on this hub that a clinic may invite field devices. It may once more than half of the hubs voted so: run it on the others too, or\napprove it there (region hubs). With --end it may no more, and what it invited and nobody used works no more.",
		RunE: func(c *cobra.Command, args []string) error {
			return voteWith(g, c, func(cl *node.Client) (node.Voted, error) { return cl.SetInviter(c.Context(), args[0], !end) })
		},
	}
	c.Flags().BoolVar(&end, "end", false, "take the authority back")
	return c
}
