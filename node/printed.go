package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/record/printed"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/web"
)

// RootSheet is the newest final root of the ledger, for paper, voice and SMS.
type RootSheet struct {
	Region     string    `json:"region"`
	RegionName string    `json:"regionName"`
	Generation uint64    `json:"generation"`
	Size       uint64    `json:"size"`
	Root       string    `json:"root"`
	Day        string    `json:"day"`      // of the checkpoint, as a majority of the hubs vouches; YYYY-MM-DD, UTC
	Signed     time.Time `json:"signed"`   // likewise
	SignedBy   []string  `json:"signedBy"` // names of the hubs
	Words      []string  `json:"words"`
	Line       string    `json:"line"` // at most one SMS
}

const secondsPerDay = 24 * 60 * 60

// Root is the newest root that a majority of the hubs signed and this box verified.
func (n *Node) Root() (RootSheet, error) {
	id, ok := n.box.RegionID()
	if !ok {
		return RootSheet{}, ErrNoRegion
	}
	note, head, ok := n.store.Final()
	if !ok {
		return RootSheet{}, errors.New("this box has no checkpoint of its region yet: let it sync first")
	}
	cp, err := n.openFinal(note, head)
	if err != nil {
		return RootSheet{}, err
	}
	_, name, _ := n.store.Region()
	r := printed.Root{Ledger: n.ledgerID(), Head: head, Day: cp.Time / secondsPerDay}
	s := RootSheet{Region: id.String(), RegionName: name, Generation: r.Ledger.Generation, Size: head.Size, Root: hex.EncodeToString(head.Root[:]),
		Day: time.Unix(cp.Time, 0).UTC().Format(time.DateOnly), Signed: time.Unix(cp.Time, 0).UTC(), SignedBy: []string{}, Words: r.Words(), Line: r.Line()}
	for _, d := range cp.Signers {
		s.SignedBy = append(s.SignedBy, n.deviceName(d))
	}
	return s, nil
}

// openFinal reads the newest final note with the hubs of now, or of its size when
// they changed since.
func (n *Node) openFinal(note []byte, head record.TreeHead) (record.Checkpoint, error) {
	cp, err := record.OpenCheckpoint(n.ledgerID(), note, n.hubs())
	if err == nil && cp.Time != 0 && cp.Head == head {
		return cp, nil
	}
	then, err := n.hubsAt(head.Size)
	if err != nil {
		return cp, err
	}
	cp, err = record.VerifyFinal(n.ledgerID(), note, then)
	if err != nil {
		return cp, fmt.Errorf("the hubs of the region changed after the newest checkpoint: wait for the next one: %w", err)
	}
	return cp, nil
}

// RootCheck is what this box's own ledger says of a root that somebody else printed.
type RootCheck struct {
	Same bool   `json:"same"`
	Size uint64 `json:"size"`
	Ours string `json:"root,omitempty"` // of this box at that size
	Day  string `json:"day,omitempty"`
}

// ErrOtherRoot: a root from paper or an SMS is not that of the ledger on this box.
// One of them was shown another ledger than the other.
var ErrOtherRoot = errors.New("this box has another root at that size")

// CheckRoot compares a printed root with the ledger on this box.
func (n *Node) CheckRoot(text string) (RootCheck, error) {
	r, err := printed.Parse(text)
	if err != nil {
		return RootCheck{}, err
	}
	ours := n.ledgerID()
	if of := ours.Region.Ledger(r.Ledger.Generation); !r.Of(of) {
		return RootCheck{}, fmt.Errorf("checking the root: it is of another region than this box's (%s)", ours.Region.String()[:16])
	}
	if have := n.store.Head().Size; r.Head.Size > have {
		return RootCheck{}, fmt.Errorf("checking the root: it is of size %d, the ledger on this box has %d: let the box sync first", r.Head.Size, have)
	}
	root, err := n.store.RootAt(r.Head.Size)
	if errors.Is(err, record.ErrHole) {
		return RootCheck{}, fmt.Errorf("checking the root: this box holds a part of the ledger and cannot tell for size %d: ask a box that holds all of it", r.Head.Size)
	}
	if err != nil {
		return RootCheck{}, err
	}
	return RootCheck{Same: root == r.Head.Root, Size: r.Head.Size, Ours: hex.EncodeToString(root[:]), Day: time.Unix(r.Day*secondsPerDay, 0).UTC().Format(time.DateOnly)}, nil
}

// RootSheet is the root as the page prints it.
func (n *Node) RootSheet(ctx context.Context, s web.Session) (web.RootPage, error) {
	in, err := n.allow(ctx, s, policy.Prove, "")
	if err != nil {
		return web.RootPage{}, err
	}
	r, err := n.Root()
	if err != nil {
		if n.store.Err() == nil {
			err = errors.Join(web.ErrNotConfirmed, err)
		}
		return web.RootPage{}, explain(err)
	}
	if err := n.noteBox(ctx, in, policy.Prove); err != nil {
		return web.RootPage{}, explain(err)
	}
	return web.RootPage{Region: r.RegionName, RegionID: r.Region, Gen: r.Generation, Size: r.Size, Day: r.Day, Signed: r.Signed, Words: r.Words, Line: r.Line}, nil
}

// Proof is the proof of a record as the page prints it. That it was printed is noted
// first, as a look at the chart is.
func (n *Node) Proof(ctx context.Context, s web.Session, rid string) (web.ProofPage, error) {
	in, err := n.allow(ctx, s, policy.Prove, "")
	if err != nil {
		return web.ProofPage{}, err
	}
	id, err := record.ParseRID(rid)
	if err != nil {
		return web.ProofPage{}, web.ErrNotFound
	}
	r, known, err := n.store.ByRID(id)
	switch {
	case err != nil:
		return web.ProofPage{}, explain(err)
	case !known:
		return web.ProofPage{}, web.ErrNotFound
	}
	p, err := n.proof(id, 0)
	if errors.Is(err, errNotCovered) {
		return web.ProofPage{}, errors.Join(web.ErrNotConfirmed, err)
	}
	if err != nil {
		return web.ProofPage{}, explain(err)
	}
	ledger, hubs := n.ledgerID(), n.hubs()
	_, cp, err := p.Verify(ledger, hubs)
	if err != nil {
		return web.ProofPage{}, err
	}
	_, region, _ := n.store.Region()
	page := web.ProofPage{RID: rid, Seq: p.Seq, Size: p.Size, Region: region, RegionID: ledger.Region.String(), Box: n.deviceName(p.Device),
		Signed: time.Unix(cp.Time, 0), Payload: printed.QR(record.EncodeProof(&p))}
	for _, d := range hubs {
		if slices.Contains(cp.Signers, d) {
			page.Hubs = append(page.Hubs, n.deviceName(d))
		}
	}
	row, known, err := n.row(r.Core.Compartment)
	if err != nil || !known {
		return page, explain(err)
	}
	page.PatientID, page.Name = r.Core.Compartment.String(), strings.TrimSpace(row.Given+" "+row.Family)
	if err := n.noteLine(ctx, n.lineOf(in, accessPrint, r.Core.Compartment[:])); err != nil {
		return web.ProofPage{}, explain(err)
	}
	return page, nil
}

func (n *Node) rootRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /root", func(*http.Request) (any, error) { return n.Root() })
	reply("GET /root/check", func(r *http.Request) (any, error) { return n.CheckRoot(r.URL.Query().Get("line")) })
}

// Root and CheckRoot do on the box what the methods of the same name on Node say.
func (c *Client) Root(ctx context.Context) (s RootSheet, err error) {
	return s, c.call(ctx, http.MethodGet, "/root", nil, &s)
}

func (c *Client) CheckRoot(ctx context.Context, line string) (r RootCheck, err error) {
	return r, c.call(ctx, http.MethodGet, "/root/check?"+url.Values{"line": {line}}.Encode(), nil, &r)
}
