package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func parcelCommand(g *global) *cobra.Command {
	c := &cobra.Command{Use: "parcel", Short: "Carry records between boxes on a stick"}
	onlyParent(c)
	c.AddCommand(parcelWrite(g), parcelRead(g))
	return c
}

func parcelWrite(g *global) *cobra.Command {
	var q node.ParcelRequest
	c := &cobra.Command{
		Use: "write FILE|DIR", Short: "Write what this box has for others into a file", Args: cobra.ExactArgs(1),
		Long: "Write what this box has for others into a file: records that wait for their place, acknowledgements, and what they\nlack of the regional record. It is sealed: only the boxes it is for can open it. In a folder the file is named after\nthe box. Without --for or --all it is for the hubs; a hub writes for all boxes.",
		RunE: func(c *cobra.Command, args []string) error {
			if q.For != "" && q.All {
				return usagef("parcel write: --for and --all exclude each other")
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			s, err := cl.Status(c.Context())
			if err != nil {
				return err
			}
			path := node.ParcelPath(args[0], s.Name)
			var rep node.ParcelWritten
			if err := node.ParcelFile(path, func(w io.Writer) error {
				rep, err = cl.WriteParcel(c.Context(), w, q)
				return err
			}); err != nil {
				return err
			}
			return g.print(c, struct {
				File string `json:"file"`
				node.ParcelWritten
			}{path, rep}, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %s for %s: %d records that wait, %d entries of the regional record, %d kB.\n", path, strings.Join(rep.For, ", "), rep.Records, rep.Entries, (rep.Bytes+1023)>>10)
				if rep.Attachments > 0 {
					fmt.Fprintf(w, "With %d photos and documents.\n", rep.Attachments)
				}
			})
		},
	}
	c.Flags().StringVar(&q.For, "for", "", "box that it is for: its name, or its 12 digits in 'region members'")
	c.Flags().BoolVar(&q.All, "all", false, "for every box of the region")
	c.Flags().BoolVar(&q.Full, "full", false, "with the whole regional record, for a new box")
	return c
}

// parcelFileRead is one file of those that were read.
type parcelFileRead struct {
	File  string `json:"file"`
	Error string `json:"error,omitempty"`
	node.ParcelRead
}

func parcelRead(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "read FILE|DIR", Short: "Take in a parcel, or those in a folder", Args: cobra.ExactArgs(1),
		Long: "Take in a parcel, or the *.hpp files in a folder. Everything is verified as what comes over a link. Reading one twice\nis harmless; a damaged one gives what is whole in it.",
		RunE: func(c *cobra.Command, args []string) error {
			files, err := node.ParcelFiles(args[0])
			if err != nil {
				return err
			}
			if len(files) == 0 {
				return fmt.Errorf("no parcel (*%s) in %s", node.ParcelExt, args[0])
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			var list []parcelFileRead
			var errs []error
			for _, f := range files {
				rep, err := readParcelFile(c, g, cl, f)
				x := parcelFileRead{File: f, ParcelRead: rep}
				if err != nil {
					x.Error = err.Error()
					errs = append(errs, err)
				} else if !rep.Complete {
					errs = append(errs, fmt.Errorf("%s is %w; what is whole was taken in", f, node.ErrDamaged))
				}
				list = append(list, x)
			}
			err = g.print(c, list, func(w io.Writer) { writeParcelsRead(w, list) })
			if len(files) > 1 && len(errs) < len(files) { // a stick carries parcels for others too
				errs = damageOnly(errs)
			}
			return errors.Join(append(errs, err)...)
		},
	}
}

func damageOnly(list []error) []error {
	var out []error
	for _, err := range list {
		if errors.Is(err, node.ErrDamaged) {
			out = append(out, err)
		}
	}
	return out
}

// parcelRoundsMax: what waits for something that comes later in the file is there
// the next time.
const parcelRoundsMax = 3

func readParcelFile(c *cobra.Command, g *global, cl *node.Client, path string) (rep node.ParcelRead, err error) {
	fresh, entries, attachments := 0, 0, 0
	for range parcelRoundsMax {
		if rep, err = readParcelOnce(c, g, cl, path); err != nil {
			break
		}
		attachments += rep.Attachments
		if fresh, entries = fresh+rep.New, entries+rep.Entries; !rep.Again {
			break
		}
	}
	rep.Known -= fresh - rep.New
	rep.New, rep.Entries, rep.Attachments = fresh, entries, attachments
	return rep, err
}

// quickBytes is how much is read before anybody wonders.
const quickBytes = 16 << 20

func readParcelOnce(c *cobra.Command, g *global, cl *node.Client, path string) (node.ParcelRead, error) {
	f, size, err := node.OpenParcel(path)
	if err != nil {
		return node.ParcelRead{}, err
	}
	defer f.Close()
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(c.ErrOrStderr()), progressbar.OptionShowBytes(true), progressbar.OptionSetDescription("reading"),
		progressbar.OptionSetVisibility(!g.json && size > quickBytes), progressbar.OptionClearOnFinish())
	defer bar.Finish()
	return cl.ReadParcel(c.Context(), f, size, func(p node.Progress) { bar.Set64(int64(p.Done)) })
}

func writeParcelsRead(w io.Writer, list []parcelFileRead) {
	for _, p := range list {
		switch {
		case p.Error != "" && p.From == "":
			fmt.Fprintf(w, "%s: nothing was taken in\n", p.File)
			continue
		case p.AsOf.IsZero():
			fmt.Fprintf(w, "%s: from %s\n", p.File, p.From)
		default:
			fmt.Fprintf(w, "%s: from %s, the region as of %s, written %s later\n", p.File, p.From, p.AsOf.Local().Format("2 Jan 2006 15:04"), time.Duration(p.Age*int64(time.Second)))
		}
		fmt.Fprintf(w, "  new %d, known %d, refused %d\n", p.New, p.Known, p.Refused)
		if p.Attachments > 0 {
			fmt.Fprintf(w, "  photos and documents %d\n", p.Attachments)
		}
		if p.Waiting > 0 {
			fmt.Fprintf(w, "  %d are left out: what comes before them is not here yet. Ask for a parcel written with --full.\n", p.Waiting)
		}
		if p.Complete && p.Damaged > 0 {
			fmt.Fprintf(w, "  The file is damaged (places: %d). Nothing is lost, for it holds everything twice; use another stick next time.\n", p.Damaged)
		}
		if !p.Complete {
			fmt.Fprintf(w, "  The file is damaged (places: %d; parts missing: at least %d). What is whole was taken in; write it again for the rest, or let it come over a link.\n", p.Damaged, max(p.Missing, 1))
		}
	}
}
