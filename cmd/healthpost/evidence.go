package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

func evidenceCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "evidence", Short: "List proofs that a hub or a box lied, hand them on, go on after them"}
	onlyParent(c)
	c.AddCommand(evidenceList(g), evidenceExport(g), evidenceClear(g))
	return c
}

func evidenceList(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the evidence that this box holds", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			list, err := cl.Evidence(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "No evidence against anybody.")
				}
				for _, e := range list {
					note := ""
					if e.Freezes {
						note = "  nothing is confirmed here because of it"
					}
					fmt.Fprintf(w, "%s  %-14s against %s, from %s on %s%s\n", e.ID[:12], e.Kind, strings.Join(e.Culprits, ", "), e.From, e.At.Local().Format("2 January 2006 15:04"), note)
				}
			})
		},
	}
}

func evidenceExport(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "export ID FILE", Short: "Write one piece of evidence to a file that anybody with the region's keys can check", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			b, err := cl.EvidenceFile(c.Context(), args[0])
			if err != nil {
				return err
			}
			if err := writeNew(args[1], b, 0o644); err != nil {
				return fmt.Errorf("writing the evidence: %w", err)
			}
			return g.print(c, map[string]any{"id": args[0], "file": args[1], "bytes": len(b)}, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %s, %d bytes. Who has the keys ('healthpost region keys') checks it with:\n  healthpost check-evidence %s --keys FILE\n", args[1], len(b), args[1])
			})
		},
	}
}

func evidenceClear(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "clear", Short: "Let this box confirm records again, once people have settled what happened", Args: cobra.NoArgs,
		Long: "Let this box confirm records again. Do it only after people of the region have compared roots on paper and know which ledger is\nthe right one, and that this box holds it. The evidence is kept.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			if err := cl.ClearEvidence(c.Context()); err != nil {
				return err
			}
			return g.print(c, map[string]bool{"cleared": true}, func(w io.Writer) { fmt.Fprintln(w, "This box confirms records again. The evidence is kept.") })
		},
	}
}

// checkedEvidence is what evidence that holds shows, or why it does not.
type checkedEvidence struct {
	Holds    bool          `json:"holds"`
	Why      string        `json:"why,omitempty"`
	ID       string        `json:"id,omitempty"`
	Kind     string        `json:"kind,omitempty"`
	Culprits []node.HubKey `json:"culprits,omitempty"` // a name where the keys have it
	Majority bool          `json:"majority,omitempty"`
	Size     uint64        `json:"size,omitempty"`
	Feed     string        `json:"feed,omitempty"` // epoch and lane of an equivocation
	N        uint64        `json:"n,omitempty"`
	By       time.Time     `json:"promisedBy,omitzero"`
	Missing  []string      `json:"missing,omitempty"` // records that a ledger of Size should hold
}

func checkEvidenceCommand(g *global) *cobra.Command {
	var keys string
	c := &cobra.Command{
		Use: "check-evidence FILE", Short: "Check evidence against a hub or a box; needs the region's keys and nothing else", Args: cobra.ExactArgs(1),
		Long: "Check evidence that 'healthpost evidence export' wrote: two ledgers signed by one hub, a broken promise, two records for one\nplace. Needs the region's public keys and nothing else. Exit code 1 when it shows nothing.",
		RunE: func(c *cobra.Command, args []string) error {
			if keys == "" {
				return usagef("check-evidence: --keys FILE is missing: 'healthpost region keys' on a box of the region prints it")
			}
			r, err := checkEvidence(args[0], keys)
			if err != nil {
				r = checkedEvidence{Why: err.Error()}
			}
			if err == nil || g.json {
				err = errors.Join(g.print(c, r, r.write), err)
			}
			return err
		},
	}
	c.Flags().StringVar(&keys, "keys", "", "file with the region's public keys")
	return c
}

func checkEvidence(file, keysFile string) (checkedEvidence, error) {
	keys, err := readKeys(keysFile)
	if err != nil {
		return checkedEvidence{}, err
	}
	ledger, hubs, err := keys.IDs()
	if err != nil {
		return checkedEvidence{}, err
	}
	raw, err := readBounded(file, record.EvidenceBytesMax)
	if err != nil {
		return checkedEvidence{}, fmt.Errorf("reading evidence: %w", err)
	}
	e, err := record.DecodeEvidence(raw)
	if err != nil {
		return checkedEvidence{}, err
	}
	f, err := e.Verify(ledger.Region, hubs)
	if err != nil {
		return checkedEvidence{}, err
	}
	id := e.ID()
	r := checkedEvidence{Holds: true, ID: fmt.Sprintf("%x", id[:]), Kind: e.Kind.String(), Majority: f.Final, Size: f.Size, N: f.N}
	for _, d := range f.Culprits {
		k := node.HubKey{Device: d.String()}
		if i := slices.Index(hubs, d); i >= 0 {
			k = keys.Hubs[i]
		}
		r.Culprits = append(r.Culprits, k)
	}
	switch e.Kind {
	case record.EvidenceEquivocation:
		r.Feed = fmt.Sprintf("%s/%d", f.Feed.Epoch, f.Feed.Lane)
	case record.EvidencePromise:
		r.By = time.Unix(f.By, 0).UTC()
		for _, h := range f.Missing {
			r.Missing = append(r.Missing, h.RID.String())
		}
	}
	return r, nil
}

func (r checkedEvidence) write(w io.Writer) {
	var names []string
	for _, k := range r.Culprits {
		names = append(names, fmt.Sprintf("%q (%s)", k.Name, k.Device[:12]))
	}
	who := strings.Join(names, ", ")
	fmt.Fprintf(w, "The evidence holds: %s.\n", r.Kind)
	switch {
	case r.Feed != "":
		fmt.Fprintf(w, "%s signed two records for place %d of feed %s.\n", who, r.N, r.Feed)
	case len(r.Missing) > 0:
		fmt.Fprintf(w, "%s promised to have records ordered by %s. A checkpoint of size %d is later. It is broken when the ledger of that size lacks one of:\n", who, r.By.Format(time.RFC3339), r.Size)
		for _, m := range r.Missing {
			fmt.Fprintf(w, "  %s\n", m)
		}
	default:
		fmt.Fprintf(w, "%s signed two ledgers that cannot both be.\n", who)
		if r.Majority {
			fmt.Fprintln(w, "A majority of the hubs signed each: no box can tell by itself which one the region goes on with.")
		} else {
			fmt.Fprintln(w, "No majority did: the region goes on. Expel them: healthpost region hubs expel.")
		}
	}
}
