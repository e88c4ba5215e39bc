package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
)

func statusCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say how the box is: records, peers, disk, clock", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			s, err := cl.Status(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, s, func(w io.Writer) { writeStatus(w, s) })
		},
	}
}

func writeStatus(w io.Writer, s node.Status) {
	state := "stopped"
	if s.Running {
		state = "running since " + s.Started.Local().Format("2 Jan 15:04")
	}
	fmt.Fprintf(w, "%s, %s, %s\n", s.Name, s.Role, state)
	if s.Region == "" {
		fmt.Fprintln(w, node.ErrNoRegion)
		return
	}
	if s.Page != "" {
		fmt.Fprintf(w, "page      %s\n", s.Page)
	}
	if s.Log != "" {
		fmt.Fprintf(w, "log       %s/checkpoint\n", s.Log)
	}
	fmt.Fprintf(w, "region    %s (%s)\n", s.RegionName, s.Region[:12])
	fmt.Fprintf(w, "ledger    %d entries, root %s; final up to %d\n", s.Size, s.Root[:12], s.Confirmed)
	fmt.Fprintf(w, "records   %d saved here only, %d copied, %d refused\n", s.Pending, s.Shared, s.Refused)
	if s.OnlyHere > 0 {
		where := "in this building"
		if s.Role == record.RoleField {
			where = "on this device"
		}
		fmt.Fprintf(w, "at risk   %d visits, %d records exist only %s\n", s.VisitsHere, s.OnlyHere, where)
	}
	if a := s.Attachments; a.OnlyHere+a.WaitedFor > 0 {
		fmt.Fprintf(w, "photos    %d on this box only (%d kB), %d asked for and not here yet\n", a.OnlyHere, (a.OnlyHereBytes+1023)>>10, a.WaitedFor)
	}
	if i := s.Initial; i != nil {
		fmt.Fprintln(w, initialWords(i))
	}
	if s.Carried > 0 {
		fmt.Fprintf(w, "carries   %d records of other boxes\n", s.Carried)
	}
	if s.WhyWords != "" {
		fmt.Fprintf(w, "why       %s\n", s.WhyWords)
	}
	if s.NextCall != nil {
		fmt.Fprintf(w, "next call %s\n", s.NextCall.Local().Format("2 Jan 15:04"))
	}
	if u := s.Usage; u != nil {
		fmt.Fprintf(w, "data      %s: %d kB in, %d kB out", u.Month, u.BytesIn/1000, u.BytesOut/1000)
		if u.Budget > 0 {
			fmt.Fprintf(w, " of %d kB", u.Budget/1000)
		}
		fmt.Fprintln(w)
	}
	if s.Ordering != "" {
		fmt.Fprintf(w, "ordering  %s\n", s.Ordering)
	}
	for _, p := range s.Peers {
		fmt.Fprintf(w, "peer      %-20s %-8s %-8s %-13s last contact %s, %d B out, %d B in %s\n", p.Name, p.Role, p.Link, place(p), contact(s, p), p.BytesOut, p.BytesIn, p.Trouble)
	}
	if s.Lock.Kind != "none" {
		fmt.Fprintf(w, "keys      under a lock: %s\n", s.Lock.Kind)
	}
	fmt.Fprintf(w, "disk      %d MB free of %d MB\n", s.DiskFree>>20, s.DiskTotal>>20)
	fmt.Fprintf(w, "clock     %s (%s)\n", s.Clock.Local().Format("2 Jan 2006 15:04"), s.ClockTrust)
	for _, f := range s.Faults {
		fmt.Fprintf(w, "trouble   %s\n", f)
	}
}

// initialWords says how much of the ledger is not on the box yet.
func initialWords(i *node.InitialStatus) string {
	switch {
	case i.Profile:
		return fmt.Sprintf("holds     a part: %d of %d entries stay at the hubs", i.Left, i.Size)
	case i.Remaining > 0:
		return fmt.Sprintf("fetching  %d of %d older entries are to come, about %s", i.Left, i.Size, i.Remaining)
	}
	return fmt.Sprintf("fetching  %d of %d older entries are to come", i.Left, i.Size)
}
func place(p node.PeerStatus) string {
	if p.Elsewhere {
		return "elsewhere"
	}
	return "in reach"
}

func contact(s node.Status, p node.PeerStatus) string {
	switch {
	case p.LastContact.IsZero():
		return "never"
	case !p.ContactSure:
		return "before this start"
	}
	return s.Clock.Sub(p.LastContact).Round(time.Second).String() + " ago"
}

func syncCommand(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "sync [PEER]", Short: "Exchange with peers now", Args: cobra.MaximumNArgs(1),
		Long: "Exchange with peers now: with PEER (a name from 'healthpost status') or with all. The box must be running.",
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			peer := ""
			if len(args) > 0 {
				peer = args[0]
			}
			list, err := cl.Sync(c.Context(), peer)
			if err != nil {
				return err
			}
			return g.print(c, list, func(w io.Writer) {
				if len(list) == 0 {
					fmt.Fprintln(w, "No peer is known yet.")
				}
				for _, p := range list {
					fmt.Fprintf(w, "%-20s %-8s waiting %d %s\n", p.Name, p.Link, p.Waiting, p.Trouble)
				}
			})
		},
	}
}

func importCommand(g *global) *cobra.Command {
	var dry bool
	var report string
	c := &cobra.Command{
		Use: "import FILE|DIR...", Short: "Take in FHIR R4 JSON bundles or NDJSON", Args: cobra.MinimumNArgs(1),
		Long: "Take in FHIR R4 JSON bundles or NDJSON. What is readable is kept as it came; what is refused is listed with file,\nresource and reason. The same file twice adds nothing.",
		RunE: func(c *cobra.Command, args []string) error {
			files, err := importFiles(args)
			if err != nil {
				return err
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			total, err := importAll(c, g, cl, files, dry)
			if report != "" {
				err = errors.Join(err, writeReport(report, total))
			}
			if total.Added+total.Known == 0 && total.RefusedCount > 0 && err == nil {
				err = fmt.Errorf("nothing was taken in: all %d were refused", total.RefusedCount)
			}
			return errors.Join(g.print(c, total, func(w io.Writer) { writeImport(w, total, dry) }), err)
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "check and report, store nothing")
	c.Flags().StringVar(&report, "report", "", "write the full list of what was refused to this file")
	return c
}

// importFiles lists regular files, folders walked, sorted: shared batch files
// (places and people) first, so that what points to them finds them.
func importFiles(args []string) ([]string, error) {
	var files []string
	for _, a := range args {
		err := filepath.WalkDir(a, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			ext := strings.ToLower(filepath.Ext(path))
			if d.Type().IsRegular() && (path == a || ext == ".json" || ext == ".ndjson") {
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("finding files: %w", err)
		}
	}
	if len(files) == 0 {
		return nil, usagef("no .json or .ndjson file in %s", strings.Join(args, ", "))
	}
	shared := func(p string) bool {
		b := strings.ToLower(filepath.Base(p))
		return strings.HasPrefix(b, "hospitalinformation") || strings.HasPrefix(b, "practitionerinformation")
	}
	sort.SliceStable(files, func(i, j int) bool { return shared(files[i]) && !shared(files[j]) })
	return files, nil
}

func importAll(c *cobra.Command, g *global, cl *node.Client, files []string, dry bool) (node.ImportReport, error) {
	var total node.ImportReport
	bar := progressbar.NewOptions(len(files), progressbar.OptionSetWriter(c.ErrOrStderr()), progressbar.OptionShowCount(), progressbar.OptionSetDescription("importing"),
		progressbar.OptionSetVisibility(!g.json), progressbar.OptionClearOnFinish())
	for _, f := range files {
		rep, err := cl.Import(c.Context(), f, dry, func(node.Progress) {})
		total.Add(rep)
		if err != nil {
			bar.Finish()
			return total, fmt.Errorf("importing %s: %w", f, err)
		}
		bar.Add(1)
	}
	return total, bar.Finish()
}

func writeImport(w io.Writer, r node.ImportReport, dry bool) {
	verb := "Took in"
	if dry {
		verb = "Would take in"
	}
	fmt.Fprintf(w, "%s %d resources in %d records from %d files; %d were known; %d refused.\n", verb, r.Added, r.Records, r.Files, r.Known, r.RefusedCount)
	for _, x := range r.Refused {
		fmt.Fprintf(w, "  refused: %s: %s: %s\n", x.File, x.Resource, x.Reason)
	}
	if more := r.RefusedCount - len(r.Refused); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
}

func writeReport(path string, r node.ImportReport) error {
	var b strings.Builder
	for _, x := range r.Refused {
		fmt.Fprintf(&b, "%s\t%s\t%s\n", x.File, x.Resource, x.Reason)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func exportCommand(g *global) *cobra.Command {
	var format, out, purpose string
	c := &cobra.Command{
		Use: "export", Short: "Write every resource this box holds", Args: cobra.NoArgs,
		Long: "Write every resource this box holds, one JSON object a line, just as it was taken in; or, with\n" +
			"--format access, its access log as AuditEvents of FHIR. The export is on record. For a --purpose other\n" +
			"than treatment only charts are written whose patients permitted that. What this box holds and may not open\n" +
			"is counted in the last line, an OperationOutcome, and told here.",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if format != "ndjson" && format != "access" {
				return usagef("export: format %q: there are ndjson and access", format)
			}
			if !slices.Contains(node.Purposes(), purpose) || format == "access" && c.Flags().Changed("purpose") {
				return usagef("export: purpose %q: of an ndjson file there are %s", purpose, strings.Join(node.Purposes(), ", "))
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			export := cl.Export
			switch {
			case format == "access":
				export = cl.ExportAccess
			case purpose != node.Purposes()[0]:
				export = func(ctx context.Context, w io.Writer) (node.ExportReport, error) {
					return cl.ExportFor(ctx, w, purpose)
				}
			}
			if out == "" {
				rep, err := export(c.Context(), c.OutOrStdout())
				writeLeftOut(c.ErrOrStderr(), rep)
				return err
			}
			f, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
			if err != nil {
				return fmt.Errorf("making the export file: %w", err)
			}
			rep, err := export(c.Context(), f)
			if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
			return g.print(c, rep, func(w io.Writer) {
				fmt.Fprintf(w, "Wrote %d resources.\n", rep.Resources)
				writeLeftOut(w, rep)
			})
		},
	}
	c.Flags().StringVar(&format, "format", "ndjson", "ndjson, or access for who looked at what")
	c.Flags().StringVar(&purpose, "purpose", node.Purposes()[0], "what for: "+strings.Join(node.Purposes(), ", "))
	c.Flags().StringVar(&out, "out", "", "file to make (default: standard output)")
	return c
}

// writeLeftOut tells what the file does not have.
func writeLeftOut(w io.Writer, rep node.ExportReport) {
	for _, l := range rep.LeftOut {
		fmt.Fprintln(w, l.Text)
	}
}
