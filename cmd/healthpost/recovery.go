package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

const sheetsMax = 16

func regionRecovery(g *global) *cobra.Command {
	c := &cobra.Command{Use: "recovery", Short: "Make sheets that can begin the ledger anew when most hubs are lost, show whose count"}
	onlyParent(c)
	c.AddCommand(recoveryCreate(g), recoveryShow(g))
	return c
}

// madeSheets is what recovery create prints. The words are in the sheets alone.
type madeSheets struct {
	IDs    []string   `json:"ids"`
	Needed int        `json:"needed"`
	Files  []string   `json:"files,omitempty"`
	Vote   node.Voted `json:"vote"`
}

func recoveryCreate(g *global) *cobra.Command {
	var people, needed int
	var out string
	c := &cobra.Command{
		Use: "create", Short: "Make recovery sheets for people to keep on paper", Args: cobra.NoArgs,
		Long: "Make recovery sheets, one for each of --people, of which any --needed together can begin the region's ledger anew on one box.\nThe words are made here and written nowhere but to the sheets: boxes learn the public keys. Where the region has more hubs,\nothers must approve. Sheets made before count no more once these do.",
		RunE: func(c *cobra.Command, _ []string) error {
			if people < 1 || people > sheetsMax || needed < 1 || needed > people {
				return usagef("recovery create: --people is 1 to %d and --needed at most that", sheetsMax)
			}
			if g.json && out == "" {
				return usagef("recovery create: --json needs --out: the words of sheets are not for programs")
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			set, err := cl.HubSet(c.Context())
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(set.Hubs, func(h node.HubInfo) bool { return h.Self }) {
				return errors.New("naming recovery keys: only a hub can; run this on a hub")
			}
			keys, err := cl.Keys(c.Context())
			if err != nil {
				return err
			}
			made := madeSheets{Needed: needed}
			q := node.RecoveryRequest{Needed: needed}
			var texts []string
			for i := range people {
				s, err := node.NewSheet()
				if err != nil {
					return err
				}
				q.Keys, made.IDs = append(q.Keys, s.Public()), append(made.IDs, s.KeyID())
				texts = append(texts, s.Text(keys, i+1, people, needed))
			}
			// Paper first: keys that count and that nobody has would lock everybody out.
			if made.Files, err = writeSheets(c.OutOrStdout(), out, texts); err != nil {
				return err
			}
			if made.Vote, err = cl.SetRecovery(c.Context(), q); err != nil {
				return fmt.Errorf("destroy these sheets, they do not count: %w", err)
			}
			return g.print(c, made, func(w io.Writer) {
				for _, f := range made.Files {
					fmt.Fprintf(w, "Wrote %s\n", f)
				}
				writeVoted(w, made.Vote)
				if len(made.Files) > 0 {
					fmt.Fprintln(w, "Print each file, give it to its person, then destroy the files.")
				}
			})
		},
	}
	f := c.Flags()
	f.IntVar(&people, "people", 3, "how many sheets")
	f.IntVar(&needed, "needed", 2, "how many of them together can reset the region")
	f.StringVar(&out, "out", "", "folder for one file a sheet (default: print them)")
	return c
}

// writeSheets prints the sheets, or makes a file of each that its owner alone reads.
func writeSheets(w io.Writer, dir string, texts []string) ([]string, error) {
	if dir == "" {
		_, err := fmt.Fprint(w, strings.Join(texts, "\f\n"), "\n")
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for the sheets: %w", err)
	}
	var files []string
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprintf("sheet-%d.txt", i+1))
		if err := writeNew(path, []byte(text), 0o600); err != nil {
			return files, fmt.Errorf("writing a sheet: %w", err)
		}
		files = append(files, path)
	}
	return files, nil
}

func recoveryShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show which recovery sheets count", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			r, err := cl.Recovery(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, r, func(w io.Writer) {
				if len(r.IDs) == 0 {
					fmt.Fprintln(w, "No recovery sheets count in this region. Make some now: healthpost region recovery create")
					return
				}
				fmt.Fprintf(w, "Any %d of these %d sheets can reset the region: keys %s\n", r.Needed, len(r.IDs), strings.Join(r.IDs, ", "))
			})
		},
	}
}

func regionReset(g *global) *cobra.Command {
	var sheets []string
	var q node.ResetRequest
	var collect time.Duration
	c := &cobra.Command{
		Use: "reset --sheet FILE...", Short: "Go on with this box when most hubs are lost for good", Args: cobra.NoArgs,
		Long: "Go on with this stopped box when more than half of the hubs are lost for good. First it fetches what the other boxes that run\nhold of the ledger; then, with enough recovery sheets, it begins a new generation of the ledger with this box as the\nonly hub. Every other one is expelled; one that is still there joins anew with a new folder. Records that\nwaited anywhere are ordered as boxes meet this one. Run it on one box only. Cut short, the same command goes on.",
		RunE: func(c *cobra.Command, _ []string) error {
			if len(sheets) == 0 {
				return usagef("region reset: --sheet FILE is missing, once for each recovery sheet")
			}
			for _, f := range sheets {
				raw, err := readBounded(f, node.SheetBytesMax)
				if err != nil {
					return fmt.Errorf("reading the sheet: %w", err)
				}
				s, err := node.ParseSheet(raw)
				if err != nil {
					return fmt.Errorf("%s: %w", f, err)
				}
				q.Sheets = append(q.Sheets, s)
			}
			if collect < 0 {
				return usagef("region reset: --collect is how long to ask other boxes")
			}
			q.Collect = max(collect, time.Millisecond)
			o, err := g.options()
			if err != nil {
				return err
			}
			if _, err := node.LoadBox(o.Data); err != nil {
				return hint(o.Data, err)
			}
			rep, err := node.Reset(c.Context(), o, q, func(s string) {
				if !g.json {
					fmt.Fprintln(c.OutOrStdout(), s)
				}
			})
			if errors.Is(err, node.ErrLocked) {
				return fmt.Errorf("%w: stop the box first", err)
			}
			if err != nil {
				return err
			}
			return g.print(c, rep, func(w io.Writer) {
				fmt.Fprintf(w, "Done. Generation %d, %d entries, root %s. Hubs: %s.\nStart this box with: healthpost run --data %s\nPrint the new keys for whoever checks proofs: healthpost region keys\nThen invite new hubs, and destroy the files with the words.\n", rep.Generation, rep.Size, rep.Root, strings.Join(rep.Hubs, ", "), o.Data)
			})
		},
	}
	f := c.Flags()
	f.StringArrayVar(&sheets, "sheet", nil, "file with a recovery sheet; once for each")
	f.DurationVar(&collect, "collect", node.CollectDefault, "how long to ask other boxes for what they hold")
	f.BoolVar(&q.Force, "force", false, "reset although hubs answer that could go on without it")
	return c
}
