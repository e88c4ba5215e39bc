package main

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/skip2/go-qrcode"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func rootCommand(g *global) *cobra.Command {
	var sms, words bool
	var html, check string
	c := &cobra.Command{
		Use: "root", Short: "Print the ledger's root for paper, voice or SMS, or compare one with it", Args: cobra.NoArgs,
		Long: "Print the newest root of the ledger that a majority of the hubs signed: on paper once a week, it lets anybody check later that\nthe past was not rewritten. --check compares a root that somebody else printed with this box's ledger; exit code 3 when it is\nanother one: somebody was shown another ledger.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			if c.Flags().Changed("check") {
				return checkRoot(g, c, cl, check)
			}
			r, err := cl.Root(c.Context())
			if err != nil {
				return err
			}
			if html != "" {
				if err := writeRootHTML(html, r); err != nil {
					return err
				}
			}
			return g.print(c, r, func(w io.Writer) {
				switch {
				case sms:
					fmt.Fprintln(w, r.Line)
				case words:
					fmt.Fprintln(w, strings.Join(r.Words, " "))
				case html != "":
					fmt.Fprintf(w, "Wrote %s: print it, sign it, keep it where others can see it.\n", html)
				default:
					writeRoot(w, r)
				}
			})
		},
	}
	f := c.Flags()
	f.BoolVar(&sms, "sms", false, "print the line for an SMS alone")
	f.BoolVar(&words, "words", false, "print the 24 words alone")
	f.StringVar(&html, "html", "", "make this file, a sheet to print")
	f.StringVar(&check, "check", "", "compare this printed line (HPR1 ...) with the ledger on this box")
	return c
}

func writeRoot(w io.Writer, r node.RootSheet) {
	fmt.Fprintf(w, "region    %s (%s), generation %d\n", r.RegionName, r.Region[:16], r.Generation)
	fmt.Fprintf(w, "size      %d\nday       %s\nsigned by %s\n", r.Size, r.Day, strings.Join(r.SignedBy, ", "))
	fmt.Fprintln(w, "words")
	for i, word := range r.Words {
		fmt.Fprintf(w, "%4d %-10s", i+1, word)
		if i%6 == 5 {
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintf(w, "SMS       %s\n", r.Line)
}

func checkRoot(g *global, c *cobra.Command, cl *node.Client, line string) error {
	r, err := cl.CheckRoot(c.Context(), line)
	if err != nil {
		return err
	}
	err = g.print(c, r, func(w io.Writer) {
		if r.Same {
			fmt.Fprintf(w, "The same: the ledger on this box had this root at size %d.\n", r.Size)
			return
		}
		fmt.Fprintf(w, "ANOTHER ROOT: at size %d the ledger on this box has root %s. Whoever printed the line was shown another ledger than this box.\nKeep the paper, tell whoever is responsible for the region, and compare with a third box.\n", r.Size, r.Ours)
	})
	if err == nil && !r.Same {
		err = node.ErrOtherRoot
	}
	return err
}

var rootSheet = template.Must(template.New("root").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Root of {{.RegionName}}</title>
<style>body{font:11pt/1.5 sans-serif;max-width:18cm;margin:1.5cm auto}ol{columns:4;font-size:12pt}code{font-size:11pt;overflow-wrap:anywhere}img{float:right;width:5cm}td{padding-right:1cm;vertical-align:top}</style></head>
<body><img alt="" src="data:image/png;base64,{{.QR}}">
<h1>Root of the regional record</h1>
<table><tr><td>Region</td><td>{{.RegionName}} ({{printf "%.16s" .Region}})</td></tr>
<tr><td>Generation</td><td>{{.Generation}}</td></tr><tr><td>Size</td><td>{{.Size}}</td></tr><tr><td>Day</td><td>{{.Day}}</td></tr>
<tr><td>Signed by</td><td>{{range $i, $h := .SignedBy}}{{if $i}}, {{end}}{{$h}}{{end}}</td></tr></table>
<h2>In words</h2><ol>{{range .Words}}<li>{{.}}</li>{{end}}</ol>
<h2>As SMS</h2><p><code>{{.Line}}</code></p>
<h2>What it is for</h2><p>Whoever has this sheet can check later that nothing before it was changed, dropped or moved:
on any box of the region <code>healthpost root --check '{{.Line}}'</code>, and for one record
<code>healthpost check-proof FILE --root '{{.Line}}'</code> with a proof made for size {{.Size}}.</p>
<p>Seen by ____________________ on ____________________</p></body></html>
`))

func writeRootHTML(path string, r node.RootSheet) error {
	png, err := qrcode.Encode(r.Line, qrcode.Medium, 600)
	if err != nil {
		return fmt.Errorf("drawing the QR code: %w", err)
	}
	var b strings.Builder
	if err := rootSheet.Execute(&b, struct {
		node.RootSheet
		QR string
	}{r, base64.StdEncoding.EncodeToString(png)}); err != nil {
		return fmt.Errorf("writing the sheet: %w", err)
	}
	if err := writeNew(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("writing the sheet: %w", err)
	}
	return nil
}
