package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func verifyCommand(g *global) *cobra.Command {
	var q node.VerifyRequest
	c := &cobra.Command{
		Use: "verify", Short: "Check what is on disk: hashes, signatures, order, tree", Args: cobra.NoArgs,
		Long: "Check what is on disk: hashes, signatures, order, tree, checkpoint. It begins where an earlier check ended, if everything was\nread within the last week; --full reads everything. Names every record that fails, who wrote it and when, and what to do.\nExit code 3 when one does.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(c.ErrOrStderr()), progressbar.OptionSetDescription("verifying"),
				progressbar.OptionSetVisibility(!g.json), progressbar.OptionClearOnFinish(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("records"),
				progressbar.OptionSetPredictTime(true))
			rep, err := cl.Verify(c.Context(), q, func(p node.Progress) {
				bar.ChangeMax64(int64(p.Total))
				bar.Set64(int64(p.Done))
			})
			bar.Finish()
			if err != nil {
				return err
			}
			if err := g.print(c, rep, func(w io.Writer) { writeVerify(w, rep) }); err != nil {
				return err
			}
			if len(rep.Damage) > 0 {
				return fmt.Errorf("%d records or rows fail: %w", len(rep.Damage), node.ErrDamaged)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&q.Full, "full", false, "read everything, whatever was checked before")
	c.Flags().BoolVar(&q.Repair, "repair", false, "fetch what is damaged again from other boxes, by hash; the box must be running")
	return c
}

const damageLinesMax = 100

func writeVerify(w io.Writer, r node.VerifyReport) {
	fmt.Fprintf(w, "Checked %d entries and %d pending records in %s.\n", r.Entries, r.Pending, r.Took.Round(time.Millisecond))
	if r.From > 0 {
		fmt.Fprintf(w, "Entries before %d were found sound on %s or later; --full reads them again.\n", r.From, r.LastFull.Local().Format("2 January 2006 15:04"))
	}
	for _, d := range r.Damage[:min(len(r.Damage), damageLinesMax)] {
		fmt.Fprintf(w, "  DAMAGE %s: %s\n", d.Where, d.What)
		switch {
		case d.Box != "" && d.When != "":
			fmt.Fprintf(w, "         written by %s around %s\n", d.Box, timeRange(d.When, d.Until))
		case d.Box != "":
			fmt.Fprintf(w, "         written by %s\n", d.Box)
		case d.When != "":
			fmt.Fprintf(w, "         from around %s\n", timeRange(d.When, d.Until))
		}
	}
	if more := len(r.Damage) - damageLinesMax; more > 0 || r.More {
		fmt.Fprintf(w, "  and %d more; --json lists them\n", max(more, 1))
	}
	if r.Repaired > 0 {
		fmt.Fprintf(w, "Mended %d damaged places with what other boxes hold.\n", r.Repaired)
	}
	if len(r.Damage) == 0 {
		fmt.Fprintf(w, "Everything matches. Ledger size %d, root %s.\n", r.Size, r.Root)
		return
	}
	if len(r.Boxes) > 0 {
		fmt.Fprintf(w, "Concerned: records of %s", strings.Join(r.Boxes, ", "))
		if r.Since != "" {
			fmt.Fprintf(w, ", from %s", timeRange(r.Since, r.Until))
		}
		fmt.Fprintln(w, ".")
	}
	if r.Trouble != "" {
		fmt.Fprintf(w, "Not all of it could be mended: %s\n", r.Trouble)
	}
	for _, a := range r.Advice {
		fmt.Fprintf(w, "What to do: %s\n", a)
	}
}

func timeRange(from, to string) string {
	if to == "" || to == from {
		return from
	}
	return from + " to " + to
}
