package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func regionRules(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "rules [FILE]", Short: "Show what is allowed in the region, or vote for other rules", Args: cobra.MaximumNArgs(1),
		Long: "Show the rules by which this box decides who may do what, in the Cedar language. With a FILE this hub votes for the rules in\nit: they hold on every box once more than half of the hubs voted for the same text, so run it with the same file on the others.\nRules that cannot be read are refused. Start from what this prints, and read docs/ACCESS.md.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return showRules(g, c)
			}
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("reading the rules: %w", err)
			}
			return voteWith(g, c, func(cl *node.Client) (node.Voted, error) { return cl.SetRules(c.Context(), text) })
		},
	}
}

func showRules(g *global, c *cobra.Command) error {
	cl, err := g.client(c)
	if err != nil {
		return err
	}
	defer cl.Close()
	r, err := cl.RegionRules(c.Context())
	if err != nil {
		return err
	}
	return g.print(c, r, func(w io.Writer) {
		from := fmt.Sprintf("by the votes of the hubs, entry %d", r.Seq)
		if r.Default {
			from = "those that the program brings: the hubs voted for no others"
		}
		fmt.Fprintf(w, "// In force: %s.\n", from)
		if r.Newer > 0 {
			fmt.Fprintf(w, "// %d passed since that this box cannot read: %s. Update it.\n", r.Newer, r.Reason)
		}
		fmt.Fprint(w, r.Text)
	})
}
