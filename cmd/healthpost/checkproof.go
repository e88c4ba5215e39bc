package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/healthpost/healthpost/node"
	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
)

// proofCheck is what a proof is checked against.
type proofCheck struct {
	keys  string // file with the region's keys
	root  string // printed line
	words string // file with printed words
	size  uint64 // that the words were printed with
	body  bool   // show what the record says
}

func checkProofCommand(g *global) *cobra.Command {
	var q proofCheck
	c := &cobra.Command{
		Use: "check-proof FILE", Short: "Check a proof; needs the region's keys or a printed root, nothing else", Args: cobra.ExactArgs(1),
		Long: "Check a proof that 'healthpost prove' wrote, or the text of its QR code. Needs the region's public keys ('healthpost region keys'),\nor a root that somebody printed ('healthpost root') with a proof made for its size, and nothing else: no box, no network,\nno clock. Exit code 1 when the proof does not hold.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := q.complete(c); err != nil {
				return err
			}
			r, err := q.check(args[0])
			if err != nil {
				r = checkedProof{Why: err.Error()}
			}
			if err == nil || g.json {
				err = errors.Join(g.print(c, r, r.write), err)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&q.keys, "keys", "", "file with the region's public keys")
	f.StringVar(&q.root, "root", "", "a printed root: the line that begins with HPR1")
	f.StringVar(&q.words, "words", "", "file with the 24 words of a printed root; needs --size")
	f.Uint64Var(&q.size, "size", 0, "the size that was printed with the words")
	f.BoolVar(&q.body, "body", false, "show what the record says, when the file discloses it")
	return c
}

func (q *proofCheck) complete(c *cobra.Command) error {
	given := 0
	for _, s := range []string{q.keys, q.root, q.words} {
		if s != "" {
			given++
		}
	}
	switch {
	case given == 0:
		return usagef("check-proof: --keys FILE is missing: 'healthpost region keys' on a box of the region prints it; or give a printed root with --root")
	case given > 1:
		return usagef("check-proof: choose one of --keys, --root and --words")
	case (q.words != "") != c.Flags().Changed("size"):
		return usagef("check-proof: --words and --size go together")
	}
	return nil
}

// checkedProof is what a proof that holds says, or why it does not.
type checkedProof struct {
	Holds      bool          `json:"holds"`
	Why        string        `json:"why,omitempty"`
	By         string        `json:"checkedBy,omitempty"` // cosignatures, or printed root
	RID        string        `json:"record,omitempty"`
	Seq        uint64        `json:"seq"`
	Time       time.Time     `json:"ledgerTime,omitzero"`
	Device     string        `json:"device,omitempty"`
	Kind       record.Kind   `json:"kind,omitempty"`
	Class      string        `json:"class,omitempty"`
	Region     string        `json:"region,omitempty"` // of a printed root the first 16 digits
	RegionName string        `json:"regionName,omitempty"`
	Size       uint64        `json:"size,omitempty"`
	Root       string        `json:"root,omitempty"`
	Day        string        `json:"day,omitempty"` // that the root was printed with
	Signers    []node.HubKey `json:"signers,omitempty"`
	Hubs       int           `json:"hubs,omitempty"`      // of the region, as the keys say
	Signed     time.Time     `json:"signedAt,omitzero"`   // by when a majority of the hubs had signed, as they claim
	Discloses  bool          `json:"discloses,omitempty"` // the file holds what the record says, and it is what was signed
	Says       *said         `json:"says,omitempty"`
}

// said is what a disclosed record says.
type said struct {
	Reason    string            `json:"reason,omitempty"`
	Resources []json.RawMessage `json:"resources,omitempty"`
	Bytes     []byte            `json:"bytes,omitempty"` // of a record that holds no resources
}

const (
	byHubs        = "cosignatures"
	byPaper       = "printed root"
	wordsBytesMax = 4 << 10
)

func (q *proofCheck) check(file string) (checkedProof, error) {
	var keys node.RegionKeys
	var err error
	if q.keys != "" {
		if keys, err = readKeys(q.keys); err != nil {
			return checkedProof{}, err
		}
	}
	p, d, err := readProof(file)
	if err != nil {
		return checkedProof{}, err
	}
	r := checkedProof{Device: p.Device.String()}
	var e record.Entry
	if q.keys != "" {
		e, err = r.byKeys(&p, &keys)
	} else {
		e, err = r.byRoot(&p, q)
	}
	if err != nil {
		return checkedProof{}, err
	}
	r.Holds, r.RID, r.Seq, r.Time = true, e.Record.RID().String(), e.Seq, time.Unix(e.Time, 0).UTC()
	r.Kind, r.Class = e.Record.Core.Kind, kindWords(e.Record.Core.Kind)
	if d == nil {
		return r, nil
	}
	says, err := d.Open(e)
	if err != nil {
		return checkedProof{}, err
	}
	r.Discloses = true
	if q.body {
		r.Says = newSaid(&says)
	}
	return r, nil
}

func newSaid(d *node.Disclosed) *said {
	s := &said{Reason: d.Reason}
	for _, item := range d.Items {
		s.Resources = append(s.Resources, json.RawMessage(item))
	}
	if len(d.Items) == 0 {
		s.Bytes = d.Plain
	}
	return s
}

func readKeys(file string) (node.RegionKeys, error) {
	raw, err := readBounded(file, node.RegionKeysBytesMax)
	if err != nil {
		return node.RegionKeys{}, fmt.Errorf("reading the keys: %w", err)
	}
	return node.ParseRegionKeys(raw)
}

// readProof reads a proof, the text of its QR code, or a disclosed record.
func readProof(file string) (p record.Proof, d *node.Disclosure, err error) {
	raw, err := readBounded(file, node.DisclosureBytesMax)
	if err != nil {
		return p, nil, fmt.Errorf("reading proof: %w", err)
	}
	switch text := strings.TrimSpace(string(raw[:min(len(raw), 4*record.ProofBytesMax)])); {
	case node.IsDisclosure(raw):
		x, err := node.DecodeDisclosure(raw)
		if err != nil {
			return p, nil, err
		}
		d, raw = &x, x.Proof
	case strings.HasPrefix(text, "HPP1:"):
		if raw, err = printed.FromQR(text); err != nil {
			return p, nil, fmt.Errorf("reading proof: %w", err)
		}
	}
	p, err = record.DecodeProof(raw)
	return p, d, err
}

// byKeys checks the cosignatures.
func (r *checkedProof) byKeys(p *record.Proof, keys *node.RegionKeys) (record.Entry, error) {
	ledger, hubs, err := keys.IDs()
	if err != nil {
		return record.Entry{}, err
	}
	e, cp, err := p.Verify(ledger, hubs)
	if err != nil {
		return e, err
	}
	r.By, r.Region, r.RegionName, r.Size, r.Root = byHubs, keys.Region, keys.Name, cp.Head.Size, fmt.Sprintf("%x", cp.Head.Root[:])
	r.Hubs, r.Signed = len(hubs), time.Unix(cp.Time, 0).UTC()
	for i, d := range hubs {
		if slices.Contains(cp.Signers, d) {
			r.Signers = append(r.Signers, keys.Hubs[i])
		}
	}
	return e, nil
}

// byRoot checks against what was printed. Signatures of hubs play no part.
func (r *checkedProof) byRoot(p *record.Proof, q *proofCheck) (record.Entry, error) {
	var head record.TreeHead
	if q.root != "" {
		root, err := printed.Parse(q.root)
		if err != nil {
			return record.Entry{}, fmt.Errorf("reading the root: %w", err)
		}
		head, r.Region = root.Head, fmt.Sprintf("%x", root.Ledger.Region[:8])
		r.Day = time.Unix(root.Day*24*60*60, 0).UTC().Format(time.DateOnly)
	} else {
		raw, err := readBounded(q.words, wordsBytesMax)
		if err != nil {
			return record.Entry{}, fmt.Errorf("reading the words: %w", err)
		}
		if head, err = printed.ParseWords(q.size, strings.Fields(string(raw))); err != nil {
			return record.Entry{}, fmt.Errorf("reading the words: %w", err)
		}
	}
	if p.Size != head.Size {
		return record.Entry{}, fmt.Errorf("%w: it leads to the tree of size %d, the printed root is of size %d: ask for one made with 'healthpost prove RID --at %d'", record.ErrNotProven, p.Size, head.Size, head.Size)
	}
	e, err := p.VerifyAt(head)
	r.By, r.Size, r.Root = byPaper, head.Size, fmt.Sprintf("%x", head.Root[:])
	return e, err
}

func (r checkedProof) write(w io.Writer) {
	const utc = "2 January 2006 15:04:05 UTC"
	if r.By == byHubs {
		fmt.Fprintf(w, "The proof holds: this record is in the regional record of %q.\n", r.RegionName)
	} else {
		fmt.Fprintln(w, "The proof holds: this record is in the regional record whose root was printed.")
	}
	fmt.Fprintf(w, "record      %s\n", r.RID)
	fmt.Fprintf(w, "place       entry %d, ledger time %s\n", r.Seq, r.Time.Format(utc))
	fmt.Fprintf(w, "author      device %s\n", r.Device)
	fmt.Fprintf(w, "kind        %s\n", r.Class)
	fmt.Fprintf(w, "checkpoint  size %d, root %s\n", r.Size, r.Root)
	if r.By == byHubs {
		var names []string
		for _, s := range r.Signers {
			names = append(names, fmt.Sprintf("%q (%s)", s.Name, s.Device[:12]))
		}
		fmt.Fprintf(w, "signed by   %d of %d hubs by %s: %s\n", len(r.Signers), r.Hubs, r.Signed.Format(utc), strings.Join(names, ", "))
	} else if r.Day != "" {
		fmt.Fprintf(w, "printed     as of %s, region %s\n", r.Day, r.Region)
	}
	r.writeSays(w)
}

func (r checkedProof) writeSays(w io.Writer) {
	if r.Says == nil {
		if r.Discloses {
			fmt.Fprintln(w, "The file also holds what the record says, and that is what was signed: --body shows it.")
		}
		return
	}
	fmt.Fprintln(w, "What the record says, as it was signed:")
	if r.Says.Reason != "" {
		fmt.Fprintf(w, "reason      %q\n", r.Says.Reason)
	}
	for _, item := range r.Says.Resources {
		fmt.Fprintf(w, "%s\n", item)
	}
	if len(r.Says.Bytes) > 0 {
		fmt.Fprintf(w, "%x\n", r.Says.Bytes)
	}
}

// kindWords names a class of record. It never tells what one says.
func kindWords(k record.Kind) string {
	words := map[record.Kind]string{
		record.KindEpochOpen: "epoch open", record.KindRegionFound: "region found", record.KindMemberAdd: "member add", record.KindMemberRevoke: "member revoke",
		record.KindSessionOpen: "session open", record.KindKeyWrap: "key wrap", record.KindClinical: "clinical", record.KindRegistration: "registration",
		record.KindDirectory: "directory", record.KindAccess: "access", record.KindStaff: "staff",
		record.KindAttest: "attestation", record.KindEvidence: "evidence", record.KindRecovery: "recovery keys", record.KindReset: "reset",
		record.KindAssign: "assignment", record.KindDictionary: "dictionary", record.KindRules: "rules", record.KindConsent: "consent", record.KindErase: "erasure", record.KindErased: "erasure done", record.KindEscrow: "recovery escrow", record.KindEscrowUse: "use of the recovery escrow", record.KindInviter: "authority to invite", record.KindInvite: "invitation",
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
