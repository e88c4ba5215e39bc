package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/healthpost/healthpost/record"
	"github.com/healthpost/healthpost/seal/policy"
	"github.com/healthpost/healthpost/store"
	"github.com/healthpost/healthpost/web"
)

// An erasure is asked for by somebody whom the rules let, and a second person of this
// box says yes with a PIN; both sign what is erased. It holds from its place in the
// ledger on, on every box that has that place: see eraseLoop.

// eraseReasons are what a page or a command calls them.
var eraseReasons = map[string]record.EraseReason{
	"asked": record.EraseAsked, "mistake": record.EraseMistake, "ordered": record.EraseOrdered, "expired": record.EraseExpired,
}

// Erase has a patient's chart erased everywhere, or with x.Record one record of it.
// The record that says so is durable on return; the line in the access log is before.
func (n *Node) Erase(ctx context.Context, s web.Session, patientID string, x web.Erasure) error {
	in, err := n.allow(ctx, s, policy.Erase, patientID)
	if err != nil {
		return err
	}
	reason, ok := eraseReasons[x.Reason]
	if !ok {
		return fmt.Errorf("erasing: no such reason: %w", web.ErrNotFound)
	}
	c, target, err := n.eraseTarget(patientID, x.Record)
	if err != nil {
		return explain(err)
	}
	second, err := n.secondPerson(ctx, in, web.BreakGlass{Second: x.Second, PIN: x.PIN})
	if err != nil {
		return err
	}
	if err := n.noteAccess(ctx, in, c, actionCode(policy.Erase)); err != nil {
		return explain(err)
	}
	body, err := eraseBody(n.author.Device, target, reason, in.key, second)
	if err != nil {
		return err
	}
	_, err = n.append(ctx, []store.Draft{{Lane: record.LaneControl, Kind: record.KindErase, Session: in.n,
		Seal: func(record.Position) ([]byte, error) { return body, nil }}}, nil)
	return explain(err)
}

// eraseTarget is what a patient and a record, or none, name: bytes of a compartment or
// of a rid.
func (n *Node) eraseTarget(patientID, recordID string) (record.CompartmentID, []byte, error) {
	c, err := record.ParseCompartmentID(patientID)
	region, _ := n.box.RegionID()
	if err != nil || c == directory(region) {
		return c, nil, web.ErrNotFound
	}
	if _, gone := n.store.ErasedCompartment(c); gone {
		return c, nil, n.erasedError(c)
	}
	if recordID == "" {
		recs, err := n.store.Compartment(c)
		if err == nil && len(recs) == 0 {
			err = web.ErrNotFound
		}
		return c, c[:], err
	}
	rid, err := record.ParseRID(recordID)
	if err != nil {
		return c, nil, web.ErrNotFound
	}
	if now, _, err := n.standsFor(rid); err != nil { // charts know a record that was written again by its first id
		return c, nil, err
	} else if now != (record.RID{}) {
		rid = now
	}
	r, ok, err := n.store.ByRID(rid)
	if err == nil && (!ok || r.Core.Compartment != c || !r.Core.Erasable()) {
		err = web.ErrNotFound
	}
	return c, rid[:], err
}

func eraseBody(d record.DeviceID, target []byte, reason record.EraseReason, keys ...ed25519.PrivateKey) ([]byte, error) {
	public := func(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }
	slices.SortFunc(keys, func(a, b ed25519.PrivateKey) int { return bytes.Compare(public(a), public(b)) })
	e := record.Erase{V: 1, Compartment: []byte{}, Record: []byte{}, Reason: reason}
	if len(target) == len(record.RID{}) {
		e.Record = target
	} else {
		e.Compartment = target
	}
	claim := record.EraseClaim(d, reason, target)
	for _, k := range keys {
		e.Staff = append(e.Staff, public(k))
		e.Signatures = append(e.Signatures, ed25519.Sign(k, claim))
	}
	body, err := record.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("writing an erasure: %w", err)
	}
	return body, nil
}

// erasedError says when a chart was erased, nil when it was not.
func (n *Node) erasedError(c record.CompartmentID) error {
	seq, gone := n.store.ErasedCompartment(c)
	if !gone {
		return nil
	}
	e, err := n.store.Entry(seq)
	if err != nil {
		return err
	}
	return &web.ErasedError{At: timeOfSeconds(e.Time)}
}

// EraseRequest asks for an erasure from a command: two people, by id or name, each
// with a PIN.
type EraseRequest struct {
	Patient, Record, Reason string
	By, ByPIN               string
	With, WithPIN           string
}

// EraseBy is Erase for who signs in for this alone.
func (n *Node) EraseBy(ctx context.Context, q EraseRequest) error {
	token, err := n.SignIn(ctx, q.By, q.ByPIN)
	if err != nil {
		return err
	}
	defer n.SignOut(context.WithoutCancel(ctx), token)
	err = n.Erase(ctx, web.Session{Token: token}, q.Patient, web.Erasure{Record: q.Record, Reason: q.Reason, Second: q.With, PIN: q.WithPIN})
	var gone *web.ErasedError
	if errors.As(err, &gone) {
		return fmt.Errorf("erasing: erased already on %s", gone.At.Format("2006-01-02"))
	}
	return err
}

func (n *Node) eraseRoutes(reply func(pattern string, f func(r *http.Request) (any, error))) {
	reply("GET /erasures", func(*http.Request) (any, error) { return n.Erasures() })
	reply("POST /erase", func(r *http.Request) (any, error) {
		var q EraseRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
		return struct{}{}, n.EraseBy(r.Context(), q)
	})
}
