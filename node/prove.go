package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// Proved is the proof of one record, as a file, with what it proves.
type Proved struct {
	RID  string `json:"record"`
	Seq  uint64 `json:"seq"`
	Size uint64 `json:"size"` // of the tree that the hubs cosigned
	File []byte `json:"file"` // record.EncodeProof
}

// Prove makes the proof of a record that lies under the newest final checkpoint
// of this box. Any other record is an error that says where it is instead.
func (n *Node) Prove(text string) (Proved, error) {
	rid, err := record.ParseRID(text)
	if err != nil {
		return Proved{}, err
	}
	note, head, ok := n.store.Final()
	loc, known, err := n.store.Locate(rid)
	if err != nil {
		return Proved{}, err
	}
	if !known || loc.Pending || !ok || loc.Seq >= head.Size {
		return Proved{}, n.whyNotProven(rid, known && !loc.Pending)
	}
	e, err := n.store.Entry(loc.Seq)
	if err != nil {
		return Proved{}, err
	}
	device, ok, err := n.store.EpochAuthor(e.Record.Position().Epoch)
	if err != nil || !ok {
		return Proved{}, errors.Join(fmt.Errorf("record %s: its author is not on this box", rid.Short()), err)
	}
	path, err := n.store.InclusionProof(loc.Seq, head.Size)
	if err != nil {
		return Proved{}, err
	}
	p, err := record.NewProof(n.ledgerID(), device, &e, path, note, n.hubs())
	if errors.Is(err, record.ErrNotFinal) {
		return Proved{}, fmt.Errorf("record %s: the hubs of the region changed after its checkpoint: wait for the next one", rid.Short())
	}
	if err != nil {
		return Proved{}, fmt.Errorf("proving record %s: %w", rid.Short(), err)
	}
	return Proved{RID: rid.String(), Seq: p.Seq, Size: p.Size, File: record.EncodeProof(&p)}, nil
}

// whyNotProven says in words where a record is that no final checkpoint covers.
func (n *Node) whyNotProven(rid record.RID, ordered bool) error {
	if ordered {
		return fmt.Errorf("record %s: not in the regional record yet: it has its place, and a majority of the hubs has not signed it so far", rid.Short())
	}
	st, err := n.newStates()
	if err != nil {
		return err
	}
	if out, refused := st.refused[rid]; refused {
		return fmt.Errorf("record %s: refused by the region (%s): there is nothing to prove", rid.Short(), refusalCode(out.Verdict))
	}
	state, ok, err := st.find(rid)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("record %s: not on this box", rid.Short())
	case state.Kind == chart.Confirmed:
		return fmt.Errorf("record %s: confirmed just now: ask again", rid.Short())
	}
	return fmt.Errorf("record %s: not in the regional record yet: it waits on this box for a hub", rid.Short())
}

// proofRoutes are what commands ask about proofs.
func (n *Node) proofRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /region/keys", func(*http.Request) (any, error) { return n.Keys() })
	reply("GET /prove", func(r *http.Request) (any, error) { return n.Prove(r.URL.Query().Get("rid")) })
}

// Keys and Prove do on the box what the methods of the same name on Node say.
func (c *Client) Keys(ctx context.Context) (k RegionKeys, err error) {
	return k, c.call(ctx, http.MethodGet, "/region/keys", nil, &k)
}

func (c *Client) Prove(ctx context.Context, rid string) (p Proved, err error) {
	return p, c.call(ctx, http.MethodGet, "/prove?"+url.Values{"rid": {rid}}.Encode(), nil, &p)
}
