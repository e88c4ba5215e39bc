package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

// typedSharesMax bounds what is typed on standard input: a PIN and sheets.
const typedSharesMax = 128 << 10

// escrowOpen brings sheets to the box. What they say is read from files or standard input.
func escrowOpen(g *global) *cobra.Command {
	var q node.EscrowRequest
	var files []string
	var by string
	c := &cobra.Command{
		Use: "open CHART --by NAME --share FILE...", Short: "Open a closed chart on this box with sheets of the escrow; the PIN is read from standard input", Args: cobra.MaximumNArgs(1),
		Long: "Open a chart on this box that a patient limited to boxes which are lost. CHART stands in its page's address behind /patient/. A file\nhas the lines of a sheet, or is a picture of its QR code; without --share the lines of the sheets are read from standard input\nbehind the PIN, one sheet after the other. The use is on record: in the region's ledger, in the patient's list, on the page of\nwho may read. --test tries sheets and opens nothing; with a CHART it tells whether they would open it.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && !q.Test {
				return usagef("region escrow open: which chart? It stands in the address of its page")
			}
			q.Chart = strings.Join(args, "")
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			tiles, err := cl.Staff(c.Context())
			if err != nil {
				return err
			}
			if q.By, err = staffID(tiles, by); err != nil {
				return err
			}
			if err := readShares(c, &q, by, files); err != nil {
				return err
			}
			o, err := cl.OpenEscrowBy(c.Context(), q)
			if err != nil {
				return err
			}
			return g.print(c, o, func(w io.Writer) { writeEscrowOpened(w, o) })
		},
	}
	f := c.Flags()
	f.StringArrayVar(&files, "share", nil, "file with a sheet, or a picture of its code; once for each")
	f.StringVar(&by, "by", "", "who does it: a clinician or administrator of this box, by name or id")
	f.IntVar(&q.Days, "days", 0, "for how many days the chart is open here (default: without end, where no box at home is a member any more)")
	f.BoolVar(&q.Test, "test", false, "try the sheets and open nothing")
	return c
}

// readShares reads the PIN, and the sheets from their files or behind it.
func readShares(c *cobra.Command, q *node.EscrowRequest, name string, files []string) error {
	in := bufio.NewReader(io.LimitReader(c.InOrStdin(), typedSharesMax))
	fmt.Fprintf(c.ErrOrStderr(), "PIN of %s: ", name)
	line, err := in.ReadString('\n')
	if err != nil && err != io.EOF {
		return fmt.Errorf("reading a PIN: %w", err)
	}
	q.PIN = strings.TrimSpace(line)
	for _, f := range files {
		raw, err := readBounded(f, node.EscrowShareBytesMax)
		if err != nil {
			return fmt.Errorf("reading a sheet: %w", err)
		}
		text, err := node.EscrowShareText(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		q.Shares = append(q.Shares, text)
	}
	if len(files) > 0 {
		return nil
	}
	fmt.Fprintln(c.ErrOrStderr(), "The lines of each sheet, then the end of the input (Ctrl-D):")
	rest, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("reading the sheets: %w", err)
	}
	q.Shares = node.SplitShares(string(rest))
	return nil
}

func writeEscrowOpened(w io.Writer, o node.EscrowOpened) {
	switch {
	case o.Tested:
		fmt.Fprintf(w, "These sheets give key %s. Nothing was opened.\n", o.Key)
		if o.Keys > 0 {
			fmt.Fprintf(w, "They would open %d keys of this chart.\n", o.Keys)
		}
	case o.Until.IsZero():
		fmt.Fprintln(w, "The chart is open on this box, without end.")
	default:
		fmt.Fprintf(w, "The chart is open on this box until %s.\n", o.Until.Local().Format("2 January 2006, 15:04"))
	}
	if len(o.Others) > 0 {
		fmt.Fprintf(w, "Newer entries need the sheets of another key: %s.\n", strings.Join(o.Others, ", "))
	}
	if !o.Tested {
		fmt.Fprintln(w, "The patient's list of looks and the page of who may read say so. Destroy the files with the lines.")
	}
}
