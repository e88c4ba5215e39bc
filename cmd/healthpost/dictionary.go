package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func dictionaryCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "dictionary", Short: "Make records of this region shorter: train, list, publish dictionaries"}
	onlyParent(c)
	c.AddCommand(dictionaryTrain(g), dictionaryList(g), dictionaryPublish(g))
	return c
}

func dictionaryTrain(g *global) *cobra.Command {
	var out string
	var without []string
	c := &cobra.Command{
		Use: "train FILE|DIR...", Short: "Train a dictionary on FHIR bundles or NDJSON", Args: cobra.MinimumNArgs(1),
		Long: "Train a dictionary on FHIR bundles or NDJSON and write it to --out. Every fifth person is held out, and how long a visit of\nthose becomes is printed. Needs no box. Everybody who holds the ledger can read its dictionaries: only what the records of at\nleast five people share goes in. Look at the file before you publish it.",
		RunE: func(c *cobra.Command, args []string) error {
			files, err := importFiles(args)
			if err != nil {
				return err
			}
			slices.Sort(files)
			t, err := node.TrainDictionary(node.TrainRequest{Files: files, Without: without})
			if err != nil {
				return err
			}
			if err := writeNew(out, t.Bytes, 0o644); err != nil {
				return fmt.Errorf("writing the dictionary: %w", err)
			}
			return g.print(c, t, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %s: %d bytes, trained on %d people, name %s\n", out, t.Size, t.People, t.Name[:16])
				if t.Visits > 0 {
					fmt.Fprintf(w, "Measured on %d visits of %d other people: %d resources, %d bytes of JSON; sealed %d bytes, without it %d (medians); mean %d\n",
						t.Visits, t.HeldOut, t.Resources, t.JSON, t.Sealed, t.BuiltIn, t.Mean)
				}
				for _, f := range t.Unread {
					fmt.Fprintf(w, "Left out %s: no bundle\n", f)
				}
			})
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "region.zdict", "file to write")
	f.StringSliceVar(&without, "without", nil, "resource types to leave out")
	return c
}

func dictionaryList(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the dictionaries of the ledger", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			list, err := cl.Dictionaries(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "The ledger has no dictionary: records are packed with what the program brings.")
				}
				for _, d := range list {
					use := ""
					if d.InUse {
						use = "in use"
					}
					fmt.Fprintf(w, "%s  %6d bytes  entry %d  %s\n", d.Name[:16], d.Bytes, d.Seq, use)
				}
			})
		},
	}
}

func dictionaryPublish(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "publish FILE", Short: "Put a dictionary into the ledger, on a hub", Args: cobra.ExactArgs(1),
		Long: "Put a dictionary into the ledger, on a hub. Boxes pack with it from when it reaches them. It stays for ever, readable for\neverybody who holds the ledger: publish none that was trained on what is not yours to publish.",
		RunE: func(c *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("reading the dictionary: %w", err)
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			d, err := cl.PublishDictionary(c.Context(), b)
			if err != nil {
				return err
			}
			return g.print(c, d, func(w io.Writer) { fmt.Fprintf(w, "Published %s, %d bytes\n", d.Name[:16], d.Bytes) })
		},
	}
}
