package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

// regionErase asks for an erasure; two people give their PINs on standard input.
func regionErase(g *global) *cobra.Command {
	var q node.EraseRequest
	c := &cobra.Command{
		Use: "erase CHART --reason REASON --by NAME --with NAME", Short: "Have a chart, or a record of it, erased on every box; both PINs are read from standard input", Args: cobra.ExactArgs(1),
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
			q.Patient = args[0]
			in := bufio.NewReader(io.LimitReader(c.InOrStdin(), 128))
			for _, x := range []struct{ who, pin *string }{{&q.By, &q.ByPIN}, {&q.With, &q.WithPIN}} {
				name := *x.who
				if *x.who, err = staffID(tiles, name); err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "PIN of %s: ", name)
				line, err := in.ReadString('\n')
				if err != nil && err != io.EOF {
					return fmt.Errorf("reading a PIN: %w", err)
				}
				*x.pin = strings.TrimSpace(line)
			}
			return cl.Erase(c.Context(), q)
		},
	}
	c.Flags().StringVar(&q.Record, "record", "", "erase this record of the chart alone, by its id")
	c.Flags().StringVar(&q.Reason, "reason", "asked", "why: asked (by the patient), mistake, ordered (by a court or an office), expired")
	c.Flags().StringVar(&q.By, "by", "", "who asks for it: an administrator of this box, by name or id")
	c.Flags().StringVar(&q.With, "with", "", "the second person, by name or id")
	return c
}

func regionErasures(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "erasures", Short: "List what was erased, and which boxes have not said yet that they hold it no more", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			list, err := cl.Erasures(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, list, func(w io.Writer) {
				for _, x := range list {
					what := "chart " + x.Chart
					if x.Chart == "" {
						what = "record " + x.Record
					}
					fmt.Fprintf(w, "%s  %s  %s, asked for on %s\n", x.At.Format("2006-01-02"), what, x.Reason, x.By)
					switch {
					case len(x.Waiting) == 0:
						fmt.Fprintf(w, "            done on all %d boxes\n", len(x.Attested))
					case x.Overdue:
						fmt.Fprintf(w, "            OVERDUE since %s: %s\n", x.Deadline.Format("2006-01-02"), strings.Join(x.Waiting, ", "))
					default:
						fmt.Fprintf(w, "            not yet, due %s: %s\n", x.Deadline.Format("2006-01-02"), strings.Join(x.Waiting, ", "))
					}
				}
			})
		},
	}
}
