package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/healthpost/healthpost/chart"
	"github.com/healthpost/healthpost/record"
)

// ProveRequest asks for the proof of one record, named or taken from an older
// proof of it.
type ProveRequest struct {
	RID    string `json:"record,omitempty"`
	Extend []byte `json:"extend,omitempty"` // an older proof or disclosure, instead of RID
	At     uint64 `json:"at,omitempty"`     // size of the tree, for who has its root on paper; 0 is the newest that the hubs signed
	Body   bool   `json:"body,omitempty"`   // disclose what the record says
}

// Proved is the proof of one record, as a file, with what it proves.
type Proved struct {
	RID       string `json:"record"`
	Seq       uint64 `json:"seq"`
	Size      uint64 `json:"size"`      // of the tree that the proof leads to
	Cosigned  int    `json:"cosigned"`  // hubs whose cosignatures are in the file; 0 for a proof that needs a printed root
	Disclosed bool   `json:"disclosed"` // the file holds what the record says
	File      []byte `json:"file"`      // record.EncodeProof, or Disclosure.Encode
}

// Prove makes the proof of a record that lies under the newest final checkpoint
// of this box. Any other record is an error that says where it is instead.
func (n *Node) Prove(text string) (Proved, error) {
	rid, err := record.ParseRID(text)
	if err != nil {
		return Proved{}, err
	}
	p, err := n.proof(rid, 0)
	if err != nil {
		return Proved{}, err
	}
	return proved(rid, &p), nil
}

func proved(rid record.RID, p *record.Proof) Proved {
	return Proved{RID: rid.String(), Seq: p.Seq, Size: p.Size, Cosigned: len(p.Cosignatures), File: record.EncodeProof(p)}
}

// ProveAs makes a proof in the form that is asked for. Disclosing what a record
// says is an export: it is on record before the file is given.
func (n *Node) ProveAs(ctx context.Context, q ProveRequest) (Proved, error) {
	old, err := n.readOlder(&q)
	if err != nil {
		return Proved{}, err
	}
	rid, err := record.ParseRID(q.RID)
	if err != nil {
		return Proved{}, err
	}
	p, err := n.proof(rid, q.At)
	if err != nil {
		return Proved{}, err
	}
	if old != nil && (old.Seq != p.Seq || !bytes.Equal(old.Leaf, p.Leaf)) {
		return Proved{}, fmt.Errorf("extending the proof: it speaks of another entry than the one that this box holds of record %s", rid.Short())
	}
	out := proved(rid, &p)
	if !q.Body {
		return out, nil
	}
	if err := n.mayDisclose(rid); err != nil {
		return Proved{}, err
	}
	d, err := n.disclose(out)
	if err != nil {
		return Proved{}, err
	}
	e, err := record.DecodeLeaf(p.Seq, p.Leaf)
	if err != nil {
		return Proved{}, err
	}
	if c := e.Record.Core.Compartment; !c.IsZero() {
		if err := n.noteLine(ctx, accessLine{Action: uint8(accessExport), Compartment: c[:]}); err != nil {
			return Proved{}, err
		}
	}
	out.Disclosed, out.File = true, d.Encode()
	return out, nil
}

// mayDisclose refuses what a patient closed to this box.
func (n *Node) mayDisclose(rid record.RID) error {
	r, ok, err := n.store.ByRID(rid)
	if err != nil || !ok {
		return err
	}
	c := r.Core.Compartment
	s, err := n.standing(c)
	if err == nil && s.closed(n.grantTime()) {
		err = fmt.Errorf("disclosing record %s: the patient closed this chart to this box", rid.Short())
	}
	if err != nil || c.IsZero() {
		return err
	}
	hidden, err := n.hides(c, rid)
	if err == nil && hidden {
		err = fmt.Errorf("disclosing record %s: what it says is not for this box", rid.Short())
	}
	return err
}

// readOlder fills a request from an older proof, which may disclose its record.
func (n *Node) readOlder(q *ProveRequest) (*record.Proof, error) {
	if len(q.Extend) == 0 {
		return nil, nil
	}
	raw := q.Extend
	if IsDisclosure(raw) {
		d, err := DecodeDisclosure(raw)
		if err != nil {
			return nil, err
		}
		raw, q.Body = d.Proof, true
	}
	p, err := record.DecodeProof(raw)
	if err != nil {
		return nil, err
	}
	e, err := record.DecodeLeaf(p.Seq, p.Leaf)
	if err != nil {
		return nil, err
	}
	q.RID = e.Record.RID().String()
	return &p, nil
}

// proof proves a record in the newest final tree, or without cosignatures in the
// tree of a size.
func (n *Node) proof(rid record.RID, at uint64) (record.Proof, error) {
	note, head, ok := n.store.Final()
	loc, known, err := n.store.Locate(rid)
	switch {
	case err != nil:
		return record.Proof{}, err
	case !known || loc.Pending || !ok || loc.Seq >= head.Size:
		return record.Proof{}, n.whyNotProven(rid, known && !loc.Pending)
	case at > head.Size:
		return record.Proof{}, fmt.Errorf("proving record %s at size %d: the newest checkpoint on this box has size %d", rid.Short(), at, head.Size)
	case at != 0 && loc.Seq >= at:
		return record.Proof{}, fmt.Errorf("proving record %s at size %d: it is entry %d, so a root of that size does not cover it; take a later one", rid.Short(), at, loc.Seq)
	}
	size := head.Size
	if at != 0 {
		size = at
	}
	e, err := n.store.Entry(loc.Seq)
	if err != nil {
		return record.Proof{}, err
	}
	device, ok, err := n.store.EpochAuthor(e.Record.Position().Epoch)
	if err != nil || !ok {
		return record.Proof{}, errors.Join(fmt.Errorf("record %s: its author is not on this box", rid.Short()), err)
	}
	path, err := n.store.InclusionProof(loc.Seq, size)
	if err != nil {
		return record.Proof{}, err
	}
	if at != 0 {
		return n.bareProof(device, &e, path, size)
	}
	p, err := record.NewProof(n.ledgerID(), device, &e, path, note, n.hubs())
	if errors.Is(err, record.ErrNotFinal) {
		return p, notCoveredf(rid, "the hubs of the region changed after its checkpoint: wait for the next one")
	}
	if err != nil {
		return p, fmt.Errorf("proving record %s: %w", rid.Short(), err)
	}
	return p, nil
}

// bareProof is a proof for who has the root of that size on paper.
func (n *Node) bareProof(device record.DeviceID, e *record.Entry, path []record.Hash, size uint64) (record.Proof, error) {
	p := record.Proof{Seq: e.Seq, Size: size, Device: device, Leaf: e.EncodeLeaf(), Hashes: path}
	root, err := n.store.RootAt(size)
	if err != nil {
		return p, err
	}
	if _, err := p.VerifyAt(record.TreeHead{Size: size, Root: root}); err != nil {
		return p, fmt.Errorf("proving entry %d: %w", e.Seq, err)
	}
	return p, nil
}

// errNotCovered: no final checkpoint covers the record so far.
var errNotCovered = errors.New("no checkpoint covers it")

// notCovered says in words why.
type notCovered string

func (e notCovered) Error() string        { return string(e) }
func (e notCovered) Is(target error) bool { return target == errNotCovered }

func notCoveredf(rid record.RID, format string, args ...any) error {
	return notCovered("record " + rid.Short() + ": " + fmt.Sprintf(format, args...))
}

// whyNotProven says in words where a record is that no final checkpoint covers.
func (n *Node) whyNotProven(rid record.RID, ordered bool) error {
	if ordered {
		return notCoveredf(rid, "not in the regional record yet: it has its place, and a majority of the hubs has not signed it so far")
	}
	st, err := n.newStates()
	if err != nil {
		return err
	}
	if out, refused := st.refused[rid]; refused {
		return notCoveredf(rid, "refused by the region (%s): there is nothing to prove", refusalCode(out.Verdict))
	}
	state, ok, err := st.find(rid)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("record %s: not on this box", rid.Short())
	case state.Kind == chart.Confirmed:
		return notCoveredf(rid, "confirmed just now: ask again")
	}
	return notCoveredf(rid, "not in the regional record yet: it waits on this box for a hub")
}

// proofRoutes are what commands ask about proofs.
func (n *Node) proofRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /region/keys", func(*http.Request) (any, error) { return n.Keys() })
	n.rootRoutes(reply)
	n.evidenceRoutes(reply)
	reply("POST /prove", func(r *http.Request) (any, error) {
		var q ProveRequest
		if err := readJSON(r, &q); err != nil {
			return nil, err
		}
		return n.ProveAs(r.Context(), q)
	})
}

// readJSON reads the request of a command.
func readJSON(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	return nil
}

// Keys and Prove do on the box what Keys and ProveAs of a Node say.
func (c *Client) Keys(ctx context.Context) (k RegionKeys, err error) {
	return k, c.call(ctx, http.MethodGet, "/region/keys", nil, &k)
}

func (c *Client) Prove(ctx context.Context, q ProveRequest) (p Proved, err error) {
	return p, c.call(ctx, http.MethodPost, "/prove", q, &p)
}
