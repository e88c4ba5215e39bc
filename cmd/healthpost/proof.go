package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/skip2/go-qrcode"
	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
)

func regionKeys(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "keys", Short: "Print the region's public keys, for whoever checks proofs", Args: cobra.NoArgs,
		Long: "Print the region's public keys as a small text file, to print or to share. Nothing in it is secret; whoever checks\na proof with it should have it from somebody they trust.",
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			k, err := cl.Keys(c.Context())
			if err != nil {
				return err
			}
			text, err := k.Text()
			if err != nil {
				return err
			}
			return g.print(c, k, func(w io.Writer) { w.Write(text) })
		},
	}
}

func proveCommand(g *global) *cobra.Command {
	var out, extend string
	var qr bool
	var q node.ProveRequest
	c := &cobra.Command{
		Use: "prove RID | prove --extend FILE", Short: "Write the proof that a record is in the regional record", Args: cobra.MaximumNArgs(1),
		Long: "Write the proof that a record is in the regional record: its header, its place and what the hubs signed, in at most\nabout 1,200 bytes. What the record says is in it only with --body: the file then opens this one record to whoever has it,\nand the access is noted.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := proveArgs(&q, args, extend); err != nil {
				return err
			}
			cl, err := g.client(c)
			if err != nil {
				return err
			}
			defer cl.Close()
			p, err := cl.Prove(c.Context(), q)
			if err != nil {
				return err
			}
			return writeProved(g, c, p, out, qr)
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "", "file to make (default: the first 12 digits of RID, .hpproof or, with the body, .hpopen)")
	f.Uint64Var(&q.At, "at", 0, "prove it in the tree of this size, for who has its root on paper (default: the newest that the hubs signed)")
	f.BoolVar(&q.Body, "body", false, "disclose what the record says")
	f.StringVar(&extend, "extend", "", "take the record from this older proof")
	f.BoolVar(&qr, "qr", false, "print the proof as a QR code too, and as the text in it")
	return c
}

// proveArgs fills the request from RID or from the older proof.
func proveArgs(q *node.ProveRequest, args []string, extend string) error {
	switch {
	case extend == "" && len(args) == 0:
		return usagef("prove: RID is missing: the page shows it, or name an older proof with --extend FILE")
	case extend != "" && len(args) > 0:
		return usagef("prove: RID or --extend FILE, not both")
	case extend == "":
		if _, err := record.ParseRID(args[0]); err != nil {
			return usageError{err}
		}
		q.RID = args[0]
		return nil
	}
	raw, err := readBounded(extend, node.DisclosureBytesMax)
	if err != nil {
		return fmt.Errorf("reading the older proof: %w", err)
	}
	q.Extend = raw
	return nil
}

func writeProved(g *global, c *cobra.Command, p node.Proved, out string, qr bool) error {
	if qr && p.Disclosed {
		return usagef("prove: --qr is for a proof without the body: what is printed is read by whoever finds it")
	}
	if out == "" {
		out = p.RID[:12] + ".hpproof"
		if p.Disclosed {
			out = p.RID[:12] + ".hpopen"
		}
	}
	mode := fs.FileMode(0o644)
	if p.Disclosed {
		mode = 0o600
	}
	if err := writeNew(out, p.File, mode); err != nil {
		return fmt.Errorf("writing the proof: %w", err)
	}
	r := proveResult{RID: p.RID, Seq: p.Seq, Size: p.Size, File: out, Bytes: len(p.File), Cosigned: p.Cosigned, Disclosed: p.Disclosed}
	if qr {
		r.QR = printed.QR(p.File)
	}
	return g.print(c, r, func(w io.Writer) {
		if code, err := qrcode.New(r.QR, qrcode.Low); qr && err == nil {
			fmt.Fprintf(w, "%s\n%s\n", code.ToSmallString(false), r.QR)
		}
		fmt.Fprintf(w, "Wrote %s, %d bytes: entry %d of %d.", out, len(p.File), p.Seq, p.Size)
		if p.Disclosed {
			fmt.Fprint(w, " Whoever has this file can read this record, and no other: give it to whom it concerns alone.")
		}
		if p.Cosigned == 0 {
			fmt.Fprintf(w, " Who has the root of size %d on paper or as SMS checks it with:\n  healthpost check-proof %s --root 'HPR1 ...'\n", p.Size, out)
			return
		}
		fmt.Fprintf(w, " Who has the keys ('healthpost region keys') checks it with:\n  healthpost check-proof %s --keys FILE\n", out)
	})
}

// proveResult is what prove prints.
type proveResult struct {
	RID       string `json:"record"`
	Seq       uint64 `json:"seq"`
	Size      uint64 `json:"size"`
	File      string `json:"file"`
	Bytes     int    `json:"bytes"`
	Cosigned  int    `json:"cosigned"`
	Disclosed bool   `json:"disclosed,omitempty"`
	QR        string `json:"qr,omitempty"` // text of the QR code
}

// writeNew makes a file that was not there; one cut short is taken away again.
func writeNew(path string, b []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// readBounded reads a file of at most max bytes, and one byte more of a longer one.
func readBounded(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max+1))
}
