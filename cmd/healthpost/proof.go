package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
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
			return writeProved(g, c, p, out)
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "", "file to make (default: the first 12 digits of RID, .hpproof or, with the body, .hpopen)")
	f.Uint64Var(&q.At, "at", 0, "prove it in the tree of this size, for who has its root on paper (default: the newest that the hubs signed)")
	f.BoolVar(&q.Body, "body", false, "disclose what the record says")
	f.StringVar(&extend, "extend", "", "take the record from this older proof")
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

func writeProved(g *global, c *cobra.Command, p node.Proved, out string) error {
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
	return g.print(c, r, func(w io.Writer) {
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

func checkProofCommand(g *global) *cobra.Command {
	var keys string
	c := &cobra.Command{
		Use: "check-proof FILE", Short: "Check a proof; needs the region's keys and nothing else", Args: cobra.ExactArgs(1),
		Long: "Check a proof that 'healthpost prove' wrote. Needs the region's public keys ('healthpost region keys') and nothing else:\nno box, no network, no clock. Exit code 1 when the proof does not hold.",
		RunE: func(c *cobra.Command, args []string) error {
			if keys == "" {
				return usagef("check-proof: --keys FILE is missing: 'healthpost region keys' on a box of the region prints it")
			}
			r, err := checkProof(args[0], keys)
			if err != nil {
				r = checkedProof{Why: err.Error()}
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

// checkedProof is what a proof that holds says, or why it does not.
type checkedProof struct {
	Holds      bool          `json:"holds"`
	Why        string        `json:"why,omitempty"`
	RID        string        `json:"record,omitempty"`
	Seq        uint64        `json:"seq"`
	Time       time.Time     `json:"ledgerTime,omitzero"`
	Device     string        `json:"device,omitempty"`
	Kind       record.Kind   `json:"kind,omitempty"`
	Class      string        `json:"class,omitempty"`
	Region     string        `json:"region,omitempty"`
	RegionName string        `json:"regionName,omitempty"`
	Size       uint64        `json:"size,omitempty"`
	Root       string        `json:"root,omitempty"`
	Signers    []node.HubKey `json:"signers,omitempty"`
	Hubs       int           `json:"hubs,omitempty"` // of the region, as the keys say
	Newest     time.Time     `json:"newestCosignature,omitzero"`
}

func checkProof(file, keysFile string) (checkedProof, error) {
	raw, err := readBounded(keysFile, node.RegionKeysBytesMax)
	if err != nil {
		return checkedProof{}, fmt.Errorf("reading the keys: %w", err)
	}
	keys, err := node.ParseRegionKeys(raw)
	if err != nil {
		return checkedProof{}, err
	}
	ledger, hubs, err := keys.IDs()
	if err != nil {
		return checkedProof{}, err
	}
	if raw, err = readBounded(file, record.ProofBytesMax); err != nil {
		return checkedProof{}, fmt.Errorf("reading proof: %w", err)
	}
	p, err := record.DecodeProof(raw)
	if err != nil {
		return checkedProof{}, err
	}
	e, cp, err := p.Verify(ledger, hubs)
	if err != nil {
		return checkedProof{}, err
	}
	r := checkedProof{Holds: true, RID: e.Record.RID().String(), Seq: e.Seq, Time: time.Unix(e.Time, 0).UTC(), Device: p.Device.String(), Kind: e.Record.Core.Kind,
		Class: kindWords(e.Record.Core.Kind), Region: keys.Region, RegionName: keys.Name, Size: cp.Head.Size, Root: fmt.Sprintf("%x", cp.Head.Root[:]),
		Hubs: len(hubs), Newest: time.Unix(cp.Time, 0).UTC()}
	for i, d := range hubs {
		if slices.Contains(cp.Signers, d) {
			r.Signers = append(r.Signers, keys.Hubs[i])
		}
	}
	return r, nil
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

func (r checkedProof) write(w io.Writer) {
	const utc = "2 January 2006 15:04:05 UTC"
	fmt.Fprintf(w, "The proof holds: this record is in the regional record of %q.\n", r.RegionName)
	fmt.Fprintf(w, "record      %s\n", r.RID)
	fmt.Fprintf(w, "place       entry %d, ledger time %s\n", r.Seq, r.Time.Format(utc))
	fmt.Fprintf(w, "author      device %s\n", r.Device)
	fmt.Fprintf(w, "kind        %s\n", r.Class)
	fmt.Fprintf(w, "checkpoint  size %d, root %s\n", r.Size, r.Root)
	var names []string
	for _, s := range r.Signers {
		names = append(names, fmt.Sprintf("%q (%s)", s.Name, s.Device[:12]))
	}
	fmt.Fprintf(w, "signed by   %d of %d hubs, the last %s: %s\n", len(r.Signers), r.Hubs, r.Newest.Format(utc), strings.Join(names, ", "))
}

// kindWords names a class of record. It never tells what one says.
func kindWords(k record.Kind) string {
	words := map[record.Kind]string{
		record.KindEpochOpen: "epoch open", record.KindRegionFound: "region found", record.KindMemberAdd: "member add", record.KindMemberRevoke: "member revoke",
		record.KindSessionOpen: "session open", record.KindKeyWrap: "key wrap", record.KindClinical: "clinical", record.KindRegistration: "registration",
		record.KindDirectory: "directory", record.KindAccess: "access", record.KindStaff: "staff",
	}
	word, ok := words[k]
	if !ok {
		word = fmt.Sprintf("kind %d", k)
	}
	if k.Sealed() {
		return word + " (sealed)"
	}
	return word
}
