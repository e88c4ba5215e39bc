package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func regionHubs(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "hubs", Short: "List the hubs and what they have to decide, approve, expel",
		Long: "List the hubs and what they have to decide. More than half of the hubs must agree before a box becomes a hub, before a hub\nis expelled and before recovery sheets count; each agrees by a command that somebody runs on it. A vote counts for 30 days.",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			set, err := cl.HubSet(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, set, func(w io.Writer) { writeHubs(w, set) })
		},
	}
	c.AddCommand(hubsApprove(g), hubsExpel(g))
	return c
}

func writeHubs(w io.Writer, set node.HubSet) {
	for _, h := range set.Hubs {
		note := ""
		if h.Self {
			note = "  (this box)"
		}
		fmt.Fprintf(w, "hub       %s  %s%s\n", h.Device[:12], h.Name, note)
	}
	fmt.Fprintf(w, "A change of hubs takes the word of %d of %d.\n", set.Needed, len(set.Hubs))
	for i := range set.Proposals {
		p := &set.Proposals[i]
		fmt.Fprintf(w, "open      %s  %s\n", p.ID, p.Words())
		if p.Reason != "" {
			fmt.Fprintf(w, "          because: %s\n", p.Reason)
		}
		fmt.Fprintf(w, "          for it: %s; %d more needed until %s\n", strings.Join(p.Votes, ", "), p.Missing(), p.Lapses.Local().Format("2 January 2006"))
	}
}

// writeVoted tells what this hub's vote did.
func writeVoted(w io.Writer, v node.Voted) {
	if v.Passed {
		fmt.Fprintf(w, "Done: %s.\n", v.Words)
		return
	}
	fmt.Fprintf(w, "This hub voted to %s. It waits for %d more approvals: run 'healthpost region hubs approve %s' on another hub.\n", v.Words, v.Proposal.Missing(), v.Proposal.ID)
}

func hubsApprove(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "approve NAME|ID", Short: "Give this hub's word for an open proposal", Args: cobra.ExactArgs(1),
		Long: "Give this hub's word for an open proposal, named by its 12 digits in 'region hubs' or by the box it is about. Make sure first,\nby voice or in person, that whoever asks is who they say.",
		RunE: func(c *cobra.Command, args []string) error {
			return voteWith(g, c, func(cl *node.Client) (node.Voted, error) { return cl.Approve(c.Context(), args[0]) })
		},
	}
}

func hubsExpel(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "expel NAME|ID [REASON]", Short: "Vote to end a hub's membership", Args: cobra.RangeArgs(1, 2),
		Long: "Vote to end a hub's membership. Once more than half of the hubs did, its signatures count no more. The reason is kept in the\nledger for all members.",
		RunE: func(c *cobra.Command, args []string) error {
			reason := ""
			if len(args) > 1 {
				reason = args[1]
			}
			return voteWith(g, c, func(cl *node.Client) (node.Voted, error) { return cl.Expel(c.Context(), args[0], reason) })
		},
	}
}

func voteWith(g *global, c *cobra.Command, vote func(*node.Client) (node.Voted, error)) error {
	cl, err := g.client(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	v, err := vote(cl)
	if err != nil {
		return err
	}
	return g.print(c, v, func(w io.Writer) { writeVoted(w, v) })
}
