package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/skip2/go-qrcode"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
)

func regionEscrow(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "escrow", Short: "Show the recovery escrow, by which sheets on paper open charts whose clinic is lost",
		Long: "Show the recovery escrow of the region, the votes for another, and when it was used. Charts that a patient limited can be read\nat the boxes at home alone; where they are lost for good, some of the people who keep a sheet of the escrow open such a chart\nat another box. docs/RECOVERY.md says how sheets are made, kept and used.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("there is no command %q", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			e, err := cl.Escrows(c.Context())
			if err != nil {
				return err
			}
			return g.print(c, e, func(w io.Writer) { writeEscrows(w, e) })
		},
	}
	c.AddCommand(escrowNew(g), escrowVote(g), escrowOpen(g))
	return c
}

func writeEscrows(w io.Writer, e node.Escrows) {
	if len(e.List) == 0 {
		fmt.Fprintln(w, "This region has no recovery escrow. Keys of charts are handed to every clinic of the region, also of charts that patients limited.\nMake one: healthpost region escrow new --need 3 --of 5 --out DIR")
	}
	for i := len(e.List) - 1; i >= 0; i-- {
		x, word := e.List[i], "before   "
		if i == len(e.List)-1 {
			word = "in force "
		}
		fmt.Fprintf(w, "%s %s  %d of %d sheets, entry %d\n", word, x.Key, x.Need, x.Of, x.Seq)
	}
	for i := range e.Open {
		p := &e.Open[i]
		fmt.Fprintf(w, "voted for %s  %d of %d sheets, by %s; %d more needed until %s\n", p.Escrow, p.KeysMin, p.Keys, strings.Join(p.Votes, ", "), p.Missing(), p.Lapses.Local().Format("2 January 2006"))
	}
	for _, u := range e.Used {
		until := "without end"
		if !u.Until.IsZero() {
			until = "until " + u.Until.Local().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(w, "USED      %s  chart %s on %s, %s, by sheets of %s\n", u.At.Local().Format("2006-01-02 15:04"), u.Chart, u.Box, until, u.Key)
	}
}

// madeEscrow is what escrow new prints. The shares are on the sheets alone.
type madeEscrow struct {
	Key    string   `json:"key"`
	Need   int      `json:"need"`
	Of     int      `json:"of"`
	Files  []string `json:"files"`
	Public string   `json:"public"`
}

func escrowNew(g *global) *cobra.Command {
	var need, of int
	var out, keys string
	c := &cobra.Command{
		Use: "new --out DIR", Short: "Make the sheets of a recovery escrow, and its public file", Args: cobra.NoArgs,
		Long: "Make the sheets of a recovery escrow, one for each of --of people, of which any --need together open charts. Each sheet is a text and\na page to print with a QR code. The key that they give together is written nowhere. It can be made on a computer without any network:\nbring the region's public keys there (healthpost region keys > keys.toml) and name the file with --keys. Carry the public file to the hubs:\nonce more than half of them voted for it, boxes wrap keys of limited charts to it.",
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return usagef("region escrow new: --out is the folder for the sheets")
			}
			if err := node.CheckEscrowNumbers(need, of); err != nil {
				return usagef("region escrow new: %v", err)
			}
			region, err := escrowRegion(g, c, keys)
			if err != nil {
				return err
			}
			made, err := makeEscrow(region, need, of, out)
			if err != nil {
				return err
			}
			return g.print(c, made, func(w io.Writer) {
				fmt.Fprintf(w, "Made %d sheets of key %s, of which %d are needed:\n  %s\nPrint each, give it to its person, then destroy the files.\nTry the sheets (region escrow open --test) once the hubs voted: healthpost region escrow vote %s\n", made.Of, made.Key, made.Need, strings.Join(made.Files, "\n  "), made.Public)
			})
		},
	}
	f := c.Flags()
	f.IntVar(&need, "need", 3, "how many of the sheets together open charts")
	f.IntVar(&of, "of", 5, "how many sheets")
	f.StringVar(&out, "out", "", "folder for the files, made when there is none")
	f.StringVar(&keys, "keys", "", "the region's public keys (default: ask the box that runs here)")
	return c
}

// escrowRegion is the region as a file of its keys says, or as the box here does.
func escrowRegion(g *global, c *cobra.Command, file string) (node.RegionKeys, error) {
	if file != "" {
		raw, err := readBounded(file, node.RegionKeysBytesMax)
		if err != nil {
			return node.RegionKeys{}, fmt.Errorf("reading the keys: %w", err)
		}
		return node.ParseRegionKeys(raw)
	}
	cl, err := g.client(c)
	if err != nil {
		return node.RegionKeys{}, err
	}
	defer cl.Close()
	return cl.Keys(c.Context())
}

// makeEscrow draws the escrow and writes sheets, then the public file. Nothing is overwritten.
func makeEscrow(region node.RegionKeys, need, of int, dir string) (madeEscrow, error) {
	made := madeEscrow{Need: need, Of: of, Public: filepath.Join(dir, "escrow.toml")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return made, fmt.Errorf("making the folder for the sheets: %w", err)
	}
	if _, err := os.Lstat(made.Public); !errors.Is(err, fs.ErrNotExist) {
		return made, fmt.Errorf("writing the sheets: there is an escrow in %s already", dir)
	}
	public, sheets, err := node.MakeEscrow(region, need, of)
	if err != nil {
		return made, err
	}
	made.Key = public.ID
	for i := range sheets {
		if err := made.writeSheet(dir, public, &sheets[i]); err != nil {
			return made, fmt.Errorf("writing a sheet: destroy those that were written, they are of no use: %w", err)
		}
	}
	text, err := public.Text()
	if err == nil {
		err = writeNew(made.Public, text, 0o644)
	}
	if err != nil {
		return made, fmt.Errorf("writing the public file: %w", err)
	}
	return made, nil
}

func (m *madeEscrow) writeSheet(dir string, p node.EscrowPublic, s *node.EscrowSheet) error {
	png, err := qrcode.Encode(s.Code, qrcode.Medium, 900)
	if err != nil {
		return fmt.Errorf("drawing the QR code: %w", err)
	}
	var page strings.Builder
	err = escrowSheet.Execute(&page, struct {
		node.EscrowPublic
		node.EscrowSheet
		QR string
	}{p, *s, base64.StdEncoding.EncodeToString(png)})
	if err != nil {
		return err
	}
	name := filepath.Join(dir, fmt.Sprintf("sheet-%d", s.Number))
	for _, x := range []struct{ ext, text string }{{".txt", s.Text}, {".html", page.String()}} {
		if err := writeNew(name+x.ext, []byte(x.text), 0o600); err != nil {
			return err
		}
		m.Files = append(m.Files, name+x.ext)
	}
	return nil
}

var escrowSheet = template.Must(template.New("escrow").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Escrow sheet {{.Number}} of {{.Of}}, {{.Name}}</title>
<style>body{font:11pt/1.5 sans-serif;max-width:18cm;margin:1.5cm auto}pre{font-size:12pt;line-height:1.7}img{float:right;width:7cm}</style></head>
<body><img alt="" src="data:image/png;base64,{{.QR}}">
<h1>Escrow sheet {{.Number}} of {{.Of}}</h1>
<p>Region {{.Name}} ({{printf "%.16s" .Region}})<br>Key {{.ID}}</p>
<p>Any {{.Need}} of the {{.Of}} sheets together open charts whose clinic is lost for good, on another box of the region. Fewer can do nothing. Each use is on record everywhere.</p>
<p>Keep this paper where only you can take it, away from any box and from the other sheets.</p>
<pre>
SHARE
{{.Lines}}
END
</pre>
<p>When it is needed: at the clinic that is to go on with the patient, type the lines between the two words into a file for each sheet, or take a picture of the QR code, and run</p>
<p><code>healthpost region escrow open CHART --by NAME --share FILE --share FILE …</code></p>
<p>Then destroy the files.</p>
<p>Kept by ____________________ since ____________________</p></body></html>
`))

func escrowVote(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "vote PUBLICFILE", Short: "Vote for an escrow whose sheets were made; each hub does", Args: cobra.ExactArgs(1),
		Long: "Vote for an escrow on this hub, by its public file. Compare the id of its key with that on the sheets first, and have the sheets given to\ntheir people. It is in force once more than half of the hubs voted for the same. Sheets of the one before still open what was\nwritten before.",
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := readBounded(args[0], node.EscrowPublicBytesMax)
			if err != nil {
				return fmt.Errorf("reading the escrow: %w", err)
			}
			p, err := node.ParseEscrowPublic(raw)
			if err != nil {
				return err
			}
			return voteWith(g, c, func(cl *node.Client) (node.Voted, error) { return cl.SetEscrow(c.Context(), p) })
		},
	}
}
